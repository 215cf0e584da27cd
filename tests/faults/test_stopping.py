"""Processes that start and stop: they end when they are asked to, whatever is unavailable, and say when they
are ready."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx
from cryptography.fernet import Fernet

from app.stack.temporal import EmbeddedTemporal
from tests.bench import Bench, BenchSource
from tests.faults.cluster import ROOT, Process
from tests.faults.conftest import StartProcess
from tests.knock import KnockServer
from tests.servers import eventually

TYPE = "invoice.paid"


async def test_a_worker_that_waits_for_postgres_stops_on_sigterm(
    temporal_server: EmbeddedTemporal, tmp_path: Path
) -> None:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "worker.py", "--environment", "development"),
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")},
            "DOORBELL_DATABASE_URL": f"postgresql://postgres@/none?host={tmp_path}",
            "DOORBELL_TEMPORAL_ADDRESS": temporal_server.address,
            "DOORBELL_SECRET_KEY": Fernet.generate_key().decode(),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(60):
            # Said when it begins to wait, and once a minute from then on.
            while b"configuration_unreadable" not in await worker.stdout.readline():
                continue
            worker.send_signal(signal.SIGTERM)
            await worker.stdout.read()
            assert await worker.wait() == 0
    finally:
        if worker.returncode is None:
            worker.kill()


async def delivered(client: httpx.AsyncClient, api: Process, source: BenchSource) -> int | None:
    """The status of a delivery; None when nobody listens."""
    body = source.example(TYPE)
    try:
        answer = await client.post(f"{api.url}{source.path}", content=body, headers=source.signed(body))
    except httpx.TransportError:
        return None
    return answer.status_code


async def test_an_api_takes_deliveries_from_its_first_answer_until_it_stops_to_listen(
    bench: Bench, start_process: StartProcess
) -> None:
    source = await bench.source()
    api = start_process("api")
    # A connection for each request: one that is open says nothing about who listens.
    async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0)) as client:
        first = await eventually(lambda: delivered(client, api, source))
        assert first == 200
        ready = await client.get(f"{api.url}/readyz")
        body = {"status": "ok", "process": "ok", "postgres": "ok", "writes": "ok"}
        assert (ready.status_code, ready.json()) == (200, body)

        api.terminate()
        await eventually(lambda: is_stopping(client, api))
        statuses = []
        while (status := await delivered(client, api, source)) is not None:
            statuses.append(status)
        assert set(statuses) == {200}
    await eventually(api.has_ended)


async def test_a_worker_that_drains_is_not_ready(
    bench: Bench, knock: KnockServer, start_process: StartProcess
) -> None:
    await bench.use_destination(knock.url)
    mappings = {TYPE: [("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"})]}
    source = await bench.source(mappings=mappings)
    knock.gate = asyncio.Event()
    worker = start_process(
        "worker", "--environment", bench.environment, port_of="DOORBELL_WORKER_HEALTH_PORT"
    )
    async with httpx.AsyncClient() as client:
        await eventually(lambda: worker.is_ready(client))
        event = await source.send(TYPE)
        await eventually(lambda: knock.calls)
        worker.terminate()
        await eventually(lambda: is_stopping(client, worker))
        knock.gate.set()
        assert (await bench.final(event))["status"] == "succeeded"
    await eventually(worker.has_ended)


async def is_stopping(client: httpx.AsyncClient, process: Process) -> bool:
    ready = await client.get(f"{process.url}/readyz")
    return ready.status_code == 503 and ready.json()["process"] == "is stopping"
