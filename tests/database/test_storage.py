"""Tables: the models are what the migrations build, partitions come and go, and the hot queries use
indexes."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, text
from sqlmodel import SQLModel

import app.models.action
import app.models.alert
import app.models.applied
import app.models.audit
import app.models.credential
import app.models.dashboard
import app.models.directory
import app.models.environment
import app.models.erasure
import app.models.event
import app.models.maintenance
import app.models.ordering
import app.models.rate_limit
import app.models.replay
import app.models.retention
import app.models.source
import app.models.statistic
import app.models.variable
import app.models.workflow
from app.alerts import store as alerts
from app.database import partitions as partitioning
from app.database.engine import upgrade
from app.database.partitions import create_partitions, drop_partitions
from app.events import claims, event_log
from app.events.channel import CHANNEL
from app.models.types import derived_id, first_id_at, id_time_range, new_id
from app.replays import many as replays
from app.runtime.resources import Runtime
from app.worker import events as dispatch

# A day in the past, so that no clock is near it: partitions and plans are the same at any time of day.
TODAY = date(2020, 3, 1)
NOON = datetime(2020, 3, 1, 12, tzinfo=UTC)


async def partitions(runtime: Runtime, table: str) -> list[str]:
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:table AS regclass) "
                "ORDER BY 1"
            ),
            {"table": table},
        )
        return list(rows.scalars())


async def test_models_are_what_the_migrations_build(runtime: Runtime) -> None:
    def differences(connection: Connection) -> list[Any]:
        def include(name: str | None, kind: str, parents: Any) -> bool:
            return kind != "table" or name in SQLModel.metadata.tables

        context = MigrationContext.configure(
            connection, opts={"include_name": include, "compare_type": True, "compare_server_default": False}
        )
        return compare_metadata(context, SQLModel.metadata)

    async with runtime.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_upgrade_twice_changes_nothing(database_url: str) -> None:
    upgrade(database_url)


async def test_the_migration_ends_the_actions_of_events_that_have_ended(runtime: Runtime) -> None:
    (path,) = (Path(__file__).parents[2] / "migrations" / "versions").glob("*_ends_of_actions.py")
    spec = spec_from_file_location("ends_of_actions", path)
    assert spec is not None
    assert spec.loader is not None
    migration = module_from_spec(spec)
    spec.loader.exec_module(migration)
    expected = {"failed": "failed", "succeeded": "succeeded", "idempotent": None, "processing": "pending"}
    events = {new_id(): status for status in expected}
    async with runtime.engine.begin() as connection:
        for identifier, status in events.items():
            await connection.execute(
                text(
                    "WITH event AS (INSERT INTO events (id, environment, source_key, status, error, "
                    "verification_status, received_at) VALUES (:id, 'nobody', 'some', :status, 'cancelled', "
                    "'enforced:verified', now())) INSERT INTO actions (id, event_id, mapping_id, "
                    "action_type, parameters, status, attempts, calls, contested) VALUES "
                    "(:id, :id, :id, 'users_identify', '{}', 'pending', 0, 0, false)"
                ),
                {"id": identifier, "status": status},
            )
        await connection.run_sync(_apply, migration.end_actions)
        rows = await connection.execute(text("SELECT event_id, status, error FROM actions"))
        found = {events[row.event_id]: row for row in rows}
    assert {status: found[status].status if status in found else None for status in expected} == expected
    assert found["failed"].error == "not run any more: cancelled"
    assert found["succeeded"].error is None


def _apply(connection: Connection, step: Callable[[], None]) -> None:
    with Operations.context(MigrationContext.configure(connection)):
        step()


async def test_a_day_has_24_hours_whatever_the_zone_of_the_server(runtime: Runtime) -> None:
    """In Berlin, where the server of the tests is, clocks are put forward on 28 March 2027."""
    moment, day = datetime(2027, 3, 27, 12, tzinfo=UTC), timedelta(days=1)
    async with runtime.engine.connect() as connection:
        later = await connection.scalar(
            text("SELECT CAST(:moment AS timestamptz) + :day"), {"moment": moment, "day": day}
        )
    assert later == moment + day


async def test_partitions_are_made_ahead_once(runtime: Runtime) -> None:
    async with runtime.engine.connect() as connection:
        made = await connection.run_sync(create_partitions, TODAY)
        again = await connection.run_sync(create_partitions, TODAY)
    assert "events_20200229" in made
    assert "actions_20200308" in made
    assert again == []


async def test_rows_move_out_of_the_default_partition(runtime: Runtime) -> None:
    identifier = first_id_at(NOON + timedelta(days=1))
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO event_payloads (id, body, headers) VALUES (:id, '', '{}')"), {"id": identifier}
        )
    async with runtime.engine.connect() as connection:
        await connection.run_sync(create_partitions, TODAY)
        where = await connection.execute(
            text("SELECT tableoid::regclass::text FROM event_payloads WHERE id = :id"), {"id": identifier}
        )
        assert where.scalar_one() == "event_payloads_20200302"


async def test_rows_that_are_too_many_to_move_stay_and_the_partition_begins_after_them(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers wait for 3 seconds at most, and the next rows go where they belong."""
    monkeypatch.setattr(partitioning, "MOVE_WITHIN_MS", 1)
    insert = text(
        "INSERT INTO event_payloads (id, body, headers) SELECT uuidv7(:noon - now() + n * interval '1 ms'), "
        "'', '{}' FROM generate_series(1, 20000) AS n"
    )
    where = text("SELECT DISTINCT tableoid::regclass::text FROM event_payloads WHERE id >= :first ORDER BY 1")
    async with runtime.engine.begin() as connection:
        await connection.execute(insert, {"noon": NOON})
    async with runtime.engine.connect() as connection:
        assert "event_payloads_20200301" in await connection.run_sync(create_partitions, TODAY)
        rows = await connection.execute(where, {"first": first_id_at(NOON)})
        assert list(rows.scalars()) == ["event_payloads_default"]
        await connection.execute(insert, {"noon": NOON + timedelta(minutes=1)})
        rows = await connection.execute(where, {"first": first_id_at(NOON + timedelta(minutes=1))})
        assert list(rows.scalars()) == ["event_payloads_20200301"]


def kept(days: int, payload_days: int) -> dict[str, timedelta]:
    logs = timedelta(days=days)
    return {"events": logs, "actions": logs, "event_payloads": timedelta(days=payload_days)}


async def test_retention_drops_whole_days(runtime: Runtime) -> None:
    async with runtime.engine.connect() as connection:
        await connection.run_sync(create_partitions, TODAY)
        dropped = await connection.run_sync(drop_partitions, TODAY + timedelta(days=30), kept(30, 30))
    assert dropped == sorted(f"{table}_20200229" for table in ("events", "event_payloads", "actions"))
    assert "events_20200301" in await partitions(runtime, "events")
    assert "events_default" in await partitions(runtime, "events")


def test_derived_ids() -> None:
    parent = new_id()
    first, end = id_time_range(parent)
    derived = derived_id(parent, "mapping")
    assert first <= derived < end
    assert derived == derived_id(parent, "mapping")
    assert derived != derived_id(parent, "other")
    assert derived.version == 7


async def fill(runtime: Runtime, events: int) -> None:
    """An event a second until noon, with statistics: processed ones of several sources, a few that wait."""
    async with runtime.engine.connect() as connection:
        await connection.run_sync(create_partitions, TODAY)
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO events (id, environment, source_key, event_type, status, verification_status, "
                "received_at, finished_at) SELECT uuidv7(:noon - now() - n * interval '1 second'), "
                "'development', 'source-' || n % 7, 'type.' || n % 11, "
                "CASE WHEN n % 5000 = 0 THEN 'received' ELSE 'succeeded' END, "
                "'enforced:verified', :noon, :noon FROM generate_series(1, :events) AS n"
            ),
            {"events": events, "noon": NOON},
        )
    async with runtime.engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
            text("ANALYZE events")
        )


async def scanned_whole(runtime: Runtime, statement: Any, **parameters: Any) -> set[str]:
    """The partitions with rows that a statement reads from end to end; empty ones are read so at no cost."""
    async with runtime.engine.begin() as connection:
        rows = await connection.execute(text(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}"), parameters)
        scanned = set(re.findall(r"Seq Scan on (events_\w+)", "\n".join(rows.scalars())))
        filled = await connection.execute(text("SELECT DISTINCT tableoid::regclass::text FROM events"))
        return scanned & set(filled.scalars())


@pytest.mark.parametrize("since", [NOON - dispatch.CLAIM_SINCE, datetime.fromtimestamp(0, UTC)])
async def test_claim_uses_its_index(runtime: Runtime, since: datetime) -> None:
    await fill(runtime, 60_000)
    assert not await scanned_whole(
        runtime,
        claims._CLAIM,
        environment="development",
        since=first_id_at(since),
        limit=50,
        share=75,
        busy_sources=["source-1"],
        busy_counts=[10],
        repeating=[],
        look=50,
        more=0,
        lease=claims.Leases().claim,
    )


async def test_sweep_uses_its_index(runtime: Runtime) -> None:
    await fill(runtime, 60_000)
    assert not await scanned_whole(
        runtime, claims._RECLAIM, environment="development", limit=50, lease=claims.Leases().claim
    )


async def test_events_that_wait_for_a_run_are_found_by_index(runtime: Runtime) -> None:
    await fill(runtime, 60_000)
    async with runtime.engine.connect() as connection:
        some = (await connection.scalars(text("SELECT id FROM events LIMIT 3"))).all()
    assert not await scanned_whole(
        runtime,
        event_log._SETTLE,
        ids=list(some),
        workflow_ids=["a", "b", "c"],
        run_ids=["1", "2", "3"],
        ran_nothing=[False, False, False],
        first=min(some),
        last=max(some),
        successful=["succeeded"],
        channel=CHANNEL,
    )


async def test_alerts_and_replays_look_through_indexes(runtime: Runtime) -> None:
    await fill(runtime, 60_000)
    where = {"environment": "development", "source_key": "source-1", "limit": 10}
    since = NOON - timedelta(minutes=5)
    assert not await scanned_whole(runtime, alerts._FAILED, **where, since=since)
    assert not await scanned_whole(runtime, alerts._STUCK, **where, before=first_id_at(since))
    assert not await scanned_whole(runtime, alerts._SHARE, **where, since=first_id_at(since))
    assert not await scanned_whole(runtime, replays._OUTCOMES, id=first_id_at(since))


MODELS = (
    app.models.action,
    app.models.alert,
    app.models.audit,
    app.models.credential,
    app.models.directory,
    app.models.environment,
    app.models.erasure,
    app.models.event,
    app.models.maintenance,
    app.models.ordering,
    app.models.rate_limit,
    app.models.retention,
    app.models.replay,
    app.models.source,
    app.models.variable,
)
