"""The log as it grows: server-sent events that show each entry when it arrives and when it changes.
Doorbell's own.

The HTML standard says how they are written: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import ReadAccess
from app.api.management.log_schemas import log_response
from app.api.management.logs import environment_log, source_log
from app.api.management.request import ManagementRoute
from app.core.errors import RequestError
from app.core.settings import Settings
from app.logs.entries import LogEntry
from app.logs.filters import LogFilter
from app.logs.listing import list_changes
from app.models.status import EventStatus
from app.models.types import first_id_at, now
from app.runtime.resources import Runtime
from app.sources.store import find_source

logger = logging.getLogger(__name__)
router = APIRouter(tags=["Logs"], route_class=ManagementRoute)

POLL_INTERVAL = 0.5
HEARTBEAT_INTERVAL = 15.0
# Events become visible at their commit, a little after the time in their id: each look goes back this far.
OVERLAP = timedelta(seconds=10)
# Then the client connects again, by itself, with a token that may have been revoked meanwhile.
LONGEST_STREAM = timedelta(minutes=15)
MAXIMUM_UNFINISHED = 500
MAXIMUM_STREAMS = 100
_FINAL = frozenset(EventStatus) - {EventStatus.RECEIVED, EventStatus.PROCESSING}

STREAM: dict[int | str, object] = {
    200: {
        "description": "`event: log` with an entry as JSON, when it arrives and when its status changes; "
        "comments as heartbeats.",
        "content": {
            "text/event-stream": {
                "example": (
                    'id: 01a20df1-e8fc-72f9-a988-19f172a42afd\nevent: log\ndata: {"id": "01a2...", ...}\n\n'
                )
            }
        },
    },
    503: RESPONSES[503],
}
LastEventId = Annotated[
    UUID | None, Header(description="Where a stream that broke off was: it goes on from there.")
]

_streams: set[object] = set()


@router.get(
    "/sources/{key}/logs/stream",
    summary="Follow source logs",
    response_class=StreamingResponse,
    responses={**STREAM, 404: RESPONSES[404]},  # type: ignore[dict-item]
)
async def follow_source(
    key: str,
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    wanted: Annotated[LogFilter, Depends(source_log)],
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Entries of the source's log as they arrive and change, as server-sent events, with the filters of the
    list."""
    await find_source(session, key)
    return await open_stream(session, runtime, wanted, last_event_id, _as_json(runtime.settings))


@router.get(
    "/logs/stream",
    summary="Follow logs",
    response_class=StreamingResponse,
    responses=STREAM,  # type: ignore[arg-type]
)
async def follow_environment(
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    wanted: Annotated[LogFilter, Depends(environment_log)],
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Entries of all sources as they arrive and change, as server-sent events, with the filters of the
    list."""
    return await open_stream(session, runtime, wanted, last_event_id, _as_json(runtime.settings))


def _as_json(settings: Settings) -> Callable[[LogEntry], str]:
    def write(entry: LogEntry) -> str:
        return log_response(entry, settings, with_actions=False).model_dump_json(exclude_unset=True)

    return write


async def open_stream(
    session: AsyncSession,
    runtime: Runtime,
    wanted: LogFilter,
    last: UUID | None,
    write: Callable[[LogEntry], str],
) -> StreamingResponse:
    """Entries of the log as they arrive and change, after `last` or from now on, as `write` writes each.

    Raises:
        RequestError: 503, too many streams are open.
    """
    if len(_streams) >= MAXIMUM_STREAMS:
        message = f"{MAXIMUM_STREAMS} streams are open already"
        raise RequestError(503, "service_unavailable", message, headers={"retry-after": "5"})
    # The stream takes a connection for each look only: this one goes back now.
    await session.close()
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(
        _events(runtime, wanted, last, write), media_type="text/event-stream", headers=headers
    )


async def _events(
    runtime: Runtime, wanted: LogFilter, last: UUID | None, write: Callable[[LogEntry], str]
) -> AsyncIterator[str]:
    """The stream, until the client goes or its time is over."""
    clock = asyncio.get_running_loop().time
    end, silent_since = clock() + LONGEST_STREAM.total_seconds(), clock()
    follower = _Follower(runtime, wanted, last)
    stream = object()
    _streams.add(stream)
    try:
        yield "retry: 1000\n: following\n\n"
        while clock() < end:
            for entry in await follower.look():
                silent_since = clock()
                data = "".join(f"data: {line}\n" for line in write(entry).splitlines())
                yield f"id: {entry.event.id}\nevent: log\n{data}\n"
            if clock() - silent_since >= HEARTBEAT_INTERVAL:
                silent_since = clock()
                yield ": alive\n\n"
            if not follower.is_behind:
                await asyncio.sleep(POLL_INTERVAL)
    finally:
        _streams.discard(stream)


class _Follower:
    """What one stream has shown, and what is new since."""

    def __init__(self, runtime: Runtime, wanted: LogFilter, last: UUID | None) -> None:
        self._runtime = runtime
        self._wanted = wanted
        self._began = first_id_at(now()) if last is None else UUID(int=min(last.int + 1, 2**128 - 1))
        self._behind = self._began
        self._more_from: UUID | None = None
        self._shown: dict[UUID, str] = {}

    @property
    def is_behind(self) -> bool:
        """Whether more is there already than the last look brought."""
        return self._more_from is not None

    async def look(self) -> list[LogEntry]:
        """Entries that are new or have another status, oldest first. Postgres being away is waited for."""
        unfinished = [each for each, status in self._shown.items() if status not in _FINAL]
        horizon = max(self._began, first_id_at(now() - OVERLAP))
        try:
            async with AsyncSession(self._runtime.engine) as session:
                changed, more = await list_changes(
                    session,
                    self._runtime.box,
                    self._wanted,
                    self._more_from or min(horizon, self._behind),
                    self._shown,
                    unfinished[-MAXIMUM_UNFINISHED:],
                )
        except (SQLAlchemyError, OSError) as error:
            logger.warning("log_not_followed", extra={"error": type(error).__name__})
            return []
        self._more_from = more
        if more is None:
            # All there is was seen: from now on the last moments are enough.
            self._behind = horizon
            self._shown = {
                each: status
                for each, status in self._shown.items()
                if each >= horizon or status not in _FINAL
            }
        return changed
