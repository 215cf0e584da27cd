"""An event whose destination is down: when it is tried again is shown; people try it now, or give up."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from app.worker.main import workflow_runner
from app.workflows.process_event import ProcessEvent
from tests.bench import Bench, BenchSource, closed_history
from tests.knock import KnockServer, error
from tests.servers import eventually

pytestmark = pytest.mark.usefixtures("worker")

# Longer than any test waits.
HOUR = "3600"
IDENTIFY_AND_TRIGGER: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "invoice.paid": [
        ("users_identify", {"id": "body.data.object.customer"}),
        ("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"}),
    ]
}


async def ask(source: BenchSource, identifier: str, what: str) -> httpx.Response:
    return await source.bench.api.post(f"/v1/sources/{source.key}/logs/{identifier}/{what}", json={})


async def waits(source: BenchSource, identifier: str, attempts: int) -> dict[str, Any]:
    """The action as the API shows it, once it waits after so many attempts."""

    async def look() -> dict[str, Any] | None:
        answer = await source.bench.api.get(f"/v1/sources/{source.key}/logs/{identifier}")
        (first, *_) = answer.json()["actions"] or [None]
        return first if first and first["attempts"] == attempts and first["next_attempt_at"] else None

    found = await eventually(look)
    assert found is not None
    return found


async def audited(bench: Bench, identifier: str) -> list[str]:
    rows = await bench.rows("SELECT action FROM audit_log WHERE resource_key = :id", id=identifier)
    return [each["action"] for each in rows]


@pytest.mark.parametrize("attempts", [1, 2], ids=["before the second attempt", "after it"])
async def test_tried_now(bench: Bench, knock: KnockServer, temporal: Client, attempts: int) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=IDENTIFY_AND_TRIGGER)
    if attempts == 2:
        knock.answers.append(error(503, "unavailable", "down"))
    knock.answers.append(error(503, "unavailable", "down", retry_after=HOUR))
    identifier = await source.send("invoice.paid")
    shown = await waits(source, identifier, attempts)
    left = datetime.fromisoformat(shown["next_attempt_at"]) - datetime.now(UTC)
    assert 3000 < left.total_seconds() <= 3600
    assert shown["action_status"] == "pending"

    async def taken() -> bool:
        return (await ask(source, identifier, "try_now")).status_code == 202

    # Between an attempt's record and the wait after it, the attempt is still under way.
    await eventually(taken)
    event = await bench.final(identifier)
    assert event["status"] == "succeeded", event["error"]
    actions = await bench.actions(identifier)
    assert [each["next_attempt_at"] for each in actions] == [None, None]
    assert len({each.idempotency_key for each in knock.calls[: attempts + 1]}) == 1
    assert "event.tried_now" in await audited(bench, identifier)
    refused = await ask(source, identifier, "try_now")
    assert refused.status_code == 409
    assert "succeeded" in refused.json()["message"]
    await replays(await closed_history(temporal, event))


@pytest.mark.parametrize("attempts", [1, 2], ids=["before the second attempt", "after it"])
async def test_given_up(bench: Bench, knock: KnockServer, temporal: Client, attempts: int) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=IDENTIFY_AND_TRIGGER)
    if attempts == 2:
        knock.answers.append(error(503, "unavailable", "down"))
    knock.answers.append(error(503, "unavailable", "down", retry_after=HOUR))
    identifier = await source.send("invoice.paid")
    await waits(source, identifier, attempts)
    assert (await ask(source, identifier, "give_up")).status_code == 202
    event = await bench.final(identifier)
    assert event["status"] == "failed"
    assert " gave up after " in event["error"]
    actions = await bench.actions(identifier)
    assert [each["status"] for each in actions] == ["failed", "failed"]
    assert all(" gave up after " in each["error"] for each in actions)
    assert len(knock.calls) == attempts
    assert await audited(bench, identifier) == ["event.gave_up"]
    await replays(await closed_history(temporal, event))


async def test_an_event_that_waits_for_another_one_is_not_asked(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe")
    knock.answers.append(error(503, "unavailable", "down", retry_after=HOUR))
    first = await source.send("invoice.paid", id="evt_same")
    await waits(source, first, 1)
    second = await source.send("invoice.paid", id="evt_same")

    async def refused() -> str | None:
        answer = await ask(source, second, "give_up")
        assert answer.status_code == 409
        message: str = answer.json()["message"]
        return message if first in message else None

    await eventually(refused)
    assert (await ask(source, first, "give_up")).status_code == 202
    assert (await bench.final(first))["status"] == "failed"
    assert (await bench.final(second))["status"] == "succeeded"


async def replays(history: Any) -> None:
    """The history of a run that was asked for something gives the same commands again."""
    replayer = Replayer(
        workflows=[ProcessEvent],
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(sandbox=True),
    )
    await replayer.replay_workflow(history)
