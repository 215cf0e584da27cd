"""Random arrivals over few ordering keys, failures, retries, repeats and crashes, against a model that fits
on a page: for each key the calls reach the destination in the order of receipt, none is missing, and nothing
overlaps."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.bench import Bench, BenchSource
from tests.events.test_idempotency_model import System, workers
from tests.knock import error
from tests.servers import serve

KEYS = ("a", "b", "c")
WORKERS = 2
TRIGGER = (
    "workflows_trigger",
    {"key": "paid", "recipients": "body.userId", "data": {"n": "body.n", "keys": "body.keys"}},
)
# What the destination answers to an event: 204, a few times 503 and then 204, or 422.
Verdict = Literal["taken", "taken later", "refused"]


@dataclass
class Destination:
    """Notes what arrives for each key, and that nothing else of that key is under way."""

    verdicts: dict[tuple[str, int], Verdict] = field(default_factory=dict)
    arrived: defaultdict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    under_way: dict[tuple[str, str], int] = field(default_factory=dict)
    overlaps: list[tuple[str, int, int]] = field(default_factory=list)
    tries: defaultdict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    source: str = ""

    async def answer(self, request: Request) -> Response:
        data = orjson.loads(await request.body())["data"]
        n, keys = data["n"], [(self.source, key) for key in data["keys"]]
        for key in keys:
            other = self.under_way.get(key, n)
            if other != n:
                self.overlaps.append((key[1], other, n))
            self.under_way[key] = n
            self.arrived[key].append(n)
        await asyncio.sleep(0.02)
        for key in keys:
            self.under_way.pop(key, None)
        self.tries[self.source, n] += 1
        verdict = self.verdicts[self.source, n]
        if verdict == "refused":
            return error(422, "invalid_params", "refused")
        if verdict == "taken later" and self.tries[self.source, n] <= 2:
            return error(503, "unavailable", "down", retry_after="0")
        return JSONResponse({"workflow_run_id": "123e4567-e89b-12d3-a456-426614174000"})


@dataclass(frozen=True)
class Sent:
    """An event as the model knows it."""

    n: int
    message: int
    keys: tuple[str, ...]
    verdict: Verdict


EVENTS = st.tuples(
    st.sampled_from([("a",), ("a",), ("b",), ("c",), ("a", "b"), ("b", "c")]),
    st.sampled_from(["taken", "taken", "taken", "taken later", "refused"]),
    st.booleans(),
)


class OrderingMachine(RuleBasedStateMachine):
    """The model: what was sent, in its order. A message that was taken is a repeat when it comes again."""

    system: System[Destination]

    @initialize()
    def begin(self) -> None:
        self.sent: list[Sent] = []
        self.ids: list[UUID] = []
        self.source: BenchSource = self.system.wait(
            self.system.bench.source(
                "segment",
                mappings={"identify": [TRIGGER], "alias": [TRIGGER]},
                secret=None,
                enforce_verification=False,
            )
        )
        self.system.destination.source = self.source.key

    @rule(events=st.lists(EVENTS, min_size=1, max_size=6), together=st.booleans())
    def arrive(self, events: list[tuple[tuple[str, ...], Verdict, bool]], together: bool) -> None:
        """Events in one array, or one after the other; some of them are messages that came before."""
        new = []
        for keys, verdict, repeats in events:
            n, message = len(self.sent), len(self.sent)
            if repeats and self.sent:
                message, keys = self.sent[-1].message, self.sent[-1].keys
            self.sent.append(Sent(n, message, keys, verdict))
            self.system.destination.verdicts[self.source.key, n] = verdict
            new.append(self.sent[-1])
        self.system.wait(self._post([new] if together else [[each] for each in new]))

    async def _post(self, batches: list[list[Sent]]) -> None:
        for batch in batches:
            bodies = [
                {
                    "type": "alias" if len(each.keys) > 1 else "identify",
                    "userId": each.keys[0],
                    "previousId": each.keys[-1],
                    "messageId": f"m{each.message}",
                    "n": each.n,
                    "keys": each.keys,
                }
                for each in batch
            ]
            answer = await self.source.post(orjson.dumps(bodies), {"content-type": "application/json"})
            assert answer.status_code == 200, answer.text
        found = await self.source.bench.rows(
            "SELECT id FROM events WHERE source_key = :key ORDER BY received_order", key=self.source.key
        )
        self.ids = [row["id"] for row in found]

    @rule(position=st.integers(0, WORKERS - 1))
    def worker_crashes(self, position: int) -> None:
        self.system.wait(self.system.end_worker(position))
        self.system.wait(self.system.start_worker())

    @rule()
    def claims_are_lost(self) -> None:
        self.system.wait(self.system.lose_claims())

    @rule()
    def settle(self) -> None:
        """Every event has the status that the model says, and its calls came at its place."""
        executed, expected = self._model()
        events = [self.system.wait(self.system.bench.final(each, 80)) for each in self.ids]
        assert [each["status"] for each in events] == expected
        destination = self.system.destination
        for key in KEYS:
            arrived = [n for n, _ in groupby(destination.arrived[self.source.key, key])]
            assert arrived == [each.n for each in executed if key in each.keys], key

    def _model(self) -> tuple[list[Sent], list[str]]:
        """What is executed, and the statuses of all."""
        taken, executed, statuses = set[int](), list[Sent](), list[str]()
        for each in self.sent:
            if each.message in taken:
                statuses.append("idempotent")
                continue
            executed.append(each)
            statuses.append("failed" if each.verdict == "refused" else "succeeded")
            if each.verdict != "refused":
                taken.add(each.message)
        return executed, statuses

    def teardown(self) -> None:
        if hasattr(self, "source"):
            self.settle()
            assert self.system.destination.overlaps == []


@pytest.fixture
async def system(bench: Bench) -> AsyncIterator[System[Destination]]:
    destination = Destination()
    async with serve(Starlette(routes=[Route("/{path:path}", destination.answer, methods=["POST"])])) as url:
        await bench.use_destination(url)
        system = System(bench, destination)
        async with workers(system):
            yield system


async def test_model(system: System[Destination]) -> None:
    class Machine(OrderingMachine):
        pass

    Machine.system = system
    await asyncio.to_thread(
        run_state_machine_as_test,
        Machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=8,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
