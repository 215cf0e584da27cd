"""What guards determinism: the import boundary of workflows, their list of commands, and recorded histories.

Worker processes run workflows without Temporal's sandbox, so these tests stand in for it.
"""

import ast
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from app.worker.main import workflow_runner
from app.workflows.fan_out import FanOut
from app.workflows.process_event import ProcessEvent
from app.workflows.recipient_run import RecipientRunWorkflow
from tests.bench import Bench, closed_history
from tests.knock import KnockServer, error

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "app" / "workflows").glob("*.py"))
HISTORIES = Path(__file__).parent / "histories"
FINGERPRINTS = HISTORIES / "fingerprints.json"

ALLOWED_IMPORTS = {
    "asyncio",
    "collections.abc",
    "datetime",
    "typing",
    "uuid",
    "temporalio",
    "temporalio.common",
    "temporalio.exceptions",
    "app.models.contracts",
    "app.models.status",
    "app.workflows",
}
COMMANDS = {
    "execute_activity",
    "execute_local_activity",
    "execute_child_workflow",
    "sleep",
    "start_activity",
    "wait_condition",
}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_import_only_what_is_deterministic(path: Path) -> None:
    # A workflow file among them stands under the same rule.
    outside = {each for each in imports_of(path) if not each.startswith("app.workflows.")}
    assert outside <= ALLOWED_IMPORTS, (
        "files under app/workflows see contracts, policies and Temporal only; move the rest into an activity"
    )


@pytest.mark.parametrize("package", ["app", "app/workflows", "app/models"])
def test_packages_around_workflows_are_empty(package: str) -> None:
    assert not (ROOT / package / "__init__.py").read_text().strip(), (
        "whatever this file imports is imported inside the sandbox, for every workflow"
    )


def commands_of(path: Path) -> list[str]:
    """The calls that make commands in a workflow's history, in the order of the source, with what they
    name."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    ]
    named = []
    for node in sorted(calls, key=lambda each: (each.lineno, each.col_offset)):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id  # type: ignore[attr-defined]
        if name in COMMANDS or name in ("_step", "_run_action", "_deliver"):
            first = node.args[0] if node.args else None
            named.append(f"{name}({ast.unparse(first) if first is not None else ''})")
    return named


def test_commands_are_those_of_running_workflows(request: pytest.FixtureRequest) -> None:
    found = {path.stem: commands for path in WORKFLOWS if (commands := commands_of(path))}
    if request.config.getoption("--record-histories"):
        FINGERPRINTS.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(FINGERPRINTS.read_text()), (
        "The commands of a workflow changed. Runs that started before your change replay its new code: guard "
        "the change with workflow.patched(...) if such runs may exist, then record again with "
        "`.venv/bin/pytest tests/workflows/test_determinism.py --record-histories` and commit the result."
    )


async def succeeds(bench: Bench, knock: KnockServer) -> str:
    mappings = {
        "invoice.paid": [
            ("users_identify", {"id": "body.data.object.customer"}),
            ("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"}),
        ]
    }
    return await (await bench.source("stripe", mappings=mappings)).send("invoice.paid")


async def fails(bench: Bench, knock: KnockServer) -> str:
    knock.answers.append(error(422, "invalid_params", "no"))
    return await (await bench.source("stripe")).send("invoice.paid")


async def is_ignored(bench: Bench, knock: KnockServer) -> str:
    return await (await bench.source("stripe")).send("invoice.paid", type="charge.refunded")


async def is_retried(bench: Bench, knock: KnockServer) -> str:
    knock.answers.extend(error(503, "unavailable", "down") for _ in range(2))
    return await (await bench.source("stripe")).send("invoice.paid")


async def has_duplicates(bench: Bench, knock: KnockServer) -> str:
    knock.delay = 0.3
    source = await bench.source("stripe")
    first = await source.send("invoice.paid", id="evt_same")
    for _ in range(2):
        await source.send("invoice.paid", id="evt_same")
    return first


SHAPES: list[Callable[[Bench, KnockServer], Awaitable[str]]] = [
    succeeds,
    fails,
    is_ignored,
    is_retried,
    has_duplicates,
]


def record(name: str, history: WorkflowHistory) -> None:
    """Keep a history for later versions, without the paths of this machine that stack traces hold."""
    text = re.sub(r'File \\"[^"]*/((?:app|tests|temporalio|asyncio)/)', r'File \\"\1', history.to_json())
    (HISTORIES / f"{name}.json").write_text(text)


def replayer() -> Replayer:
    runner = workflow_runner(sandbox=True)
    assert isinstance(runner, SandboxedWorkflowRunner)
    return Replayer(
        workflows=[ProcessEvent, RecipientRunWorkflow, FanOut],
        data_converter=pydantic_data_converter,
        workflow_runner=runner,
    )


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_runs_replay(
    shape: Callable[[Bench, KnockServer], Awaitable[str]],
    bench: Bench,
    knock: KnockServer,
    temporal: Client,
    request: pytest.FixtureRequest,
) -> None:
    """A run that just happened replays, in the sandbox; recorded when asked to."""
    await bench.use_destination(knock.url)
    event = await bench.final(await shape(bench, knock))
    history = await closed_history(temporal, event)
    if request.config.getoption("--record-histories"):
        record(shape.__name__, history)
    await replayer().replay_workflow(history)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_recorded_runs_replay(shape: Callable[[Bench, KnockServer], Awaitable[str]]) -> None:
    """Runs of earlier versions replay with the code of now."""
    recorded = (HISTORIES / f"{shape.__name__}.json").read_text()
    await replayer().replay_workflow(WorkflowHistory.from_json(shape.__name__, recorded))


async def test_replay_notices_a_changed_command() -> None:
    """The guard itself: a workflow that does something else does not replay."""
    from tests.workflows.changed_workflow import ProcessEvent as Changed

    recorded = WorkflowHistory.from_json("changed", (HISTORIES / "succeeds.json").read_text())
    changed = Replayer(
        workflows=[Changed],
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(sandbox=False),
    )
    result = await changed.replay_workflow(recorded, raise_on_replay_failure=False)
    assert result.replay_failure is not None
