"""Rehearsals of payloads, and replays of events that are in the log."""

from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES, ErrorDetail
from app.api.management.dependencies import EnvironmentDep, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Json, WrappedRequest, example
from app.models.status import ReplayMappings
from app.replays.one import Rehearsal, rehearse, replay

router = APIRouter(
    prefix="/sources/{key}",
    tags=["Sources"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)


class RehearsalRequest(BaseModel):
    """A payload to rehearse."""

    model_config = example(
        payload={
            "body": {"type": "order.created", "order_id": "ord_123"},
            "headers": {"content-type": "application/json"},
        }
    )

    payload: Json = Field(
        description="`body` and `headers` of an event; without `body`, it is the body itself."
    )


class RehearsalResponse(BaseModel):
    """What came of a rehearsal."""

    model_config = example(
        log_id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        status="ok",
        action_logs_count=1,
        successful_action_logs_count=1,
        failed_action_logs_count=0,
        errors=None,
    )

    log_id: UUID | None = Field(description="The entry in the source's log; its `source` is `rehearsal`.")
    status: Literal["ok", "error"] = Field(description="Whether it came through without errors.")
    action_logs_count: int
    successful_action_logs_count: int
    failed_action_logs_count: int
    errors: list[ErrorDetail] | None = Field(description="What failed or was skipped, and why.")


def _response(found: Rehearsal) -> RehearsalResponse:
    return RehearsalResponse(
        log_id=found.event_id,
        status="error" if found.errors or found.failed else "ok",
        action_logs_count=found.actions,
        successful_action_logs_count=found.succeeded,
        failed_action_logs_count=found.failed,
        errors=[ErrorDetail(field=each.field, message=each.message) for each in found.errors] or None,
    )


@router.post("/rehearse", summary="Rehearse a source event")
async def rehearse_source(
    key: str,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    environment: EnvironmentDep,
    body: RehearsalRequest,
) -> RehearsalResponse:
    """Send a payload the whole way of an event, without a signature, and wait for its result: its actions
    really run. Not possible in production environments."""
    return _response(await rehearse(session, runtime, key, environment, body.payload))


class ReplayRequest(BaseModel):
    """How to replay."""

    model_config = ConfigDict(extra="forbid")

    mappings: ReplayMappings = Field(
        ReplayMappings.CURRENT,
        description="`current`: identify and map the event as configured now. `original`: send the actions "
        "as they were evaluated then; of a failed event those that did not succeed, else all.",
    )


class WrappedReplayRequest(WrappedRequest):
    """A replay under the key `replay`."""

    model_config = example(replay={"mappings": "current"})

    replay: ReplayRequest = ReplayRequest()


class ReplayResponse(BaseModel):
    """A replay that was started."""

    log_id: UUID = Field(description="The new entry in the source's log.")
    replay_of: UUID = Field(description="The entry that is run again.")
    mappings: ReplayMappings


class WrappedReplayResponse(BaseModel):
    """A replay under the key `replay`."""

    model_config = example(
        replay={
            "log_id": "01a20df1-e8fc-72f9-a988-19f172a42afd",
            "replay_of": "01a20df0-1111-72f9-a988-19f172a42afd",
            "mappings": "current",
        }
    )

    replay: ReplayResponse


@router.post("/logs/{id}/replay", summary="Replay an event", status_code=201, responses={409: RESPONSES[409]})
async def replay_event(
    key: str,
    id: UUID,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    body: WrappedReplayRequest | None = None,
) -> WrappedReplayResponse:
    """Run an event again, whatever its idempotency key says. A new entry of the log shows what comes of
    it."""
    mappings = (body or WrappedReplayRequest()).replay.mappings
    log_id = await replay(session, runtime, key, id, mappings)
    return WrappedReplayResponse(replay=ReplayResponse(log_id=log_id, replay_of=id, mappings=mappings))
