"""Each fault in the middle of load, at a random moment, judged from outside: what was answered 2xx is
executed, each action reached the destination as one logical call, nothing is stuck."""

import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson
import psycopg
import pytest

from tests.faults.cluster import DATABASE, Cluster
from tests.faults.destination import Destination, serve_destination
from tests.faults.load import Load, send
from tests.servers import eventually

RECOVERY = 60.0


@dataclass(frozen=True)
class Row:
    """A line of the table that the suite prints."""

    fault: str
    accepted: int
    refused: int
    lost: int
    doubled: int
    recovery: float


@dataclass
class Scene:
    """What a fault may do something to."""

    cluster: Cluster
    destination: Destination
    chance: random.Random
    load: Load

    async def hold(self) -> None:
        """Leave the fault as it is for a while."""
        await asyncio.sleep(self.chance.uniform(0.3, 1.2))

    async def hold_until_noticed(self) -> None:
        """The same, and until a sender was refused."""
        await self.hold()
        await eventually(lambda: self.load.refusals)


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="doorbell-faults-") as directory:
        cluster = Cluster(Path(directory))
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.stop()


@pytest.fixture(scope="module")
async def destination() -> AsyncIterator[Destination]:
    async with serve_destination() as destination:
        yield destination


@pytest.fixture(scope="module")
async def path(cluster: Cluster, destination: Destination) -> str:
    return await cluster.configure(destination.url)


async def api_killed(scene: Scene) -> None:
    api = scene.chance.choice(scene.cluster.apis)
    await scene.cluster.keep(api.kill)
    await scene.hold_until_noticed()
    await scene.cluster.keep(api.start)


async def worker_killed(scene: Scene) -> None:
    worker = scene.chance.choice(scene.cluster.workers)
    await scene.cluster.keep(worker.kill)
    await scene.hold()
    await scene.cluster.keep(worker.start)


async def all_workers_killed(scene: Scene) -> None:
    for worker in scene.cluster.workers:
        await scene.cluster.keep(worker.kill)
    await scene.hold()
    for worker in scene.cluster.workers:
        await scene.cluster.keep(worker.start)


async def temporal_killed(scene: Scene) -> None:
    await scene.cluster.keep(scene.cluster.temporal.kill)
    await scene.hold()
    await scene.cluster.keep(scene.cluster.temporal.start)


async def postgres_killed(scene: Scene) -> None:
    pid = scene.cluster.postgres.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await scene.hold_until_noticed()
    await scene.cluster.keep(scene.cluster.postgres.start)


async def destination_slow(scene: Scene) -> None:
    scene.destination.mode = "slow"
    await scene.hold()
    scene.destination.mode = "healthy"


async def destination_flapping(scene: Scene) -> None:
    scene.destination.mode = "flapping"
    await scene.hold()
    await scene.hold()
    scene.destination.mode = "healthy"


async def destination_dropping_after_executing(scene: Scene) -> None:
    scene.destination.mode = "dropping"
    await scene.hold()
    scene.destination.mode = "healthy"


async def connections_exhausted(scene: Scene) -> None:
    """Every connection that Postgres has is taken, those of Doorbell ended."""
    url, seconds = scene.cluster.postgres.url(DATABASE), scene.chance.uniform(1.0, 2.0)
    await scene.cluster.keep(_exhaust, url, seconds, scene.load)


def _exhaust(url: str, seconds: float, load: Load) -> None:
    """Take what is free, end Doorbell's connections, take those too, and hold all for a while, until a sender
    was refused."""
    with ExitStack() as held:
        first = held.enter_context(psycopg.connect(url, autocommit=True, application_name="intruder"))
        end = None
        while end is None or time.monotonic() < end or not load.refusals:
            try:
                held.enter_context(psycopg.connect(url, application_name="intruder"))
            except psycopg.OperationalError:
                end = end or time.monotonic() + seconds
                first.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
                    "'doorbell'"
                )


async def disk_full(scene: Scene) -> None:
    """Postgres refuses every write to the event log as it does when its disk is full (SQLSTATE 53100)."""
    await scene.cluster.keep(
        scene.cluster.query,
        "CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; "
        "CREATE TRIGGER disk_is_full BEFORE INSERT OR UPDATE ON events FOR EACH STATEMENT EXECUTE FUNCTION "
        "disk_is_full()",
    )
    await scene.hold_until_noticed()
    await scene.cluster.keep(
        scene.cluster.query, "DROP TRIGGER disk_is_full ON events; DROP FUNCTION disk_is_full()"
    )


FAULTS: list[Callable[[Scene], Awaitable[None]]] = [
    api_killed,
    worker_killed,
    all_workers_killed,
    temporal_killed,
    postgres_killed,
    connections_exhausted,
    disk_full,
    destination_slow,
    destination_flapping,
    destination_dropping_after_executing,
]
# The others must not be: the inbox takes events while workers, Temporal or the destination are away.
NOTICED_BY_SENDERS = [api_killed, postgres_killed, connections_exhausted, disk_full]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--faults-rounds")))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_fault(
    fault: Callable[[Scene], Awaitable[None]],
    seed: int,
    cluster: Cluster,
    destination: Destination,
    path: str,
    record_fault: Callable[[Row], None],
) -> None:
    name = f"{fault.__name__}-{seed}"
    chance = random.Random(name)
    load = Load()
    scene = Scene(cluster, destination, chance, load)
    is_lifted = asyncio.Event()
    sending = asyncio.create_task(send(cluster, path, chance, name, is_lifted, load))
    await asyncio.sleep(chance.uniform(0.1, 0.7))
    try:
        await fault(scene)
    finally:
        lifted = time.monotonic()
        is_lifted.set()
        await sending
    await eventually(lambda: _is_settled(cluster), RECOVERY)
    recovery = time.monotonic() - lifted
    await cluster.ready()
    statuses = await cluster.keep(_statuses, cluster, load)
    markers = load.keyed | load.unkeyed
    lost = sum(not destination.calls[marker] for marker in markers) + len(load.accepted) - len(statuses)
    doubled = sum(len(set(destination.calls[marker])) > 1 for marker in load.keyed)
    record_fault(Row(fault.__name__, len(load.accepted), load.refusals, lost, doubled, recovery))
    assert load.refusals > 0 or fault not in NOTICED_BY_SENDERS, "the fault did nothing"
    assert lost == 0
    assert doubled == 0
    assert set(statuses.values()) <= {"succeeded", "idempotent"}, Counter(statuses.values())
    executed = await cluster.keep(_executions, cluster)
    assert {marker: executed[marker] for marker in load.keyed} == dict.fromkeys(load.keyed, 1)
    # A delivery without a key that got no answer is sent again: each row is a delivery, and no call has two
    # rows.
    for marker in load.unkeyed:
        assert len(set(destination.calls[marker])) == executed[marker], marker


async def _is_settled(cluster: Cluster) -> bool:
    """Whether every event of the log is final, those too whose sender got no answer."""
    open_events = await cluster.keep(
        cluster.query, "SELECT count(*) AS n FROM events WHERE status IN ('received', 'processing')"
    )
    return bool(open_events[0]["n"] == 0)


def _statuses(cluster: Cluster, load: Load) -> dict[str, str]:
    rows = cluster.query("SELECT id, status FROM events WHERE id = ANY(%s::uuid[])", load.accepted)
    return {str(row["id"]): row["status"] for row in rows}


def _executions(cluster: Cluster) -> Counter[str]:
    """How many events of each marker were executed with success."""
    rows = cluster.query(
        "SELECT p.body FROM events e JOIN event_payloads p USING (id) WHERE e.status = 'succeeded'"
    )
    return Counter(orjson.loads(row["body"])["marker"] for row in rows)
