"""Probes of the API process."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.runtime.health import STOPPING, postgres_problem, report

router = APIRouter(tags=["Health"])


@router.get("/livez", summary="Is the process alive?")
async def livez() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it accept events?")
async def readyz(request: Request) -> JSONResponse:
    """200 when events are accepted, else 503 that names the reason. Writes are tried with an event that is
    rolled back. A process that was asked to stop is not ready, and accepts events until it stops to listen.

    Temporal is not asked: events are accepted while it is away, and processed when it is back.
    """
    state = request.app.state
    postgres = await postgres_problem(state.runtime)
    writes = postgres or await state.write_probe.problem()
    problems = {"process": STOPPING if state.is_stopping else None, "postgres": postgres, "writes": writes}
    status, body = report(problems)
    return JSONResponse(body, status)
