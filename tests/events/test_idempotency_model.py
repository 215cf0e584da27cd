"""Random sequences of arrivals, failures at the destination, crashes and lost claims, against a model that
fits on a page: one successful execution for each key, and every event with the final status that the model
says."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.runtime.resources import Runtime
from app.runtime.temporal import connect
from app.worker.main import run_workers
from tests.bench import Bench, BenchSource
from tests.knock import error
from tests.servers import serve

FarSide = TypeVar("FarSide")

KEYS = ("a", "b", "c")
WORKERS = 2
TRIGGER = {
    "order.paid": [
        (
            "workflows_trigger",
            {"key": "paid", "recipients": "body.user", "data": {"key": "body.id", "n": "body.n"}},
        )
    ]
}


@dataclass
class Destination:
    """Refuses as many executions of each key as it was told to. An execution that is tried again is the same
    one."""

    refusals: Counter[str] = field(default_factory=Counter)
    verdicts: dict[tuple[str, str, int], bool] = field(default_factory=dict)
    requests: defaultdict[tuple[str, str, int], set[tuple[str, bytes]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    source: str = ""

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        data = orjson.loads(body)["data"]
        execution = (self.source, data["key"], data["n"])
        self.requests[execution].add((request.headers["idempotency-key"], body))
        if execution not in self.verdicts:
            refused = self.refusals[data["key"]] > 0
            self.refusals[data["key"]] -= refused
            self.verdicts[execution] = not refused
        await asyncio.sleep(0.1)
        if not self.verdicts[execution]:
            return error(422, "invalid_params", "refused")
        return JSONResponse({"workflow_run_id": "123e4567-e89b-12d3-a456-426614174000"})


class System(Generic[FarSide]):
    """Doorbell under test, for rules that run outside its event loop."""

    def __init__(self, bench: Bench, destination: FarSide) -> None:
        # A worker that is ended does not wait for what is in flight, and its claims are soon taken over.
        self.runtime: Runtime = replace(
            bench.runtime,
            settings=bench.runtime.settings.model_copy(
                update={
                    "graceful_shutdown": timedelta(0),
                    "claim_lease": timedelta(seconds=2),
                    "run_lease": timedelta(seconds=4),
                    "sweep_interval": timedelta(seconds=0.3),
                }
            ),
        )
        self.bench = bench
        self.destination = destination
        self.loop = asyncio.get_running_loop()
        self.workers: list[asyncio.Task[None]] = []

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(90)

    async def start_worker(self) -> None:
        ready = asyncio.Event()

        async def work() -> None:
            client = await connect(self.runtime.settings)
            async with run_workers(self.runtime, client, [self.bench.environment]):
                ready.set()
                await asyncio.Event().wait()

        self.workers.append(asyncio.create_task(work()))
        await ready.wait()

    async def end_worker(self, position: int) -> None:
        worker = self.workers.pop(position)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    async def lose_claims(self) -> None:
        """As when the clock of Postgres jumps: all leases have run out, and their claims are taken over."""
        async with self.bench.runtime.engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE events SET lease_expires_at = now() - interval '1 second' "
                    "WHERE environment = :environment AND status = 'processing'"
                ),
                {"environment": self.bench.environment},
            )


class IdempotencyMachine(RuleBasedStateMachine):
    """The model: by key, how many executions the destination still refuses, and the statuses that there must
    be."""

    system: System[Destination]

    @initialize()
    def begin(self) -> None:
        self.refusals = dict.fromkeys(KEYS, 0)
        self.expected: dict[str, Counter[str]] = {key: Counter() for key in KEYS}
        self.sent: dict[str, list[UUID]] = {key: [] for key in KEYS}
        self.number = 0
        self.source: BenchSource = self.system.wait(
            self.system.bench.source(
                "custom_http",
                mappings=TRIGGER,
                secret=None,
                enforce_verification=False,
                event_type_path="body.type",
                idempotency_key_path="body.id",
            )
        )
        self.system.destination.source = self.source.key
        self.system.destination.refusals.clear()

    @rule(key=st.sampled_from(KEYS), times=st.integers(1, 5), refusals=st.integers(0, 3))
    def arrive(self, key: str, times: int, refusals: int) -> None:
        """Repeats together, of which the destination refuses the first executions."""
        if refusals:
            # What is refused must be what comes now.
            self.settle()
            self.system.destination.refusals[key] += refusals
            self.refusals[key] += refusals
        self.system.wait(self._arrive(key, times))
        for _ in range(times):
            if self.expected[key]["succeeded"]:
                self.expected[key]["idempotent"] += 1
            elif self.refusals[key]:
                self.refusals[key] -= 1
                self.expected[key]["failed"] += 1
            else:
                self.expected[key]["succeeded"] += 1

    async def _arrive(self, key: str, times: int) -> None:
        bodies = []
        for _ in range(times):
            self.number += 1
            bodies.append({"type": "order.paid", "id": key, "user": "u", "n": self.number})
        answers = await asyncio.gather(*(self.source.post(orjson.dumps(body), {}) for body in bodies))
        self.sent[key] += [UUID(answer.json()["id"]) for answer in answers]

    @rule(position=st.integers(0, WORKERS - 1))
    def worker_crashes(self, position: int) -> None:
        self.system.wait(self.system.end_worker(position))
        self.system.wait(self.system.start_worker())

    @rule()
    def claims_are_lost(self) -> None:
        self.system.wait(self.system.lose_claims())

    @rule()
    def settle(self) -> None:
        """Every event gets the status that the model says; nothing that was sent is anything else."""
        for key, sent in self.sent.items():
            events = [self.system.wait(self.system.bench.final(each, 60)) for each in sent]
            assert Counter(event["status"] for event in events) == self.expected[key]
            succeeded = [event["id"] for event in events if event["status"] == "succeeded"]
            assert len(succeeded) <= 1
            duplicates = {event["duplicate_of"] for event in events if event["status"] == "idempotent"}
            assert duplicates <= set(succeeded)

    def teardown(self) -> None:
        if not hasattr(self, "source"):
            return
        self.settle()
        destination = self.system.destination
        ours = [each for each in destination.verdicts if each[0] == self.source.key]
        for key in KEYS:
            done = [each for each in ours if each[1] == key and destination.verdicts[each]]
            assert len(done) == self.expected[key]["succeeded"]
        assert all(len(destination.requests[each]) == 1 for each in ours), (
            "one logical call for each execution"
        )


@pytest.fixture
async def system(bench: Bench) -> AsyncIterator[System[Destination]]:
    destination = Destination()
    async with serve(Starlette(routes=[Route("/{path:path}", destination.answer, methods=["POST"])])) as url:
        await bench.use_destination(url)
        async with workers(System(bench, destination)) as system:
            yield system


@asynccontextmanager
async def workers(system: System[FarSide]) -> AsyncIterator[System[FarSide]]:
    for _ in range(WORKERS):
        await system.start_worker()
    try:
        yield system
    finally:
        while system.workers:
            await system.end_worker(0)


async def test_model(system: System[Destination]) -> None:
    class Machine(IdempotencyMachine):
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
