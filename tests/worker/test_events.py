"""Exactly which workflow: idempotency, leases, windows, and what happens when Temporal is away or a run is
ended by hand."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowExecutionStatus

from app.events.claims import Claimed, workflow_id
from app.models.types import first_id_at, new_id, now
from app.runtime.resources import Runtime
from app.runtime.temporal import connect, prepare_namespace
from app.stack.temporal import EmbeddedTemporal
from app.worker.main import run_workers
from tests.bench import Bench, BenchSource, runs_of
from tests.knock import KnockServer, error
from tests.servers import eventually

TRIGGER = {
    "invoice.paid": [("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"})]
}


@pytest.fixture
async def source(bench: Bench, knock: KnockServer) -> BenchSource:
    """A Stripe source with one trigger, against the stand-in for Knock."""
    await bench.use_destination(knock.url)
    return await bench.source("stripe", mappings=TRIGGER)


@pytest.fixture
def own_temporal(stack_dir: Path) -> Iterator[EmbeddedTemporal]:
    """A Temporal server that the test may stop."""
    server = EmbeddedTemporal(stack_dir / "own-temporal", port=0, headless=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def own_client(own_temporal: EmbeddedTemporal, runtime: Runtime) -> Client:
    client = await connect(runtime.settings.model_copy(update={"temporal_address": own_temporal.address}))
    await prepare_namespace(client, runtime.configuration)
    return client


async def statuses(source: BenchSource) -> list[str]:
    rows = await source.bench.rows("SELECT status FROM events WHERE source_key = :key", key=source.key)
    return sorted(row["status"] for row in rows)


async def change(source: BenchSource, statement: str, **parameters: object) -> None:
    async with source.bench.runtime.engine.begin() as connection:
        await connection.execute(text(statement), parameters)


def test_workflow_id_keeps_tuples_apart() -> None:
    def identifier(event_type: str, key: str | None, *, enforce: bool = True) -> str:
        event = Claimed(UUID(int=7), "stripe", event_type, key, now(), None, None)
        return workflow_id("production", event, enforce_idempotency=enforce)

    assert identifier("a", "bc") != identifier("ab", "c")
    assert identifier("a", "b").startswith("event/production/stripe/")
    assert identifier("a", None) == f"event/production/stripe/{UUID(int=7)}"
    assert identifier("a", "b", enforce=False) == identifier("a", None)


@pytest.mark.usefixtures("worker")
async def test_replay_runs_nothing_and_links_to_the_original(source: BenchSource, knock: KnockServer) -> None:
    original = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    duplicate = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    assert original["status"] == "succeeded"
    assert duplicate["status"] == "idempotent"
    assert duplicate["duplicate_of"] == original["id"]
    assert duplicate["workflow_id"] == original["workflow_id"]
    assert await source.bench.actions(duplicate["id"]) == []
    assert len(knock.calls) == 1


@pytest.mark.usefixtures("worker")
async def test_same_key_of_another_type_is_another_event(source: BenchSource) -> None:
    first = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    second = await source.bench.final(
        await source.send("invoice.paid", id="evt_same", type="invoice.created")
    )
    assert first["workflow_id"] != second["workflow_id"]
    assert second["status"] == "ignored"


@pytest.mark.usefixtures("worker")
async def test_duplicates_that_arrive_together_execute_once(source: BenchSource, knock: KnockServer) -> None:
    knock.delay = 0.2
    identifiers = await asyncio.gather(*(source.send("invoice.paid", id="evt_same") for _ in range(12)))
    for identifier in identifiers:
        await source.bench.final(identifier)
    assert await statuses(source) == ["idempotent"] * 11 + ["succeeded"]
    assert len(knock.calls) == 1


@pytest.mark.usefixtures("worker")
async def test_failure_is_not_recorded_and_the_next_duplicate_executes(
    source: BenchSource, knock: KnockServer
) -> None:
    knock.answers.append(error(422, "invalid_params", "no such workflow"))
    first = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    second = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    third = await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    assert [each["status"] for each in (first, second, third)] == ["failed", "succeeded", "idempotent"]
    assert third["duplicate_of"] == second["id"]
    assert len({call.idempotency_key for call in knock.calls}) == 1, "Knock sees one logical call"


@pytest.mark.usefixtures("worker")
async def test_waiting_duplicates_execute_one_after_the_other_until_one_succeeds(
    source: BenchSource, knock: KnockServer
) -> None:
    knock.delay = 0.3
    knock.answers.extend(error(422, "invalid_params", "not yet") for _ in range(2))
    identifiers = await asyncio.gather(*(source.send("invoice.paid", id="evt_same") for _ in range(6)))
    for identifier in identifiers:
        await source.bench.final(identifier)
    assert await statuses(source) == ["failed"] * 2 + ["idempotent"] * 3 + ["succeeded"]
    assert len(knock.calls) == 3


@pytest.mark.usefixtures("worker")
async def test_enforcement_off_processes_every_event(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=TRIGGER, enforce_idempotency=False)
    for _ in range(3):
        assert (await bench.final(await source.send("invoice.paid", id="evt_same")))["status"] == "succeeded"
    assert len(knock.calls) == 3


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("later", "status"), [(23.9, "idempotent"), (24.1, "succeeded")])
async def test_window(source: BenchSource, later: float, status: str) -> None:
    """The clock is the time of receipt: a row that says it came later, did."""
    await source.bench.final(await source.send("invoice.paid", id="evt_same"))
    late = await arrive_later(source, timedelta(hours=later))
    assert (await source.bench.final(late))["status"] == status


async def arrive_later(source: BenchSource, later: timedelta) -> UUID:
    """A duplicate whose time of receipt is in the future."""
    # The signature was made for the first one's time; the verdict of record would refuse the copy.
    await change(
        source,
        "UPDATE source_environments SET enforce_verification = false WHERE source_key = :key",
        key=source.key,
    )

    async def not_enforced() -> bool:
        endpoint = source.bench.runtime.configuration.endpoint(source.bench.environment, source.key)
        return endpoint is not None and not endpoint.enforce_verification

    await eventually(not_enforced)
    identifier = new_id()
    await change(
        source,
        "WITH copied AS (INSERT INTO events (id, environment, source_key, event_type, idempotency_key, "
        "status, "
        "verification_status, received_at) SELECT :id, environment, source_key, event_type, idempotency_key, "
        "'received', verification_status, received_at + :later FROM events WHERE source_key = :key LIMIT 1), "
        "payload AS (INSERT INTO event_payloads (id, body, headers) SELECT :id, body, headers FROM "
        "event_payloads JOIN events USING (id) WHERE source_key = :key LIMIT 1) "
        "SELECT pg_notify('doorbell_events', :environment)",
        id=identifier,
        later=later,
        key=source.key,
        environment=source.bench.environment,
    )
    return identifier


async def test_claimed_twice_runs_once_and_is_no_duplicate_of_itself(
    source: BenchSource, runtime: Runtime, temporal: Client, knock: KnockServer
) -> None:
    """A worker that dies between start and mark leaves a claim that another takes over."""
    identifier = await source.send("invoice.paid")
    async with run_workers(runtime, temporal, [source.bench.environment]):
        event = await source.bench.final(identifier)
    await change(
        source,
        "UPDATE events SET status = 'processing', workflow_id = NULL, run_id = NULL, finished_at = NULL, "
        "lease_expires_at = now() - interval '1 second' WHERE id = :id",
        id=event["id"],
    )
    async with run_workers(runtime, temporal, [source.bench.environment]):
        again = await source.bench.final(identifier)
    assert again["status"] == "succeeded"
    assert again["run_id"] == event["run_id"]
    assert len(knock.calls) == 1


async def test_claim_that_was_never_started_is_taken_over(
    source: BenchSource, runtime: Runtime, temporal: Client
) -> None:
    identifier = await source.send("invoice.paid")
    await change(
        source,
        "UPDATE events SET status = 'processing', lease_expires_at = now() - interval '1 second' WHERE id = "
        ":id",
        id=UUID(identifier),
    )
    async with run_workers(runtime, temporal, [source.bench.environment]):
        assert (await source.bench.final(identifier))["status"] == "succeeded"


async def test_run_that_is_terminated_by_hand_ends_as_failed(
    source: BenchSource, runtime: Runtime, temporal: Client, knock: KnockServer
) -> None:
    knock.answers.extend(error(503, "unavailable", "down", retry_after="60") for _ in range(5))
    identifier = await source.send("invoice.paid")
    async with run_workers(runtime, temporal, [source.bench.environment]):
        await eventually(lambda: knock.calls)
        found = await eventually(partial(runs_of, temporal, source))
        await temporal.get_workflow_handle(found[0].id).terminate("by hand")
        await change(
            source,
            "UPDATE events SET workflow_id = :workflow, run_id = :run, lease_expires_at = now() WHERE id = "
            ":id",
            workflow=found[0].id,
            run=found[0].run_id,
            id=UUID(identifier),
        )
        event = await source.bench.final(identifier)
        (action,) = await source.bench.actions(identifier)
    assert event["status"] == "failed"
    assert "terminated in Temporal" in event["error"]
    assert action["status"] == "failed"
    assert action["error"].startswith(f"not run any more: {event['error']}; last attempt: ")
    assert "down" in action["error"]
    assert action["finished_at"] is not None


@pytest.mark.usefixtures("worker")
async def test_run_that_is_cancelled_by_hand_ends_as_failed(
    source: BenchSource, temporal: Client, knock: KnockServer
) -> None:
    knock.answers.extend(error(503, "unavailable", "down", retry_after="60") for _ in range(5))
    identifier = await source.send("invoice.paid")

    await eventually(lambda: knock.calls)
    found = await eventually(partial(runs_of, temporal, source))
    await temporal.get_workflow_handle(found[0].id).cancel()
    event = await source.bench.final(identifier)
    assert event["status"] == "failed"
    assert event["error"] == "the workflow was cancelled in Temporal"
    (action,) = await source.bench.actions(identifier)
    assert action["status"] == "failed"
    assert action["error"].startswith(f"not run any more: {event['error']}; last attempt: ")


async def test_secret_removed_before_processing_rejects(
    source: BenchSource, runtime: Runtime, temporal: Client, knock: KnockServer
) -> None:
    """The verdict of record is the workflow's, and a rejected run holds no key."""
    identifier = await source.send("invoice.paid", id="evt_same")
    await change(source, "DELETE FROM signing_secrets")
    await runtime.configuration.refresh()
    async with run_workers(runtime, temporal, [source.bench.environment]):
        event = await source.bench.final(identifier)
        assert event["status"] == "rejected"
        assert event["verification_status"] == "enforced:failed"
        assert "no signing secret" in event["verification_reason"]

        async def failed() -> bool:
            description = await temporal.get_workflow_handle(event["workflow_id"]).describe()
            return description.status is WorkflowExecutionStatus.FAILED

        await eventually(failed)
    assert not knock.calls


async def test_two_workers_share_the_work(
    source: BenchSource, runtime: Runtime, temporal: Client, knock: KnockServer
) -> None:
    environment = source.bench.environment
    # A client of its own, as another process has: one client serves a task queue once.
    other = await connect(runtime.settings)
    async with run_workers(runtime, temporal, [environment]), run_workers(runtime, other, [environment]):
        identifiers = await asyncio.gather(
            *(source.send("invoice.paid", id=f"evt_{n % 10}") for n in range(30))
        )
        for identifier in identifiers:
            await source.bench.final(identifier)
    assert await statuses(source) == ["idempotent"] * 20 + ["succeeded"] * 10
    # On a busy machine one may be repeated, under its key.
    assert len({each.idempotency_key for each in knock.calls}) == 10


async def test_temporal_away_events_are_accepted_and_processed_on_its_return(
    bench: Bench, runtime: Runtime, knock: KnockServer, own_temporal: EmbeddedTemporal, own_client: Client
) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=TRIGGER)
    async with run_workers(runtime, own_client, [bench.environment]):
        assert (await bench.final(await source.send("invoice.paid")))["status"] == "succeeded"
        await asyncio.to_thread(own_temporal.stop)
        identifiers = [await source.send("invoice.paid") for _ in range(5)]
        await asyncio.to_thread(own_temporal.start)
        for identifier in identifiers:
            assert (await bench.final(identifier))["status"] == "succeeded"


@pytest.mark.usefixtures("worker")
async def test_an_event_whose_payload_is_gone_fails_and_says_so(
    source: BenchSource, knock: KnockServer
) -> None:
    """Retrying would not bring it back; the event must not be stuck either."""
    identifier = new_id()
    await change(
        source,
        "INSERT INTO events (id, environment, source_key, status, verification_status, received_at) "
        "VALUES (:id, :environment, :key, 'received', 'enforced:verified', now())",
        id=identifier,
        environment=source.bench.environment,
        key=source.key,
    )
    event = await source.bench.final(identifier)
    assert event["status"] == "failed"
    assert event["error"] == f"the payload of event {identifier} is no longer stored"
    assert not knock.calls


async def test_a_noisy_source_does_not_starve_the_others(
    bench: Bench, runtime: Runtime, temporal: Client
) -> None:
    """With 2,000 events of one source waiting, another source's event is among the first to be claimed."""
    noisy, quiet = await bench.source("stripe", mappings={}), await bench.source("stripe", mappings={})
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO events (id, environment, source_key, event_type, status, verification_status, "
                "received_at) "
                "SELECT uuidv7(), :environment, :key, 'flood', 'received', 'enforced:verified', now() "
                "FROM generate_series(1, 2000)"
            ),
            {"environment": bench.environment, "key": noisy.key},
        )
        await connection.execute(
            text("INSERT INTO event_payloads (id, body, headers) SELECT id, '{}', '{}' FROM events")
        )
    single = await quiet.send("invoice.paid")
    async with run_workers(runtime, temporal, [bench.environment]):
        await bench.final(single)
        waiting = await bench.rows(
            "SELECT count(*) AS n FROM events WHERE source_key = :key AND status = 'received'", key=noisy.key
        )
    assert waiting[0]["n"] > 1000


def test_ids_of_a_time_are_in_order() -> None:
    moment = now()
    assert first_id_at(moment) < new_id() < first_id_at(moment + timedelta(minutes=1))
