"""What Doorbell is measured against, in the same run on the same servers.

uvicorn bench.references:app     POST /nothing: reads the body and answers; POST /insert: one INSERT and
commit;
                                 POST /v1/traces: as /nothing, where a process under test may send its traces
python -m bench.references ...   empty Temporal workflows, started eagerly from the worker's own client
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from app.models.contracts import EventRef
from app.models.types import new_id

with workflow.unsafe.imports_passed_through():
    from temporalio.contrib.pydantic import pydantic_data_converter

TASK_QUEUE = "bench-empty"
_INSERT = text("INSERT INTO bench_bodies (id, body) VALUES (:id, :body)")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.engine = create_async_engine(os.environ["DOORBELL_DATABASE_URL"], pool_size=20, max_overflow=0)
    async with app.state.engine.begin() as connection:
        await connection.execute(
            text("CREATE TABLE IF NOT EXISTS bench_bodies (id uuid PRIMARY KEY, body bytea)")
        )
    yield
    await app.state.engine.dispose()


app = FastAPI(lifespan=_lifespan)


@app.post("/nothing")
@app.post("/v1/traces")
async def nothing(request: Request) -> dict[str, bool]:
    await request.body()
    return {"success": True}


@app.post("/insert")
async def insert(request: Request) -> dict[str, bool]:
    body = await request.body()
    async with request.app.state.engine.begin() as connection:
        await connection.execute(_INSERT, {"id": new_id(), "body": body})
    return {"success": True}


@workflow.defn(name="Empty")
class Empty:
    """Takes what an event's workflow takes, and does nothing."""

    @workflow.run
    async def run(self, event: EventRef) -> None:
        return None


async def empty_workflows(address: str, seconds: float, in_flight: int) -> dict[str, float]:
    """Empty workflows a second, with a bounded number in flight, and the CPU that this process spent on
    each."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    done = 0
    async with Worker(
        client, task_queue=TASK_QUEUE, workflows=[Empty], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        cpu, began = time.process_time(), time.perf_counter()
        end = began + seconds

        async def keep_going() -> None:
            nonlocal done
            while time.perf_counter() < end:
                event = EventRef(event_id=new_id(), environment="bench", source_key="bench")
                await client.execute_workflow(
                    Empty.run,
                    event,
                    id=f"empty/{event.event_id}",
                    task_queue=TASK_QUEUE,
                    request_eager_start=True,
                )
                done += 1

        await asyncio.gather(*(keep_going() for _ in range(in_flight)))
        elapsed = time.perf_counter() - began
    return {
        "rate": done / elapsed,
        "done": done,
        "worker_cpu_ms": (time.process_time() - cpu) * 1000 / max(done, 1),
    }


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--in-flight", type=int, default=40)
    chosen = parser.parse_args()
    json.dump(uvloop.run(empty_workflows(chosen.address, chosen.seconds, chosen.in_flight)), sys.stdout)
    sys.stdout.flush()
    # The interpreter must not be finalised after temporalio was used: see app/runtime/process.py.
    os._exit(0)


if __name__ == "__main__":
    main()
