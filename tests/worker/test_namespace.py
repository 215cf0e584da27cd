"""Temporal's namespace is refused, deleted, made again or emptied: events wait, nothing fails and nothing is
executed twice."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client, Interceptor, OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from app.activities.maintenance import SCHEDULE_ID
from app.runtime.resources import Runtime
from app.runtime.temporal import connect
from app.stack import ports
from app.stack.processes import spawn
from app.stack.temporal import EmbeddedTemporal
from app.worker import events
from app.worker.main import run_workers
from tests.bench import Bench, BenchSource
from tests.knock import KnockServer
from tests.servers import eventually

ROOT = Path(__file__).parents[2]
TRIGGER = {
    "invoice.paid": [("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"})]
}
# What a server said of an installation that lacks something.
ATTRIBUTES = (
    "Namespace default has no mapping defined for search attribute DoorbellEnvironment",
    "search attribute DoorbellSource is not defined",
    "invalid value for search attribute DoorbellEventType of type Int: some",
    "number of search attributes 101 exceeds limit 100",
)


@pytest.fixture
async def source(bench: Bench, knock: KnockServer) -> BenchSource:
    await bench.use_destination(knock.url)
    return await bench.source("stripe", mappings=TRIGGER)


@pytest.fixture
def own_temporal(tmp_path: Path) -> Iterator[EmbeddedTemporal]:
    server = EmbeddedTemporal(tmp_path / "temporal", port=0, headless=True)
    server.start()
    yield server
    server.stop()


class Refusing(Interceptor):
    """A Temporal server that refuses starts, one after the other with each of these errors."""

    def __init__(self, errors: list[RPCError]) -> None:
        self.errors = errors

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        errors = self.errors

        class Starts(OutboundInterceptor):
            async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
                if errors:
                    raise errors.pop(0)
                return await super().start_workflow(input)

        return Starts(next)


async def test_no_fault_of_the_installation_fails_an_event(
    source: BenchSource,
    bench: Bench,
    runtime: Runtime,
    temporal: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "BACKOFF", 0.05)
    refusing = Refusing(
        [
            *(
                RPCError("namespace default is not there", status, b"")
                for status in RPCStatusCode
                if status is not RPCStatusCode.OK
            ),
            *(RPCError(said, RPCStatusCode.INVALID_ARGUMENT, b"") for said in ATTRIBUTES),
        ]
    )
    client = Client(**{**temporal.config(), "interceptors": [refusing]})
    async with run_workers(runtime, client, [bench.environment]):
        event = await source.send("invoice.paid")
        assert (await bench.final(event))["status"] == "succeeded"
    assert not refusing.errors


def test_what_is_too_large_for_temporal_is_the_fault_of_the_event() -> None:
    too_large = (
        "search attribute DoorbellEventType value size 4000 exceeds size limit 2048",
        "Blob data size exceeds limit.",
    )
    for said in too_large:
        assert events.is_too_large(RPCError(said, RPCStatusCode.INVALID_ARGUMENT, b""))


class OwnWorker:
    """A worker process that the test starts, looked at from outside."""

    def __init__(self, bench: Bench, temporal: EmbeddedTemporal, log: Path) -> None:
        settings = bench.runtime.settings
        assert settings.secret_key is not None
        [port] = ports.find_free("127.0.0.1", 1)
        self.url, self.log = f"http://127.0.0.1:{port}/readyz", log
        self._variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")},
            "DOORBELL_DATABASE_URL": str(settings.database_url),
            "DOORBELL_TEMPORAL_ADDRESS": temporal.address,
            "DOORBELL_SECRET_KEY": settings.secret_key.get_secret_value(),
            "DOORBELL_HOST": "127.0.0.1",
            "DOORBELL_WORKER_HEALTH_PORT": str(port),
            "DOORBELL_CLAIM_LEASE": "PT2S",
            "DOORBELL_SWEEP_INTERVAL": "PT1S",
        }
        self._environment = bench.environment
        self._process: Any = None

    def start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        with self.log.open("ab") as log:
            self._process = spawn(
                [sys.executable, "worker.py", "--environment", self._environment],
                output=log,
                environment=self._variables,
                directory=ROOT,
                death_signal=signal.SIGKILL,
            )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        """What it answers; whoever supervises it starts it again when it has ended."""
        self.start()
        async with httpx.AsyncClient() as client:
            try:
                answer = await client.get(self.url, timeout=5)
            except httpx.TransportError:
                return 0, {}
        return answer.status_code, answer.json()

    async def is_ready(self) -> bool:
        return (await self.readiness())[0] == 200


@pytest.fixture
async def own_worker(
    bench: Bench, own_temporal: EmbeddedTemporal, tmp_path: Path
) -> AsyncIterator[OwnWorker]:
    worker = OwnWorker(bench, own_temporal, tmp_path / "worker.log")
    worker.start()
    try:
        await eventually(worker.is_ready)
        yield worker
    finally:
        worker.kill()


async def client_of(runtime: Runtime, server: EmbeddedTemporal) -> Client:
    return await connect(runtime.settings.model_copy(update={"temporal_address": server.address}))


async def make_namespace_again(client: Client) -> None:
    """Without its search attributes, as an operator does by hand."""

    async def made() -> bool:
        try:
            await client.workflow_service.register_namespace(
                RegisterNamespaceRequest(
                    namespace="default", workflow_execution_retention_period=Duration(seconds=86400 * 2)
                )
            )
        except RPCError:
            return False
        return True

    await eventually(made)


async def test_events_wait_while_the_namespace_is_gone(
    source: BenchSource,
    bench: Bench,
    own_temporal: EmbeddedTemporal,
    own_worker: OwnWorker,
) -> None:
    client = await client_of(bench.runtime, own_temporal)
    sent = [await source.send("invoice.paid", id="evt_before")]
    assert (await bench.final(sent[0]))["status"] == "succeeded"
    await client.operator_service.delete_namespace(DeleteNamespaceRequest(namespace="default"))
    sent += [await source.send("invoice.paid") for _ in range(5)]

    async def not_ready() -> str | None:
        status, body = await own_worker.readiness()
        return str(body["temporal"]) if status == 503 and "does not exist" in body["temporal"] else None

    said = await eventually(not_ready)
    assert said == (
        "namespace default does not exist: `temporal operator namespace create --namespace default`"
    )
    await make_namespace_again(client)
    sent += [await source.send("invoice.paid") for _ in range(5)]
    await eventually(own_worker.is_ready)
    assert {(await bench.final(each))["status"] for each in sent} == {"succeeded"}
    repeat = await bench.final(await source.send("invoice.paid", id="evt_before"))
    assert repeat["status"] == "idempotent", "the event log knows what Temporal has lost"


async def test_temporal_wiped(
    source: BenchSource,
    bench: Bench,
    knock: KnockServer,
    own_temporal: EmbeddedTemporal,
    own_worker: OwnWorker,
) -> None:
    names = [f"evt_{number}" for number in range(20)]
    sent = [await source.send("invoice.paid", id=each) for each in names]
    for each in sent:
        assert (await bench.final(each))["status"] == "succeeded"
    before = await namespace_id(bench.runtime, own_temporal)
    await asyncio.to_thread(own_temporal.stop)
    for file in own_temporal.data_dir.glob("temporal.db*"):
        file.unlink()
    await asyncio.to_thread(own_temporal.start)
    assert await namespace_id(bench.runtime, own_temporal) != before

    repeats = [await source.send("invoice.paid", id=each) for each in names]
    found = [await bench.final(each) for each in repeats]
    assert [(each["status"], str(each["duplicate_of"])) for each in found] == [
        ("idempotent", each) for each in sent
    ]
    assert len(knock.calls) == len(names)

    async def noticed() -> bool:
        _, body = await own_worker.readiness()
        return "is another one since" in body.get("notice", "")

    await eventually(noticed)
    client = await client_of(bench.runtime, own_temporal)
    await eventually(lambda: has_schedule(client))
    assert (await bench.final(await source.send("invoice.paid")))["status"] == "succeeded"


async def namespace_id(runtime: Runtime, server: EmbeddedTemporal) -> str:
    client = await client_of(runtime, server)
    answer = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    return str(answer.namespace_info.id)


async def has_schedule(client: Client) -> bool:
    try:
        await client.get_schedule_handle(SCHEDULE_ID).describe()
    except RPCError:
        return False
    return True
