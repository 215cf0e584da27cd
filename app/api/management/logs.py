"""What a source received: its log, the event types in it, and how much there was."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BeforeValidator, StringConstraints

from app.api.dependencies import RuntimeDep, SessionDep, TimelinesDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import (
    DefaultedEnvironmentDep,
    EnvironmentDep,
    PageDep,
    ReadAccess,
    separated,
)
from app.api.management.log_schemas import LogDetailResponse, LogResponse, log_detail_response, log_response
from app.api.management.request import ManagementRoute
from app.api.management.schemas import (
    Entries,
    EntriesPage,
    SourceEventResponse,
    SourceEventSampleResponse,
    SourceStatusResponse,
    page_of,
)
from app.logs.activity import get_activity
from app.logs.event_types import list_event_types
from app.logs.filters import LogFilter
from app.logs.listing import get_entry, list_log
from app.logs.samples import get_sample
from app.models.status import ActionStatus, EventStatus, VerificationStatus
from app.models.types import LATEST, Moment, in_utc
from app.sources.changes import known_action_type
from app.sources.store import find_source, get_configured

router = APIRouter(
    prefix="/sources/{key}",
    tags=["Logs"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)
across = APIRouter(prefix="/logs", tags=["Logs"], route_class=ManagementRoute)
# What answers call an action's success is not what its row does.
ACTION_STATUSES = {
    "pending": ActionStatus.PENDING,
    "success": ActionStatus.SUCCEEDED,
    "skipped": ActionStatus.SKIPPED,
    "failed": ActionStatus.FAILED,
}

Include = Annotated[
    list[Literal["actions"]],
    BeforeValidator(separated),
    Query(description="`actions` shows the actions that each event ran."),
]


Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]
ActionName = Annotated[str, AfterValidator(known_action_type)]
ActionStatusName = Literal["pending", "success", "skipped", "failed"]


async def environment_log(
    environment: EnvironmentDep,
    source: Annotated[str | None, Query(description="Only this source.")] = None,
    event: Annotated[str | None, Query(description="Only this event type.")] = None,
    status: Annotated[EventStatus | None, Query(description="Only this status (Doorbell's own).")] = None,
    idempotent: Annotated[
        bool | None, Query(description="Only repeats, or only events that are none (Doorbell's own).")
    ] = None,
    verification_status: Annotated[
        VerificationStatus | None, Query(description="Only this verification status (Doorbell's own).")
    ] = None,
    id: Annotated[UUID | None, Query(description="Only the entry with this id.")] = None,
    idempotency_key: Annotated[
        Text | None, Query(description="Only this idempotency key (Doorbell's own).")
    ] = None,
    action_type: Annotated[
        ActionName | None, Query(description="Only events that ran this action (Doorbell's own).")
    ] = None,
    action_status: Annotated[
        ActionStatusName | None,
        Query(description="Only events with an action of this status (Doorbell's own)."),
    ] = None,
    search: Annotated[
        Text | None,
        Query(
            description="Only events with this text in their body, case-sensitive. Needs `starting_at` or "
            "`date`, and looks at 31 days at most (Doorbell's own)."
        ),
    ] = None,
    date: Annotated[date | None, Query(description="Only this day, in UTC.")] = None,
    replay_id: Annotated[
        UUID | None, Query(description="Only what this replay of many events made (Doorbell's own).")
    ] = None,
    starting_at: Annotated[Moment | None, Query(description="Only at or after this time.")] = None,
    ending_at: Annotated[Moment | None, Query(description="Only at or before this time.")] = None,
) -> LogFilter:
    """The filters of a query."""
    starts, ends = [starting_at], [ending_at]
    if date is not None:
        midnight = datetime.combine(date, time(), tzinfo=UTC)
        starts.append(in_utc(midnight))
        ends.append(in_utc(midnight + timedelta(days=1, milliseconds=-1)) if midnight < LATEST else LATEST)
    return LogFilter(
        environment=environment,
        source_key=source,
        event_type=event,
        status=status,
        idempotent=idempotent,
        verification_status=verification_status,
        id=id,
        idempotency_key=idempotency_key,
        action_type=action_type,
        action_status=ACTION_STATUSES[action_status] if action_status else None,
        search=search,
        replay_id=replay_id,
        starting_at=max(filter(None, starts), default=None),
        ending_at=min(filter(None, ends), default=None),
    )


async def source_log(key: str, wanted: Annotated[LogFilter, Depends(environment_log)]) -> LogFilter:
    """The filters of a query for the source of the path."""
    return replace(wanted, source_key=key)


@router.get(
    "/logs",
    summary="List source logs",
    response_model=EntriesPage[LogResponse],
    response_model_exclude_unset=True,
)
async def list_logs(
    key: str,
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    wanted: Annotated[LogFilter, Depends(source_log)],
    page: PageDep,
    include: Include = [],  # noqa: B006
) -> EntriesPage[LogResponse]:
    """What the source received in an environment, newest first, and what became of it."""
    await find_source(session, key)
    found = await list_log(session, runtime.box, wanted, page, with_actions=bool(include))
    return page_of(
        found,
        LogResponse,
        lambda entry: log_response(entry, runtime.settings, with_actions=bool(include)),
    )


@across.get(
    "",
    summary="List logs",
    response_model=EntriesPage[LogResponse],
    response_model_exclude_unset=True,
)
async def list_logs_of_all_sources(
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    wanted: Annotated[LogFilter, Depends(environment_log)],
    page: PageDep,
    include: Include = [],  # noqa: B006
) -> EntriesPage[LogResponse]:
    """What all sources received in an environment, newest first (Doorbell's own)."""
    found = await list_log(session, runtime.box, wanted, page, with_actions=bool(include))
    return page_of(
        found,
        LogResponse,
        lambda entry: log_response(entry, runtime.settings, with_actions=bool(include)),
    )


@router.get("/logs/{id}", summary="Get a log entry")
async def read_log(
    key: str,
    id: UUID,
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    timelines: TimelinesDep,
) -> LogDetailResponse:
    """An event whole, with its actions, and how its workflow ran: every step, attempt and failure, and what
    is pending (Doorbell's own)."""
    entry = await get_entry(session, runtime.box, key, id)
    await session.close()
    timeline = await timelines.of_event(entry.event)
    return log_detail_response(entry, runtime.settings, timeline)


@router.get("/events", summary="List source events")
async def list_events(
    key: str, access: ReadAccess, session: SessionDep, environment: DefaultedEnvironmentDep
) -> Entries[SourceEventResponse]:
    """The event types that the source received in the last 30 days, by name."""
    await find_source(session, key)
    types = await list_event_types(session, environment, key)
    return Entries[SourceEventResponse](
        entries=[SourceEventResponse(event=event, last_received_at=moment) for event, moment in types]
    )


@router.get("/events/{event:path}/sample", summary="Get a sample of a source event")
async def read_sample(
    key: str,
    event: str,
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    environment: DefaultedEnvironmentDep,
) -> SourceEventSampleResponse:
    """What a mapping of the event type reads: the latest one received, else the provider's example.

    Doorbell's own path.
    """
    source = await find_source(session, key)
    sample = await get_sample(session, runtime.box, source, environment, event)
    return SourceEventSampleResponse(
        event=sample.event_type,
        origin=sample.origin,
        body=sample.body,
        headers=sample.headers,
        preprocess=sample.preprocess,
        log_id=sample.id,
        received_at=sample.received_at,
    )


@router.get("/status", summary="Get source status")
async def read_status(
    key: str, access: ReadAccess, session: SessionDep, environment: DefaultedEnvironmentDep
) -> SourceStatusResponse:
    """How much the source received in the last 30 days, and when last."""
    configured = await get_configured(session, key, environment)
    activity = await get_activity(session, environment, key, configured.id)
    return SourceStatusResponse(
        events_count=activity.events_count,
        last_event_received=activity.last_received_at,
        mappings_count=activity.mappings_count,
        mappings_requiring_commit=[],
    )
