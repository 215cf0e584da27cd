"""Events whose actions are tried again: trying now, and giving up."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.dependencies import SessionDep, TimelinesDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import example
from app.replays import retries

router = APIRouter(
    prefix="/sources/{key}/logs/{id}",
    tags=["Logs"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404], 409: RESPONSES[409]},
)


class AskedResponse(BaseModel):
    """The event that was asked for something, which its log entry shows in a moment."""

    model_config = example(log_id="01a20df1-e8fc-72f9-a988-19f172a42afd")

    log_id: UUID


@router.post("/try_now", summary="Try an event's actions now", status_code=202)
async def try_now(
    key: str, id: UUID, access: WriteAccess, session: SessionDep, timelines: TimelinesDep
) -> AskedResponse:
    """Try the actions of an event at once that wait for their next attempt. The attempts after it come at the
    usual times."""
    event = await retries.try_now(session, timelines, access, key, id)
    return AskedResponse(log_id=event.id)


@router.post("/give_up", summary="Give up on an event", status_code=202)
async def give_up(
    key: str, id: UUID, access: WriteAccess, session: SessionDep, timelines: TimelinesDep
) -> AskedResponse:
    """Try the actions of an event no more: it ends as failed, with who gave up. An attempt that is under way
    is not called back."""
    event = await retries.give_up(session, timelines, access, key, id)
    return AskedResponse(log_id=event.id)
