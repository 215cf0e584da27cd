"""The order of events of one key, with two API processes, of which one has a clock that is behind, and two
workers, while parts are killed: judged at the destination."""

import asyncio
import random
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import httpx
import orjson
import pytest
from aiohttp import web

from tests.faults.cluster import Cluster
from tests.faults.destination import Destination
from tests.faults.load import Load
from tests.faults.test_faults import RECOVERY, Scene, all_workers_killed, temporal_killed, worker_killed
from tests.servers import eventually

KEYS = 10
EVENTS = 12


@dataclass
class Recorder:
    """Notes for each key what arrives, and what arrives while something else of it is under way."""

    url: str = ""
    arrived: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    under_way: dict[str, str] = field(default_factory=dict)
    overlaps: list[tuple[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        key, marker = body["recipients"][0], body["data"]["marker"]
        if self.under_way.get(key, marker) != marker:
            self.overlaps.append((self.under_way[key], marker))
        self.under_way[key] = marker
        self.arrived[key].append(marker)
        await asyncio.sleep(0.02)
        self.under_way.pop(key, None)
        return web.json_response({"workflow_run_id": "123e4567-e89b-12d3-a456-426614174000"})


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="doorbell-order-") as directory:
        cluster = Cluster(Path(directory), with_late_clock=True)
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.stop()


@pytest.fixture(scope="module")
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", recorder.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        recorder.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield recorder
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
async def path(cluster: Cluster, recorder: Recorder) -> str:
    return await cluster.configure(recorder.url, ordering_key_path="body.user")


@pytest.mark.parametrize(
    "fault", [worker_killed, all_workers_killed, temporal_killed], ids=lambda fault: fault.__name__
)
async def test_order_holds(
    fault: Callable[[Scene], Awaitable[None]], cluster: Cluster, recorder: Recorder, path: str
) -> None:
    name = fault.__name__
    chance = random.Random(name)
    senders = asyncio.gather(*(_send_in_turn(cluster, path, f"{name}-{key}", chance) for key in range(KEYS)))
    await asyncio.sleep(chance.uniform(0.3, 1.0))
    await fault(Scene(cluster, Destination(), chance, Load()))
    await senders
    await eventually(lambda: _is_settled(cluster), RECOVERY)
    for key in (f"{name}-{number}" for number in range(KEYS)):
        arrived = [marker for marker, _ in groupby(recorder.arrived[key])]
        assert arrived == [f"{key}-{number}" for number in range(EVENTS)]
    assert recorder.overlaps == []
    assert await cluster.keep(cluster.query, "SELECT * FROM ordering_turns") == []


async def _send_in_turn(cluster: Cluster, path: str, user: str, chance: random.Random) -> None:
    """Send the events of one key, each after the answer to the one before, to either API process; some
    twice."""
    for number in range(EVENTS):
        marker = f"{user}-{number}"
        body = orjson.dumps({"type": "order.paid", "user": user, "marker": marker, "id": marker})
        for _ in range(1 + (chance.random() < 0.2)):
            await _accepted(cluster, path, body, chance)


async def _accepted(cluster: Cluster, path: str, body: bytes, chance: random.Random) -> None:
    while True:
        try:
            url = f"{chance.choice(cluster.apis).url}{path}"
            if (await cluster.client.post(url, content=body)).status_code == 200:
                return
        except httpx.TransportError:
            await asyncio.sleep(0.2)


async def _is_settled(cluster: Cluster) -> bool:
    query = (
        "SELECT (SELECT count(*) FROM events WHERE status IN ('received', 'processing')) "
        "+ (SELECT count(*) FROM ordering_turns) AS n"
    )
    return bool((await cluster.keep(cluster.query, query))[0]["n"] == 0)
