"""Replays of many events of a source: counted, started, followed, cancelled. Doorbell's own."""

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import EnvironmentDep, PageDep, ReadAccess, WriteAccess
from app.api.management.logs import ACTION_STATUSES, ActionName, ActionStatusName, Text
from app.api.management.request import ManagementRoute
from app.api.management.schemas import EntriesPage, Json, Timestamp, WrappedRequest, example, page_of
from app.models.replay import Replay
from app.models.status import EventStatus, ReplayMappings, ReplayStatus, VerificationStatus
from app.models.types import now
from app.replays.many import (
    DEFAULT_RATE,
    MAXIMUM_FAILURES,
    MAXIMUM_OLDER,
    MAXIMUM_RATE,
    Matches,
    Older,
    ReplayFilter,
    cancel_replay,
    count_matches,
    count_older,
    count_outcomes,
    get_replay,
    list_replays,
    start_replay,
)

router = APIRouter(
    prefix="/sources/{key}/replays",
    tags=["Replays"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)


class FilterRequest(BaseModel):
    """Which events. Without a filter, all that a service sent and that are over, but not repeats."""

    model_config = ConfigDict(extra="forbid")

    event: Text | None = Field(None, description="Only this event type.")
    status: Literal["succeeded", "failed", "idempotent", "rejected", "ignored"] | None = Field(
        None, description="Only this status. Repeats (`idempotent`) are replayed only when asked for so."
    )
    verification_status: VerificationStatus | None = Field(None, description="Only this verification status.")
    action_type: ActionName | None = Field(None, description="Only events that ran this action.")
    action_status: ActionStatusName | None = Field(
        None, description="Only events with an action of this status."
    )
    starting_at: Timestamp | None = Field(None, description="Only received at or after this time.")
    ending_at: Timestamp | None = Field(None, description="Only received at or before this time.")
    include_replays: bool = Field(False, description="Also what replays and rehearsals made.")

    def wanted(self) -> ReplayFilter:
        """The filter in the words of the log."""
        fields = dict(self)
        if self.status:
            fields["status"] = EventStatus(self.status)
        if self.action_status:
            fields["action_status"] = ACTION_STATUSES[self.action_status]
        return ReplayFilter(**fields)


class ReplaysRequest(BaseModel):
    """What to replay, and how."""

    model_config = ConfigDict(extra="forbid")

    filter: FilterRequest = FilterRequest()
    mappings: ReplayMappings = Field(
        ReplayMappings.CURRENT, description="As for the replay of one event: `current` or `original`."
    )
    rate_limit_per_second: int = Field(
        DEFAULT_RATE, ge=1, le=MAXIMUM_RATE, description="Events to replay in a second at most."
    )
    dry_run: bool = Field(False, description="Only say how many events match.")


class WrappedReplaysRequest(WrappedRequest):
    """A replay of many under the key `replay`."""

    model_config = example(
        replay={
            "filter": {"event": "invoice.paid", "status": "failed", "starting_at": "2026-01-15T00:00:00Z"},
            "mappings": "current",
            "rate_limit_per_second": 20,
            "dry_run": False,
        }
    )

    replay: ReplaysRequest = ReplaysRequest()


class FailureResponse(BaseModel):
    """An event that could not be replayed."""

    log_id: UUID
    message: str = Field(description="Why not.")


_REPLAY = {
    "id": "01a20df1-e8fc-72f9-a988-19f172a42afd",
    "environment": "development",
    "source_key": "stripe",
    "status": "running",
    "filter": {"event": "invoice.paid", "status": "failed"},
    "mappings": "current",
    "rate_limit_per_second": 20,
    "started_by": "ci",
    "total": 200,
    "replayed": 140,
    "failed": 1,
    "payloads_missing": 0,
    "events_missing": 0,
    "failures": [
        {
            "log_id": "01a20df0-1111-72f9-a988-19f172a42afd",
            "message": "has no actions to send again; replay it with the mappings of now",
        }
    ],
    "outcomes": {"succeeded": 131, "processing": 9},
    "error": None,
    "created_at": "2026-01-15T12:00:00Z",
    "started_at": "2026-01-15T12:00:00Z",
    "finished_at": None,
}


class ManyReplayResponse(BaseModel):
    """A replay of many events, and how far it is."""

    model_config = example(**_REPLAY)

    id: UUID
    environment: str
    source_key: str
    status: ReplayStatus
    filter: Json = Field(description="As it was asked for.")
    mappings: ReplayMappings
    rate_limit_per_second: int
    started_by: str = Field(description="The service token's name.")
    total: int = Field(description="Events that matched when it was started.")
    replayed: int = Field(description="Events run again so far. Each is a log entry with this `replay_id`.")
    failed: int = Field(description="Events that could not be run again.")
    payloads_missing: int = Field(description="Events whose payload retention or an erasure took.")
    events_missing: int = Field(
        description="Events that retention deleted from the log during the replay; 0 until it is completed."
    )
    failures: list[FailureResponse] = Field(
        description=f"Which could not be replayed, and why: the first {MAXIMUM_FAILURES}."
    )
    outcomes: dict[str, int] | None = Field(
        description="What became of the new events, by status; null in lists."
    )
    error: str | None = Field(description="Why it ended before its time.")
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None


class WrappedManyReplayResponse(BaseModel):
    """A replay under the key `replay`."""

    model_config = example(replay=_REPLAY)

    replay: ManyReplayResponse


class OlderResponse(BaseModel):
    """Events that a replay would send in part or not at all, because later events changed the same thing."""

    events: int = Field(description="How many of the first matches.")
    looked_at: int = Field(
        description=f"How many of the first matches were looked at: {MAXIMUM_OLDER} at most."
    )


class StartedReplayResponse(BaseModel):
    """What matches, and the replay of it unless it was a dry run."""

    model_config = example(
        total=200,
        sample=["01a20df0-1111-72f9-a988-19f172a42afd"],
        older=None,
        replay={**_REPLAY, "status": "queued", "replayed": 0, "failed": 0, "failures": [], "outcomes": {}},
    )

    total: int = Field(description="How many events match.")
    sample: list[UUID] = Field(description="The first of them.")
    older: OlderResponse | None = Field(
        description="How many are older than what was applied since; null when the replay was started."
    )
    replay: ManyReplayResponse | None = Field(description="Null for a dry run.")


def _response(replay: Replay, outcomes: dict[str, int] | None = None) -> ManyReplayResponse:
    stored = replay.model_dump(exclude={"position", "updated_at"})
    return ManyReplayResponse(**stored, events_missing=replay.events_missing, outcomes=outcomes)


def _started(
    matches: Matches, replay: Replay | None = None, older: Older | None = None
) -> StartedReplayResponse:
    return StartedReplayResponse(
        total=matches.total,
        sample=matches.sample,
        older=None if older is None else OlderResponse(events=older.number, looked_at=older.looked_at),
        replay=None if replay is None else _response(replay, {}),
    )


@router.post(
    "",
    summary="Replay many events",
    status_code=201,
    responses={200: {"model": StartedReplayResponse, "description": "A dry run."}, 409: RESPONSES[409]},
)
async def replay_events(
    key: str,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    environment: EnvironmentDep,
    response: Response,
    body: WrappedReplaysRequest | None = None,
) -> StartedReplayResponse:
    """Run all events again that match and are over by now, oldest first, at a limited rate. With `dry_run`,
    only count them. One replay of a source and environment at a time; a worker of the environment does it."""
    asked = (body or WrappedReplaysRequest()).replay
    wanted = asked.filter.wanted()
    if asked.dry_run:
        response.status_code = 200
        moment = now()
        matches = await count_matches(session, key, environment, wanted, at=moment)
        older = await count_older(session, runtime, key, environment, wanted, at=moment)
        return _started(matches, older=older)
    replay, matches = await start_replay(
        session,
        runtime,
        access,
        key,
        environment,
        wanted,
        mappings=asked.mappings,
        rate_limit_per_second=asked.rate_limit_per_second,
    )
    await session.commit()
    return _started(matches, replay)


@router.get("", summary="List replays")
async def list_all_replays(
    key: str, access: ReadAccess, session: SessionDep, environment: EnvironmentDep, page: PageDep
) -> EntriesPage[ManyReplayResponse]:
    """The source's replays of many events in an environment, newest first."""
    return page_of(await list_replays(session, key, environment, page), ManyReplayResponse, _response)


@router.get("/{id}", summary="Get a replay")
async def read_replay(
    key: str, id: UUID, access: ReadAccess, session: SessionDep
) -> WrappedManyReplayResponse:
    """How far a replay is, and what became of the events that it made."""
    replay = await get_replay(session, key, id)
    return WrappedManyReplayResponse(replay=_response(replay, await count_outcomes(session, id)))


@router.post("/{id}/cancel", summary="Cancel a replay", responses={409: RESPONSES[409]})
async def stop_replay(
    key: str, id: UUID, access: WriteAccess, session: SessionDep
) -> WrappedManyReplayResponse:
    """Make no further events. Those that were made go on."""
    replay = await cancel_replay(session, access, key, id)
    await session.commit()
    return WrappedManyReplayResponse(replay=_response(replay, await count_outcomes(session, id)))
