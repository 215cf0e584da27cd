"""What a source received: its log, the event types in it, and how much there was."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from app.api.errors import RESPONSES
from app.api.management.dependencies import (
    DefaultedEnvironmentDep,
    EnvironmentDep,
    PageDep,
    ReadAccess,
    RuntimeDep,
    SessionDep,
    separated,
)
from app.api.management.request import ManagementRoute
from app.api.management.schemas import (
    Entries,
    EntriesPage,
    LogResponse,
    SourceEventResponse,
    SourceEventSampleResponse,
    SourceStatusResponse,
    log_response,
    page_of,
)
from app.logs import LogFilter, get_activity, list_event_types, list_log
from app.models.status import EventStatus
from app.samples import get_sample
from app.sources import find_source, get_configured

router = APIRouter(
    prefix="/sources/{key}",
    tags=["Logs"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)

Include = Annotated[
    list[Literal["actions"]],
    BeforeValidator(separated),
    Query(description="`actions` shows the actions that each event ran."),
]


def _log_filter(
    key: str,
    environment: EnvironmentDep,
    event: Annotated[str | None, Query(description="Only this event type.")] = None,
    status: Annotated[EventStatus | None, Query(description="Only this status (Doorbell's own).")] = None,
    id: Annotated[UUID | None, Query(description="Only the entry with this id.")] = None,
    date: Annotated[date | None, Query(description="Only this day, in UTC.")] = None,
    starting_at: Annotated[datetime | None, Query(description="Only at or after this time.")] = None,
    ending_at: Annotated[datetime | None, Query(description="Only at or before this time.")] = None,
) -> LogFilter:
    starts, ends = [_aware(starting_at)], [_aware(ending_at)]
    if date is not None:
        midnight = datetime.combine(date, time(), tzinfo=UTC)
        starts.append(midnight)
        ends.append(midnight + timedelta(days=1, milliseconds=-1))
    return LogFilter(
        environment=environment,
        source_key=key,
        event_type=event,
        status=status,
        id=id,
        starting_at=max(filter(None, starts), default=None),
        ending_at=min(filter(None, ends), default=None),
    )


def _aware(moment: datetime | None) -> datetime | None:
    """A time without an offset is UTC."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


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
    wanted: Annotated[LogFilter, Depends(_log_filter)],
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
