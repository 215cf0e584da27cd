"""Partitions and locks while events arrive, 20 a second, at an API process: what others do with the tables
stops no sender, and what stops senders is said by /readyz."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import psycopg
import pytest
from psycopg.rows import TupleRow
from sqlalchemy import text

from app.activities.maintenance import MaintenanceActivities
from app.core.settings import Settings
from app.database.partitions import TABLES, create_partitions
from app.models.types import now
from tests.bench import Bench, BenchSource
from tests.faults.cluster import ROOT, Process
from tests.faults.conftest import StartProcess, environment_of
from tests.servers import eventually

Connection = psycopg.AsyncConnection[TupleRow]
PACE = 0.05


@dataclass
class Answers:
    """What senders and probes got."""

    accepted: list[str] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)
    readiness: set[tuple[int, str]] = field(default_factory=set)

    async def more(self, number: int) -> None:
        """Wait until so many more deliveries were accepted."""
        wanted = len(self.accepted) + number
        await eventually(lambda: len(self.accepted) >= wanted or self.others)
        assert not self.others


@pytest.fixture
async def source(bench: Bench) -> BenchSource:
    return await bench.source()


@pytest.fixture
async def process(start_process: StartProcess) -> Process:
    api = start_process("api")
    async with httpx.AsyncClient() as client:
        await eventually(lambda: api.is_ready(client))
    return api


@asynccontextmanager
async def sending(api: Process, source: BenchSource) -> AsyncIterator[Answers]:
    """Deliveries at their pace, each on its own, and readiness probes, while the block runs."""
    answers = Answers()
    over = asyncio.Event()
    async with httpx.AsyncClient(timeout=20) as client, asyncio.TaskGroup() as group:
        group.create_task(_probe(client, api, answers, over))
        group.create_task(_send(client, api, source, answers, over, group))
        try:
            yield answers
        finally:
            over.set()


async def _send(
    client: httpx.AsyncClient,
    api: Process,
    source: BenchSource,
    answers: Answers,
    over: asyncio.Event,
    group: asyncio.TaskGroup,
) -> None:
    while not over.is_set():
        group.create_task(_deliver(client, api, source, answers))
        await asyncio.sleep(PACE)


async def _deliver(client: httpx.AsyncClient, api: Process, source: BenchSource, answers: Answers) -> None:
    body = source.example("invoice.paid")
    answer = await client.post(f"{api.url}{source.path}", content=body, headers=source.signed(body))
    if answer.status_code == 200:
        answers.accepted.append(answer.json()["id"])
    else:
        answers.others.append((answer.status_code, answer.text))


async def _probe(client: httpx.AsyncClient, api: Process, answers: Answers, over: asyncio.Event) -> None:
    while not over.is_set():
        ready = await client.get(f"{api.url}/readyz")
        answers.readiness.add((ready.status_code, ready.json()["writes"]))
        await asyncio.sleep(PACE)


@asynccontextmanager
async def connected(bench: Bench) -> AsyncIterator[Connection]:
    """A connection of somebody else, with a transaction that is open until the block ends."""
    url = bench.runtime.settings.database_url
    assert url is not None
    connection = await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""))
    async with connection:
        yield connection


async def run(bench: Bench, query: str) -> None:
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(text(query))


async def partitions(bench: Bench, table: str = "events") -> set[str]:
    rows = await bench.rows(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = CAST(:table AS regclass)",
        table=table,
    )
    return {row["name"] for row in rows}


async def drop_today(bench: Bench) -> None:
    for table in TABLES:
        await run(bench, f"DROP TABLE {table}_{now():%Y%m%d}")


def maintenance(bench: Bench, settings: Settings) -> Callable[[], "asyncio.Task[None]"]:
    activities = MaintenanceActivities(bench.runtime.engine, settings)
    return lambda: asyncio.create_task(activities.maintain_partitions())


def upgrade(bench: Bench, settings: Settings) -> Callable[[], "asyncio.Task[None]"]:
    async def command() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.cli", "db", "upgrade"), cwd=ROOT, env=environment_of(settings)
        )
        assert await process.wait() == 0

    return lambda: asyncio.create_task(command())


async def test_a_reader_during_maintenance_stops_no_sender(
    bench: Bench, source: BenchSource, process: Process, settings: Settings
) -> None:
    past = now().date() - timedelta(days=90)
    async with bench.runtime.engine.connect() as connection:
        await connection.run_sync(create_partitions, past)
    old = f"events_{past:%Y%m%d}"
    assert old in await partitions(bench)
    async with sending(process, source) as answers:
        async with connected(bench) as reader:
            await reader.execute("SELECT count(*) FROM events")
            maintained = maintenance(bench, settings)()
            await answers.more(60)
            assert not maintained.done(), "it waits for the reader"
            assert old in await partitions(bench)
        await maintained
        await answers.more(1)
    assert answers.others == []
    assert answers.readiness == {(200, "ok")}
    assert old not in await partitions(bench)


@pytest.mark.parametrize("heal", [maintenance, upgrade])
async def test_a_missing_partition_is_made_under_load(
    bench: Bench,
    source: BenchSource,
    process: Process,
    settings: Settings,
    heal: Callable[[Bench, Settings], Callable[[], "asyncio.Task[None]"]],
) -> None:
    await drop_today(bench)
    async with sending(process, source) as answers:
        await answers.more(20)
        assert await bench.rows("SELECT id FROM events_default")
        await heal(bench, settings)()
        assert f"events_{now():%Y%m%d}" in await partitions(bench)
        await answers.more(20)
    assert answers.others == []
    assert answers.readiness == {(200, "ok")}
    for table in TABLES:
        assert not await bench.rows(f"SELECT id FROM {table}_default")
    for table in ("events", "event_payloads"):
        stored = await bench.rows(f"SELECT id FROM {table}")
        assert sorted(str(row["id"]) for row in stored) == sorted(answers.accepted)


async def test_a_fault_of_the_database_is_no_fault_of_the_event(
    bench: Bench, source: BenchSource, process: Process
) -> None:
    async def refused(wanted: str) -> None:
        body = source.example("invoice.paid")
        answer = await client.post(f"{process.url}{source.path}", content=body, headers=source.signed(body))
        assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        await eventually(lambda: not_ready(wanted))

    async def not_ready(wanted: str) -> bool:
        ready = await client.get(f"{process.url}/readyz")
        return ready.status_code == 503 and wanted in ready.json()["writes"]

    async with httpx.AsyncClient(timeout=20) as client:
        await drop_today(bench)
        await run(bench, "ALTER TABLE events DETACH PARTITION events_default")
        await refused("CheckViolation")
        await run(bench, "ALTER TABLE events ATTACH PARTITION events_default DEFAULT")
        await run(bench, "ALTER TABLE event_payloads ADD CONSTRAINT wrong CHECK (body IS NULL) NOT VALID")
        await refused("CheckViolation")
        await run(bench, "ALTER TABLE event_payloads DROP CONSTRAINT wrong")
        await run(bench, "ALTER TABLE events RENAME COLUMN origin TO other")
        await refused("UndefinedColumn")
        await run(bench, "ALTER TABLE events RENAME COLUMN other TO origin")
        async with connected(bench) as other:
            await other.execute("LOCK TABLE events IN SHARE MODE")
            await eventually(lambda: not_ready("LockNotAvailable"))
            await other.rollback()
        await eventually(lambda: process.is_ready(client))
        body = source.example("invoice.paid")
        answer = await client.post(f"{process.url}{source.path}", content=body, headers=source.signed(body))
        assert answer.status_code == 200
