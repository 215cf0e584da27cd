"""Runs that happened, and those of earlier versions, replay with the workflow of now (see
tests/workflows/test_determinism.py)."""

from collections.abc import Awaitable, Callable

import pytest
from starlette.responses import JSONResponse, Response
from temporalio.client import Client, WorkflowHistory

from tests.directory.runs.conftest import Runs, delay, email, fetch, in_app
from tests.directory.runs.far import MailServer, WebServer
from tests.servers import eventually
from tests.workflows.test_determinism import HISTORIES, record, replayer

Shape = Callable[[Runs, MailServer, WebServer], Awaitable[str]]


async def run_completes(runs: Runs, mails: MailServer, web: WebServer) -> str:
    mails.answers.append("451 later")
    web.answers.append(JSONResponse({"n": 1}))
    never = {"all": [{"variable": "data.n", "operator": "equal_to", "argument": "2"}]}
    await runs.define(
        delay(delay_for={"unit": "seconds", "value": 1}),
        fetch(f"{web.url}/x"),
        in_app(conditions=never),
        email(),
    )
    [run_id] = await runs.trigger()
    return run_id


async def run_halts(runs: Runs, mails: MailServer, web: WebServer) -> str:
    web.answers.append(Response(status_code=404))
    await runs.define(fetch(f"{web.url}/x"), email())
    [run_id] = await runs.trigger()
    return run_id


async def run_is_cancelled(runs: Runs, mails: MailServer, web: WebServer) -> str:
    await runs.define(delay(), email())
    [run_id] = await runs.trigger(cancellation_key="k")
    await runs.in_status(run_id, "paused")
    await runs.knock.workflows.cancel("welcome", cancellation_key="k")
    return run_id


SHAPES: list[Shape] = [run_completes, run_halts, run_is_cancelled]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_runs_replay(
    shape: Shape,
    runs: Runs,
    mails: MailServer,
    web: WebServer,
    temporal: Client,
    request: pytest.FixtureRequest,
) -> None:
    """A run that just happened replays, in the sandbox; recorded when asked to."""
    run = await runs.ended(await shape(runs, mails, web))
    handle = temporal.get_workflow_handle(f"run/{runs.environment}/{run['id']}")

    async def closed() -> bool:
        return (await handle.describe()).close_time is not None

    await eventually(closed)
    history = await handle.fetch_history()
    if request.config.getoption("--record-histories"):
        record(shape.__name__, history)
    await replayer().replay_workflow(history)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_recorded_runs_replay(shape: Shape) -> None:
    """Runs of earlier versions replay with the code of now."""
    recorded = (HISTORIES / f"{shape.__name__}.json").read_text()
    await replayer().replay_workflow(WorkflowHistory.from_json(shape.__name__, recorded))
