"""Knock's rules of idempotency, one by one, and the moments at which they are hardest to keep."""

import asyncio
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from temporalio.client import Client, WorkflowExecutionStatus

from app.core.background import background
from app.events.claims import Leases
from app.events.event_log import EventLog, Finished
from app.events.reception import ReceivedEvent, receive_event
from app.models.status import EventStatus
from app.models.types import derived_id, new_id, now
from app.providers.registry import providers
from app.runtime.resources import Runtime
from app.runtime.temporal import connect
from app.sources.live import Endpoint
from app.worker.events import Dispatcher
from app.worker.main import run_workers
from tests.bench import Api, Bench, BenchSource, runs_of
from tests.conftest import serve_api
from tests.knock import KnockServer, error
from tests.servers import eventually

TRIGGER = {
    "invoice.paid": [("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"})]
}


def endpoint(**changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "source_key": "shop",
        "environment": "development",
        "provider": providers()["custom_http"],
        "event_type_path": "body.type",
        "idempotency_key_path": "body.id",
        "timestamp_path": None,
        "enforce_verification": False,
        "enforce_idempotency": True,
        "idempotency_window": timedelta(hours=24),
        "start_unmapped": True,
    }
    return Endpoint(**{**values, **changes})


async def key_of(
    runtime: Runtime, body: dict[str, Any], headers: dict[str, str] | None = None, **changes: Any
) -> str | None:
    received = await receive_event(
        endpoint(**changes), orjson.dumps(body), headers or {}, runtime.box, runtime.scripts
    )
    assert isinstance(received, ReceivedEvent)
    assert received.status is EventStatus.RECEIVED
    return received.idempotency_key


@pytest.mark.parametrize("key", ["a", "k" * 255, "é" * 255, " ", "0", "null", "a/b\n"])
async def test_valid_keys(runtime: Runtime, key: str) -> None:
    assert await key_of(runtime, {"type": "t", "id": key}) == key


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x00b", 7.5, True, None, ["a"], {"id": "a"}])
async def test_invalid_keys_are_dropped_and_the_event_is_kept(runtime: Runtime, key: object) -> None:
    assert await key_of(runtime, {"type": "t", "id": key}) is None


async def test_a_whole_number_is_a_key(runtime: Runtime) -> None:
    assert await key_of(runtime, {"type": "t", "id": 7}) == "7"


async def test_where_the_key_comes_from(runtime: Runtime) -> None:
    body = {"type": "t", "id": "of the body", "deep": {"keys": ["first", "second"]}}
    headers = {"x-request-id": "of a header"}
    assert await key_of(runtime, body, headers) == "of the body"
    assert await key_of(runtime, body, headers, idempotency_key_path="headers.x-request-id") == "of a header"
    assert await key_of(runtime, body, headers, idempotency_key_path="deep.keys.1") == "second"
    assert await key_of(runtime, body, headers, idempotency_key_path="body.nothing") is None
    assert await key_of(runtime, body, headers, idempotency_key_path=None) is None


def test_providers_come_configured_and_custom_sources_do_not() -> None:
    assert providers()["stripe"].idempotency_key_path == "body.id"
    assert providers()["clerk"].idempotency_key_path == "headers.svix-id"
    assert providers()["custom_http"].idempotency_key_path is None


@pytest.fixture
async def source(bench: Bench, knock: KnockServer) -> BenchSource:
    """A Stripe source with one trigger, against the stand-in for Knock. Unsigned copies are taken."""
    await bench.use_destination(knock.url)
    return await bench.source("stripe", mappings=TRIGGER, enforce_verification=False)


@pytest.mark.usefixtures("worker")
async def test_a_forged_event_does_not_take_the_key_of_a_real_one(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=TRIGGER)
    body = source.example("invoice.paid")
    forged = await source.post(body, {"stripe-signature": "t=1,v1=00"})
    assert forged.status_code == 401
    event = await bench.final((await source.post(body)).json()["id"])
    assert event["status"] == "succeeded", event
    assert event["idempotency_key"] == orjson.loads(body)["id"]


async def statuses(source: BenchSource) -> list[str]:
    rows = await source.bench.rows("SELECT status FROM events WHERE source_key = :key", key=source.key)
    return sorted(row["status"] for row in rows)


async def change(runtime: Runtime, statement: str, **parameters: object) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(text(statement), parameters)


async def arrive(
    source: BenchSource, original: dict[str, Any], received_at: datetime, **columns: str
) -> UUID:
    """A duplicate of an event with a time of receipt that the test says: the clock of the window."""
    identifier = new_id()
    await change(
        source.bench.runtime,
        "WITH copied AS (INSERT INTO events (id, environment, source_key, event_type, idempotency_key, "
        "status, verification_status, received_at) VALUES (:id, :environment, :key, :type, :idempotency_key, "
        "'received', 'not_enforced:unverified', :received_at)), "
        "payload AS (INSERT INTO event_payloads (id, body, headers) SELECT :id, body, headers FROM "
        "event_payloads WHERE id = :original) SELECT pg_notify('doorbell_events', :environment)",
        id=identifier,
        environment=original["environment"],
        key=original["source_key"],
        type=original["event_type"],
        idempotency_key=original["idempotency_key"],
        received_at=received_at,
        original=original["id"],
    )
    return identifier


@pytest.mark.usefixtures("worker")
async def test_an_event_whose_key_was_dropped_runs_each_time(source: BenchSource, knock: KnockServer) -> None:
    for _ in range(2):
        event = await source.bench.final(await source.send("invoice.paid", id="k" * 256))
        assert (event["status"], event["idempotency_key"]) == ("succeeded", None)
    assert len(knock.calls) == 2


@pytest.mark.usefixtures("worker")
async def test_the_same_key_of_another_source_is_another_event(bench: Bench, source: BenchSource) -> None:
    other = await bench.source("stripe", mappings=TRIGGER)
    for each in (source, other):
        event = await bench.final(await each.send("invoice.paid", id="evt_same"))
        assert event["status"] == "succeeded"


@pytest.mark.usefixtures("worker")
async def test_the_edge_of_the_window(source: BenchSource, temporal: Client, knock: KnockServer) -> None:
    """A microsecond decides; the second execution opens a window of its own."""
    event = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    handle = temporal.get_workflow_handle(event["workflow_id"])

    async def closed() -> datetime | None:
        return (await handle.describe()).close_time

    first_closed = await eventually(closed)
    assert first_closed is not None
    edge = first_closed + timedelta(hours=24)
    inside = await source.bench.final(await arrive(source, event, edge - timedelta(microseconds=1)))
    assert (inside["status"], inside["duplicate_of"]) == ("idempotent", event["id"])
    outside = await source.bench.final(await arrive(source, event, edge))
    assert outside["status"] == "succeeded"
    assert outside["workflow_id"] == event["workflow_id"]
    assert outside["run_id"] != event["run_id"]
    after = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    assert (after["status"], after["duplicate_of"]) == ("idempotent", outside["id"])
    assert len(knock.calls) == 2


@pytest.mark.usefixtures("worker")
async def test_many_after_the_window_execute_once(source: BenchSource, knock: KnockServer) -> None:
    event = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    # It lasts until all others wait for it: by their own clock they are a day later than its end.
    knock.gate = asyncio.Event()
    late = now() + timedelta(hours=25)
    identifiers = [await arrive(source, event, late) for _ in range(12)]

    async def all_wait() -> bool:
        waiting = "status = 'processing' AND workflow_id IS NOT NULL"
        rows = await source.bench.rows(
            f"SELECT FROM events WHERE source_key = :key AND {waiting}", key=source.key
        )
        return len(rows) >= 11

    await eventually(all_wait)
    knock.gate.set()
    for identifier in identifiers:
        await source.bench.final(identifier)
    assert await statuses(source) == ["idempotent"] * 11 + ["succeeded"] * 2
    assert len(knock.calls) == 2


@pytest.mark.usefixtures("worker")
async def test_duplicates_at_the_moment_the_run_closes(source: BenchSource, knock: KnockServer) -> None:
    """One after the other without a pause, from before the run's start until after its end."""
    knock.delay = 0.15
    first = await source.send("invoice.paid", id="evt_same")
    identifiers = [first]
    while (await source.bench.event(first))["status"] in ("received", "processing"):
        identifiers.append(await source.send("invoice.paid", id="evt_same"))
    identifiers += [await source.send("invoice.paid", id="evt_same") for _ in range(5)]
    for identifier in identifiers:
        await source.bench.final(identifier)
    assert await statuses(source) == ["idempotent"] * (len(identifiers) - 1) + ["succeeded"]
    assert len(knock.calls) == 1


@pytest.mark.usefixtures("worker")
async def test_a_stream_of_duplicates_does_not_keep_a_failing_run_open(
    source: BenchSource, knock: KnockServer
) -> None:
    knock.answers.extend(error(422, "invalid_params", "not yet") for _ in range(3))
    first = await source.send("invoice.paid", id="evt_same")
    identifiers = [first, *[await source.send("invoice.paid", id="evt_same") for _ in range(30)]]
    for identifier in identifiers:
        await source.bench.final(identifier)
    assert await statuses(source) == ["failed"] * 3 + ["idempotent"] * 27 + ["succeeded"]
    assert len(knock.calls) == 4


@pytest.mark.usefixtures("worker")
async def test_waiting_duplicates_cost_the_run_nothing(
    source: BenchSource, temporal: Client, knock: KnockServer
) -> None:
    """Temporal ends a run whose history grows past its limit: a hot key must not bring it there."""
    knock.answers.append(error(503, "unavailable", "down", retry_after="2"))
    sent = [await source.send("invoice.paid", id="evt_same") for _ in range(41)]
    ended = [await source.bench.final(identifier) for identifier in sent]
    # Events that are claimed together race for the run: any one of them is the one that executes.
    (event,) = (each for each in ended if each["status"] == "succeeded")
    assert {each["duplicate_of"] for each in ended} == {None, event["id"]}
    description = await temporal.get_workflow_handle(event["workflow_id"]).describe()
    assert description.history_length < 40


async def test_several_api_processes_and_workers(
    source: BenchSource, runtime: Runtime, temporal: Client, api: Api, knock: KnockServer
) -> None:
    other_client = await connect(runtime.settings)
    environment = source.bench.environment
    async with (
        serve_api(runtime.settings) as url,
        Api(base_url=url, token="none") as other_api,
        run_workers(runtime, temporal, [environment]),
        run_workers(runtime, other_client, [environment]),
    ):
        other = replace(source, bench=replace(source.bench, api=other_api))
        await eventually(other.is_known)
        knock.delay = 0.05
        identifiers = await asyncio.gather(
            *((source, other)[n % 2].send("invoice.paid", id=f"evt_{n % 4}") for n in range(32))
        )
        for identifier in identifiers:
            await source.bench.final(identifier)
    assert await statuses(source) == ["idempotent"] * 28 + ["succeeded"] * 4
    assert len(knock.calls) == 4


def with_settings(runtime: Runtime, **changes: Any) -> Runtime:
    return replace(runtime, settings=runtime.settings.model_copy(update=changes))


async def test_duplicates_of_a_run_that_is_terminated_execute(
    source: BenchSource, runtime: Runtime, temporal: Client, knock: KnockServer
) -> None:
    """Nobody records the outcome of a terminated run: its lease brings it back, and the next one executes."""
    knock.answers.append(error(503, "unavailable", "down", retry_after="60"))
    quick = with_settings(
        runtime,
        claim_lease=timedelta(seconds=1),
        run_lease=timedelta(seconds=2),
        sweep_interval=timedelta(seconds=0.2),
    )
    async with run_workers(quick, temporal, [source.bench.environment]):
        first = await source.send("invoice.paid", id="evt_same")
        await eventually(lambda: knock.calls)
        second = await source.send("invoice.paid", id="evt_same")

        async def waits() -> str | None:
            run: str | None = (await source.bench.event(second))["workflow_id"]
            return run

        identifier = await eventually(waits)
        assert identifier is not None
        await temporal.get_workflow_handle(identifier).terminate("by hand")
        assert (await source.bench.final(first))["status"] == "failed"
        assert (await source.bench.final(second))["status"] == "succeeded"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("succeeded", "idempotent"),
        ("ignored", "received"),
        ("failed", "received"),
        ("rejected", "received"),
    ],
)
async def test_what_a_crash_left_unsettled_is_settled_when_the_outcome_is_recorded_again(
    source: BenchSource, runtime: Runtime, outcome: str, status: str
) -> None:
    """The worker died between the outcome of the run and those that wait for it."""
    original, waiting = new_id(), new_id()
    for identifier, state in ((original, outcome), (waiting, "processing")):
        await change(
            runtime,
            "INSERT INTO events (id, environment, source_key, status, verification_status, received_at, "
            "run_id, "
            "workflow_id, lease_expires_at) VALUES (:id, 'nobody', :key, :state, 'enforced:verified', now(), "
            "'r', 'w', now() + interval '1 hour')",
            id=identifier,
            key=source.key,
            state=state,
        )
    again = Finished(original, EventStatus.FAILED, now(), workflow_id="w", run_id="r")
    await EventLog(runtime.engine, runtime.box).finish(again)
    row = await source.bench.event(waiting)
    assert row["status"] == status
    assert row["duplicate_of"] == (original if status == "idempotent" else None)
    assert (await source.bench.event(original))["status"] == outcome, "a final status stays"


@pytest.mark.parametrize("settled", [True, False], ids=["with its run", "by itself"])
async def test_the_actions_of_a_repeat_end_with_it(
    source: BenchSource, runtime: Runtime, settled: bool
) -> None:
    """It had been mapped before its run was lost: what sent nothing is gone, what was tried says so."""
    original, repeat = new_id(), new_id()
    for identifier, state in ((original, "succeeded"), (repeat, "processing")):
        await change(
            runtime,
            "INSERT INTO events (id, environment, source_key, status, verification_status, received_at, "
            "run_id) VALUES (:id, 'nobody', :key, :state, 'enforced:verified', now(), 'r')",
            id=identifier,
            key=source.key,
            state=state,
        )
    for attempts in (0, 1):
        await change(
            runtime,
            "INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, status, attempts, "
            "calls, contested, error) VALUES (:id, :event, :event, 'users_identify', '{}', 'pending', "
            ":attempts, 0, false, CASE :attempts WHEN 1 THEN 'down' END)",
            id=derived_id(repeat, str(attempts)),
            event=repeat,
            attempts=attempts,
        )
    log = EventLog(runtime.engine, runtime.box)
    if settled:
        await log.finish(Finished(original, EventStatus.SUCCEEDED, now(), workflow_id="w", run_id="r"))
    else:
        await log.finish(Finished(repeat, EventStatus.IDEMPOTENT, now(), duplicate_of=original))
    assert (await source.bench.event(repeat))["status"] == "idempotent"
    (action,) = await source.bench.actions(repeat)
    assert (action["attempts"], action["status"]) == (1, "failed")
    assert action["error"] == "not run any more: the event repeats another one; last attempt: down"


async def test_what_temporal_says_of_a_lost_outcome_holds_for_the_actions(
    source: BenchSource, runtime: Runtime, temporal: Client, knock: KnockServer
) -> None:
    """The event log forgot an outcome, as one that was restored from a backup does."""
    async with run_workers(runtime, temporal, [source.bench.environment]):
        identifier = await source.send("invoice.paid")
        event = await source.bench.final(identifier)
        assert event["status"] == "succeeded"
        await change(runtime, "UPDATE actions SET status = 'pending', finished_at = NULL")
        await change(
            runtime,
            "UPDATE events SET status = 'processing', lease_expires_at = now(), finished_at = NULL "
            "WHERE id = :id",
            id=event["id"],
        )
        assert (await source.bench.final(identifier))["status"] == "succeeded"
        assert [each["status"] for each in await source.bench.actions(identifier)] == ["succeeded"]
    assert len(knock.calls) == 1


def dispatcher(
    runtime: Runtime, client: Client, environment: str, engine: Any = None, **options: Any
) -> Dispatcher:
    return Dispatcher(
        environment,
        engine=engine or runtime.engine,
        client=client,
        configuration=runtime.configuration,
        events=EventLog(runtime.engine, runtime.box),
        maximum_in_flight=10,
        **options,
    )


async def test_a_pool_without_connections_does_not_end_the_dispatcher(
    source: BenchSource, runtime: Runtime, temporal: Client, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine(
        runtime.settings.database_url or "", pool_size=1, max_overflow=0, pool_timeout=0.1
    )
    identifier = await source.send("invoice.paid")
    starved = dispatcher(
        runtime, temporal, source.bench.environment, engine, leases=Leases(sweep=timedelta(seconds=0.1))
    )
    try:
        async with engine.connect() as taken:
            await taken.execute(text("SELECT 1"))
            async with background(starved.run()):
                with caplog.at_level(logging.WARNING):
                    await eventually(lambda: "dispatcher_waits_for_postgres" in caplog.messages)
                await taken.close()

                async def claimed() -> bool:
                    return bool((await source.bench.event(identifier))["status"] == "processing")

                await eventually(claimed)
                await starved.drain()
    finally:
        await engine.dispose()


async def test_a_claim_that_commits_while_the_worker_stops_is_started(
    source: BenchSource, runtime: Runtime, temporal: Client
) -> None:
    identifier = await source.send("invoice.paid", id="evt_same")
    stopping = dispatcher(runtime, temporal, source.bench.environment)
    async with runtime.engine.begin() as held:
        await held.execute(text("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE"))
        async with background(stopping.run()):

            async def claiming() -> bool:
                waiting = await source.bench.rows(
                    "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass"
                )
                return bool(waiting)

            await eventually(claiming)
    await stopping.drain()
    event = await source.bench.event(identifier)
    assert event["status"] == "processing"
    found = await eventually(partial(runs_of, temporal, source))
    assert [each.status for each in found] == [WorkflowExecutionStatus.RUNNING]
    await temporal.get_workflow_handle(found[0].id).terminate("test")


@pytest.mark.usefixtures("worker")
async def test_an_event_type_of_the_greatest_length_is_processed(source: BenchSource) -> None:
    """Temporal refuses longer summaries, and one refused start must not hold up the environment."""
    event = await source.bench.final(await source.send("invoice.paid", type="€" * 255))
    assert event["status"] == "ignored"


async def mapped(source: BenchSource, *parameters: dict[str, Any]) -> None:
    """Let the source's mappings of invoices be these."""
    mappings = [
        {"event_type": "invoice.paid", "action_type": "users_identify", "action_parameters": each}
        for each in parameters
    ]
    environment = source.bench.environment
    answer = await source.bench.api.put(
        f"/v1/sources/{source.key}",
        params={"environment": environment},
        json={"source": {"name": "S", "environment_settings": {environment: {"mappings": mappings}}}},
    )
    assert answer.status_code == 200, answer.text
    await source.bench.runtime.configuration.refresh()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("parameters", "status"),
    [([], "ignored"), ([{"id": "body.nowhere"}], "succeeded")],
    ids=["none", "skipped"],
)
async def test_an_execution_in_which_nothing_ran_holds_no_key(
    source: BenchSource, parameters: list[dict[str, Any]], status: str
) -> None:
    await mapped(source, *parameters)
    for _ in range(2):
        identifier = await source.send("invoice.paid", id="evt_same")
        event = await source.bench.final(identifier)
        assert (event["status"], event["duplicate_of"]) == (status, None)
    await mapped(source, {"id": "body.id"})
    third = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    assert third["status"] == "succeeded"
    [action] = await source.bench.actions(third["id"])
    assert action["status"] == "succeeded"
    # Now something ran, which a duplicate repeats.
    fourth = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    assert (fourth["status"], fourth["duplicate_of"]) == ("idempotent", third["id"])
    assert len({event["workflow_id"], third["workflow_id"], fourth["workflow_id"]}) == 1


@pytest.mark.usefixtures("worker")
async def test_one_action_that_ran_is_a_success_beside_those_that_were_skipped(source: BenchSource) -> None:
    await mapped(source, {"id": "body.nowhere"}, {"id": "body.id"})
    first = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    second = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    assert (first["status"], second["status"]) == ("succeeded", "idempotent")


@pytest.mark.usefixtures("worker")
async def test_many_duplicates_of_nothing_each_come_to_an_end(source: BenchSource) -> None:
    await mapped(source)
    identifiers = await asyncio.gather(*(source.send("invoice.paid", id="evt_same") for _ in range(8)))
    for identifier in identifiers:
        assert (await source.bench.final(identifier))["status"] == "ignored"
