"""Replays of many events: counted before, each original once, whatever happens to the worker, no faster than
asked."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from app.activities.maintenance import MaintenanceActivities
from app.database.partitions import create_partitions
from app.models.contracts import ReplayRef
from app.models.types import now
from app.runtime.resources import Runtime
from app.runtime.temporal import task_queue
from app.stack.processes import spawn
from app.worker.main import run_workers, workflow_runner
from app.worker.replays import ReplayDispatcher
from app.workflows.replay_events import CATCHING_UP, ReplayEvents
from tests.bench import Bench, BenchSource
from tests.knock import KnockServer, error
from tests.servers import eventually

ROOT = Path(__file__).parents[2]
MAPPINGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "invoice.paid": [
        ("users_identify", {"id": "body.data.object.customer"}),
        ("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"}),
    ]
}


@pytest.fixture
async def source(bench: Bench, knock: KnockServer) -> BenchSource:
    await bench.use_destination(knock.url)
    return await bench.source("stripe", mappings=MAPPINGS)


async def past_events(source: BenchSource, number: int, status: str = "failed") -> list[str]:
    """Events that were received, and that came to their end before anyone looks."""
    events = [await source.send("invoice.paid") for _ in range(number)]
    async with source.bench.runtime.engine.begin() as connection:
        await connection.execute(
            text("UPDATE events SET status = :status, finished_at = now() WHERE id = ANY(:ids)"),
            {"status": status, "ids": [UUID(each) for each in events]},
        )
    return events


async def settled(source: BenchSource, replay: dict[str, Any], number: int) -> dict[str, int]:
    """What became of the events of a replay, once all of them have their end."""

    async def look() -> dict[str, int] | None:
        rows = await source.bench.rows(
            "SELECT status, count(*) AS number FROM events WHERE replay_id = :id "
            "AND status NOT IN ('received', 'processing') GROUP BY status",
            id=UUID(replay["id"]),
        )
        found = {row["status"]: row["number"] for row in rows}
        return found if sum(found.values()) == number else None

    return await eventually(look) or {}


async def switch_off(bench: Bench, action_type: str) -> None:
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(
            text("UPDATE mappings SET active = false WHERE action_type = :name"), {"name": action_type}
        )
    await bench.runtime.configuration.refresh()


async def ask(source: BenchSource, **replay: Any) -> tuple[int, dict[str, Any]]:
    answer = await source.bench.api.post(
        f"/v1/sources/{source.key}/replays",
        params={"environment": source.bench.environment},
        json={"replay": replay},
    )
    return answer.status_code, answer.json()


async def shown(source: BenchSource, replay: dict[str, Any]) -> dict[str, Any]:
    answer = await source.bench.api.get(f"/v1/sources/{source.key}/replays/{replay['id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["replay"]
    return found


async def over(source: BenchSource, replay: dict[str, Any], deadline: float = 60) -> dict[str, Any]:
    """The replay once it is over and so are the events that it made."""

    async def look() -> dict[str, Any] | None:
        found = await shown(source, replay)
        going_on = found["outcomes"].keys() & {"received", "processing"}
        return found if found["status"] not in ("queued", "running") and not going_on else None

    found = await eventually(look, deadline)
    assert found is not None
    return found


async def copies(source: BenchSource, replay: dict[str, Any]) -> list[str]:
    """The originals of the events that a replay made, one for each."""
    rows = await source.bench.rows(
        "SELECT replay_of FROM events WHERE replay_id = :id AND origin = 'replay' ORDER BY id",
        id=UUID(replay["id"]),
    )
    return [str(row["replay_of"]) for row in rows]


async def test_a_dry_run_counts_what_is_replayed(
    source: BenchSource, runtime: Runtime, temporal: Client, knock: KnockServer
) -> None:
    failed = await past_events(source, 4)
    await past_events(source, 2, "succeeded")
    await past_events(source, 1, "idempotent")
    # Of another customer: those of one wait for each other.
    waiting = await source.send("invoice.paid", data={"object": {"customer": "cus_2"}})
    async with runtime.engine.begin() as connection:
        await connection.execute(text("DELETE FROM event_payloads WHERE id = :id"), {"id": UUID(failed[1])})
        await connection.execute(
            text("UPDATE events SET status = 'processing' WHERE id = :id"), {"id": UUID(waiting)}
        )

    status, dry = await ask(source, filter={"status": "failed", "event": "invoice.paid"}, dry_run=True)
    older = {"events": 0, "looked_at": 4}
    assert (status, dry) == (200, {"total": 4, "sample": failed, "older": older, "replay": None})
    assert (await ask(source, dry_run=True))[1]["total"] == 6, "neither repeats nor what is not over"
    assert (await ask(source, filter={"status": "failed", "action_status": "failed"}, dry_run=True))[1][
        "total"
    ] == 0
    assert not await source.bench.rows("SELECT FROM replays")

    status, started = await ask(source, filter={"status": "failed", "event": "invoice.paid"})
    replay = started["replay"]
    assert (status, replay["status"], replay["total"]) == (201, "queued", 4), "no worker is needed to ask"
    assert (await ask(source))[0] == 409, "one at a time"
    async with run_workers(runtime, temporal, [source.bench.environment]):
        found = await over(source, replay)
        assert {name: found[name] for name in ("status", "replayed", "failed", "payloads_missing")} == {
            "status": "completed",
            "replayed": 3,
            "failed": 0,
            "payloads_missing": 1,
        }
        assert found["failures"] == [
            {"log_id": failed[1], "message": "The payload of this event is no longer stored"}
        ]
        assert found["outcomes"] == {"succeeded": 3}
        assert await copies(source, replay) == [failed[0], *failed[2:]]

        log = await source.bench.api.get(
            f"/v1/sources/{source.key}/logs",
            params={"environment": source.bench.environment, "replay_id": replay["id"]},
        )
        assert {(each["source"], each["replay_id"]) for each in log.json()["entries"]} == {
            ("replay", replay["id"])
        }
        assert (await ask(source, dry_run=True))[1]["total"] == 6, "its own events do not match"
        again = {"include_replays": True, "status": "succeeded"}
        assert (await ask(source, filter=again, dry_run=True))[1]["total"] == 5

    audit = await source.bench.api.get("/v1/audit_log", params={"resource_key": source.key})
    [entry] = audit.json()["entries"]
    assert (entry["action"], entry["actor"]["name"]) == ("replay.started", "bootstrap")
    assert (entry["after"]["id"], entry["after"]["total"]) == (replay["id"], 4)
    listed = await source.bench.api.get(
        f"/v1/sources/{source.key}/replays", params={"environment": source.bench.environment}
    )
    assert [each["id"] for each in listed.json()["entries"]] == [replay["id"]]


async def test_a_replay_counts_what_retention_deleted_meanwhile(
    source: BenchSource, runtime: Runtime, temporal: Client
) -> None:
    day = now().date() - timedelta(days=40)
    async with runtime.engine.connect() as connection:
        await connection.run_sync(create_partitions, day)
    kept = await past_events(source, 2)
    noon = datetime.combine(day, time(12), tzinfo=UTC)
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO events (id, environment, source_key, event_type, status, verification_status, "
                "received_at, finished_at) SELECT uuidv7(:noon - now()), environment, source_key, "
                "event_type, status, verification_status, received_at, finished_at FROM events, "
                "generate_series(1, 3) WHERE id = :id"
            ),
            {"noon": noon, "id": UUID(kept[0])},
        )
    _, started = await ask(source, filter={"status": "failed"})
    replay = started["replay"]
    assert (replay["total"], replay["events_missing"]) == (5, 0)
    await MaintenanceActivities(runtime.engine, runtime.settings).maintain_partitions()

    async with run_workers(runtime, temporal, [source.bench.environment]):
        found = await over(source, replay)
    assert (found["status"], found["replayed"], found["events_missing"]) == ("completed", 2, 3)
    assert await copies(source, replay) == kept


@pytest.mark.usefixtures("worker")
async def test_original_sends_what_failed_then_and_current_maps_as_now(
    source: BenchSource, knock: KnockServer, bench: Bench
) -> None:
    knock.answers.extend([error(422, "invalid_params", "no such thing"), error(422, "invalid_params", "no")])
    event = await bench.final(await source.send("invoice.paid"))
    [cause] = {each["error"] for each in await bench.actions(event["id"]) if "such" in each["error"]}
    assert cause == "422 invalid_params: no such thing", "the destination's own text"
    assert "no such thing" in event["error"]
    rehearsed = {"payload": {"type": "invoice.paid", "id": "evt_by_hand", "data": {"object": {}}}}
    await bench.api.post(
        f"/v1/sources/{source.key}/rehearse", params={"environment": bench.environment}, json=rehearsed
    )

    keys = [call.idempotency_key for call in knock.calls]
    _, then = await ask(source, filter={"status": "failed"}, mappings="original")
    assert (await over(source, then["replay"]))["outcomes"] == {"succeeded": 1}, "no rehearsals"
    assert [call.idempotency_key for call in knock.calls[2:]] == keys

    knock.answers.extend([error(422, "invalid_params", "no"), error(422, "invalid_params", "no")])
    assert (await bench.final(await source.send("invoice.paid")))["status"] == "failed"
    await switch_off(bench, "users_identify")
    _, current = await ask(source, filter={"status": "failed"}, mappings="current")
    outcomes = (await over(source, current["replay"]))["outcomes"]
    assert outcomes == {"idempotent": 1, "succeeded": 1}, "the first one has succeeded by now"
    assert [call.path for call in knock.calls[6:]] == ["/v1/workflows/paid/trigger"]
    [before] = [call.idempotency_key for call in knock.calls[4:6] if call.path.endswith("/trigger")]
    assert knock.calls[6].idempotency_key == before, "the destination can tell that it is the same"

    none = await bench.final(await source.send("invoice.paid", type="charge.refunded"))
    _, empty = await ask(source, filter={"status": "ignored"}, mappings="original")
    found = await over(source, empty["replay"])
    assert (found["failed"], found["replayed"], found["total"]) == (1, 0, 1)
    assert found["failures"] == [
        {
            "log_id": str(none["id"]),
            "message": "has no actions to send again; replay it with the mappings of now",
        }
    ]


async def test_it_waits_between_chunks_continues_as_new_and_replays(
    source: BenchSource, runtime: Runtime, temporal: Client
) -> None:
    """The rate is kept by timers of Temporal, which are in the history."""
    events = await past_events(source, 11)
    _, started = await ask(source, rate_limit_per_second=5)
    replay, environment = started["replay"], source.bench.environment
    handle = await temporal.start_workflow(
        ReplayEvents.run,
        ReplayRef(replay_id=UUID(replay["id"]), environment=environment, chunks=2),
        id=ReplayDispatcher.workflow_id(environment, UUID(replay["id"])),
        task_queue=task_queue(environment),
    )
    async with run_workers(runtime, temporal, [environment]):
        assert (await over(source, replay))["replayed"] == 11
        await handle.result()
    assert await copies(source, replay) == events

    first = await temporal.get_workflow_handle(
        handle.id, run_id=handle.first_execution_run_id
    ).fetch_history()
    assert first.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
    timers = [each for each in first.events if each.event_type == EventType.EVENT_TYPE_TIMER_STARTED]
    chunks = [
        each for each in first.events if each.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    assert len(chunks) == 2
    at = {each.event_id: each.event_time.ToDatetime() for each in first.events}
    ends = [
        at[timer.timer_started_event_attributes.workflow_task_completed_event_id - 1]
        + timer.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
        for timer in timers
    ]
    assert [end.timestamp() for end in ends] == pytest.approx(due_ends(first), abs=1e-3)
    replayer = Replayer(
        workflows=[ReplayEvents],
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(sandbox=True),
    )
    await replayer.replay_workflow(first)
    await replayer.replay_workflow(await temporal.get_workflow_handle(handle.id).fetch_history())


def due_ends(history: WorkflowHistory) -> list[float]:
    """When the timers end, as the rate wants it: whole seconds after the beginning, and not a second after
    each chunk began. Timers come late, and the rate would be missed by as much. On a busy machine a chunk may
    take longer."""
    tasks = [each for each in history.events if each.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED]
    chunks = [
        each for each in history.events if each.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
    ]
    due, found = tasks[0].event_time.ToDatetime(), []
    for chunk in chunks:
        now = next(each for each in tasks if each.event_id > chunk.event_id).event_time.ToDatetime()
        due = max(due, now - CATCHING_UP) + timedelta(seconds=1)
        if due > now:
            found.append(due.timestamp())
    return found


@pytest.mark.usefixtures("worker")
async def test_failed_events_of_one_key_are_executed_once(
    source: BenchSource, knock: KnockServer, bench: Bench
) -> None:
    """Every try of a key is the same call, whoever asks for it, and its success is the one of the key."""
    tries = {f"evt_{number}": 2 + number for number in range(3)}
    knock.answers.extend([error(422, "invalid_params", "no")] * (2 * sum(tries.values())))
    for key, number in tries.items():
        for _ in range(number):
            assert (await bench.final(await source.send("invoice.paid", id=key)))["status"] == "failed"
    keys_before = {call.idempotency_key for call in knock.calls}
    assert len(keys_before) == 2 * len(tries)
    tried = len(knock.calls)

    _, started = await ask(source, filter={"status": "failed"})
    outcomes = await settled(source, started["replay"], sum(tries.values()))
    assert outcomes == {"succeeded": len(tries), "idempotent": sum(tries.values()) - len(tries)}
    keys = [call.idempotency_key for call in knock.calls[tried:]]
    assert sorted(keys) == sorted(keys_before), "one call for each action of each key"

    _, again = await ask(source, filter={"status": "failed"})
    assert await settled(source, again["replay"], sum(tries.values())) == {"idempotent": sum(tries.values())}
    for key in tries:
        repeat = await bench.final(await source.send("invoice.paid", id=key))
        assert repeat["status"] == "idempotent", "the success holds the key for the sender, too"
    assert len(knock.calls) == tried + len(keys)


@pytest.mark.usefixtures("worker")
async def test_a_forced_replay_has_keys_of_its_own_and_leaves_the_window_alone(
    source: BenchSource, knock: KnockServer, bench: Bench
) -> None:
    original = await bench.final(await source.send("invoice.paid", id="evt_done"))
    before = {call.idempotency_key for call in knock.calls}
    for _ in range(2):
        answer = await bench.api.post(
            f"/v1/sources/{source.key}/logs/{original['id']}/replay",
            params={"environment": bench.environment},
        )
        assert answer.status_code < 300, answer.text
    forced = [row["id"] for row in await bench.rows("SELECT id FROM events WHERE origin = 'replay'")]
    assert {(await bench.final(each))["status"] for each in forced} == {"succeeded"}
    after = [call.idempotency_key for call in knock.calls[2:]]
    assert len({*after}) == 4
    assert not before & {*after}
    repeat = await bench.final(await source.send("invoice.paid", id="evt_done"))
    assert (repeat["status"], repeat["duplicate_of"]) == ("idempotent", original["id"])


@pytest.mark.usefixtures("worker")
async def test_a_cancelled_replay_makes_no_further_events(
    source: BenchSource, bench: Bench, temporal: Client
) -> None:
    events = await past_events(source, 40)
    _, started = await ask(source, rate_limit_per_second=1)
    replay = started["replay"]
    await eventually(lambda: bench.rows("SELECT FROM events WHERE replay_id IS NOT NULL"))
    path = f"/v1/sources/{source.key}/replays/{replay['id']}/cancel"
    cancelled = await bench.api.post(path)
    assert cancelled.status_code == 200, cancelled.text
    assert cancelled.json()["replay"]["status"] == "cancelled"
    assert (await bench.api.post(path)).status_code == 409
    handle = temporal.get_workflow_handle(ReplayDispatcher.workflow_id(bench.environment, UUID(replay["id"])))
    await handle.result()
    found = await over(source, replay)
    assert found["finished_at"] is not None
    assert await copies(source, replay) == events[: found["replayed"]]
    assert found["replayed"] < 40
    audit = await bench.api.get("/v1/audit_log", params={"resource_key": source.key})
    assert [each["action"] for each in audit.json()["entries"]] == ["replay.cancelled", "replay.started"]


@pytest.fixture
async def start_worker(
    runtime: Runtime, environment: str, tmp_path: Path
) -> AsyncIterator[Callable[[], Any]]:
    """Starts workers as processes of their own."""
    settings = runtime.settings
    assert settings.secret_key is not None
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")},
        "DOORBELL_DATABASE_URL": str(settings.database_url),
        "DOORBELL_TEMPORAL_ADDRESS": str(settings.temporal_address),
        "DOORBELL_SECRET_KEY": settings.secret_key.get_secret_value(),
    }
    started = []

    def start() -> Any:
        with (tmp_path / "worker.log").open("ab") as log:
            process = spawn(
                [sys.executable, "worker.py", "--environment", environment],
                output=log,
                environment=variables,
                directory=ROOT,
                death_signal=signal.SIGKILL,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


async def test_a_worker_killed_in_the_middle_replays_nothing_twice(
    source: BenchSource, bench: Bench, start_worker: Callable[[], Any]
) -> None:
    events = await past_events(source, 50)
    _, started = await ask(source, rate_limit_per_second=10)
    replay = started["replay"]
    first = start_worker()
    await eventually(lambda: bench.rows("SELECT FROM events WHERE replay_id IS NOT NULL LIMIT 1"))
    first.kill()
    first.wait()
    done = (await shown(source, replay))["replayed"]
    assert 0 < done < 50, "it was in the middle"
    start_worker()

    async def completed() -> bool:
        return (await shown(source, replay))["status"] == "completed"

    await eventually(completed)
    assert (await shown(source, replay))["replayed"] == 50
    assert await copies(source, replay) == events
