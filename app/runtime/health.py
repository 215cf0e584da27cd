"""What is up and what is down, for the probes of both kinds of process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.core.errors import ConfigurationError
from app.runtime.resources import Runtime
from app.runtime.side_server import serve_beside

if TYPE_CHECKING:
    from temporalio.client import Client

TIMEOUT = 2.0
# Of a process that was asked to stop: it finishes what is in flight.
STOPPING = "is stopping"

_CHANGED_AT = text("""
SELECT changed_at FROM temporal_namespaces WHERE name = :name AND changed_at > now() - interval '1 day'
""")


async def postgres_problem(runtime: Runtime) -> str | None:
    """Why Postgres cannot be used now, or None."""
    try:
        async with asyncio.timeout(TIMEOUT), runtime.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    except (SQLAlchemyError, OSError) as error:
        return type(error).__name__
    return None if runtime.configuration.loaded else "the configuration is not read yet"


async def temporal_problem(client: "Client | None") -> str | None:
    """Why Temporal cannot be used now, or None."""
    if client is None:
        return "not connected yet"
    from temporalio.service import RPCError

    try:
        async with asyncio.timeout(TIMEOUT):
            healthy = await client.service_client.check_health()
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    except RPCError as error:
        return error.status.name.lower()
    except RuntimeError:
        # What a lazy client raises when it cannot connect.
        return "cannot be reached"
    return None if healthy else "not serving"


async def namespace_problem(client: "Client") -> str | None:
    """Why Temporal's namespace cannot be used now, with what mends it, or None."""
    from app.runtime import temporal

    try:
        async with asyncio.timeout(TIMEOUT):
            return await temporal.namespace_problem(client)
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"


async def namespace_notice(state: "WorkerState") -> str | None:
    """That the namespace has been another one for less than a day, if so: its runs before are gone."""
    if state.temporal is None:
        return None
    try:
        async with asyncio.timeout(TIMEOUT), state.runtime.engine.connect() as connection:
            changed_at = await connection.scalar(_CHANGED_AT, {"name": state.temporal.namespace})
    except (TimeoutError, SQLAlchemyError, OSError):
        return None
    if changed_at is None:
        return None
    return (
        f"namespace {state.temporal.namespace} is another one since {changed_at:%Y-%m-%d %H:%M:%SZ}: what "
        "Temporal knew before is gone; events that it was executing then are executed again"
    )


async def services_problems(
    runtime: Runtime, connect: Callable[[], Awaitable["Client"]]
) -> dict[str, str | None]:
    """Of each service that Doorbell stands on: why it cannot be used now, or None. `connect` gives a client
    of Temporal."""
    try:
        temporal = await temporal_problem(await connect())
    except ConfigurationError as error:
        temporal = str(error)
    return {"Postgres": await postgres_problem(runtime), "Temporal": temporal}


def report(problems: dict[str, str | None]) -> tuple[int, dict[str, object]]:
    """Status code and body of a readiness answer: 503 names what is down and why."""
    down = {name: problem for name, problem in problems.items() if problem is not None}
    body: dict[str, object] = {
        "status": "unavailable" if down else "ok",
        **{name: problems[name] or "ok" for name in problems},
    }
    return (503 if down else 200), body


@dataclass
class WorkerState:
    """What a worker's probes look at. `is_working`: it executes events."""

    runtime: Runtime
    stop: asyncio.Event
    temporal: "Client | None" = None
    is_working: bool = False

    async def temporal_problem(self) -> str | None:
        """Why nothing can be executed by Temporal now, or None."""
        if problem := await temporal_problem(self.temporal):
            return problem
        if self.temporal and (problem := await namespace_problem(self.temporal)):
            return problem
        return None if self.is_working else "not connected yet"


@asynccontextmanager
async def serve_worker(runtime: Runtime, stop: asyncio.Event) -> AsyncIterator[WorkerState]:
    """Serve a worker's /livez and /readyz on DOORBELL_WORKER_HEALTH_PORT, when it is set. The worker is not
    ready from `stop` on."""
    state = WorkerState(runtime, stop)
    port = runtime.settings.worker_health_port
    if port is None:
        yield state
        return
    async with serve_beside(_worker_app(state), runtime.settings.host, port, "DOORBELL_WORKER_HEALTH_PORT"):
        yield state


def _worker_app(state: WorkerState) -> Starlette:
    async def livez(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> JSONResponse:
        status, body = report(
            {
                "process": STOPPING if state.stop.is_set() else None,
                "postgres": await postgres_problem(state.runtime),
                "temporal": await state.temporal_problem(),
            }
        )
        if notice := await namespace_notice(state):
            body["notice"] = notice
        return JSONResponse(body, status)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz)])
