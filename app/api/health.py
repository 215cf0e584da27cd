"""Probes of the API process."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.runtime.health import postgres_problem, report

router = APIRouter(tags=["Health"])


@router.get("/livez", summary="Is the process alive?")
async def livez() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it accept events?")
async def readyz(request: Request) -> JSONResponse:
    """200 when events are accepted, else 503 that names what is down.

    Temporal is not asked: events are accepted while it is away, and processed when it is back.
    """
    status, body = report({"postgres": await postgres_problem(request.app.state.runtime)})
    return JSONResponse(body, status)
