"""The event log as people read it: listed, filtered, followed and counted."""

import base64
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from psycopg.errors import QueryCanceled
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import FieldError, RequestError
from app.core.secrets import SecretBox
from app.core.validation import invalid_fields
from app.database.pages import Page, PageRequest
from app.logs.entries import LogEntry, complete, load_events
from app.logs.filters import LogFilter, Span, select_count, select_entries, statuses_of
from app.models.event import Event
from app.models.status import ActionStatus
from app.models.types import LATEST, now, time_of

# Entries that a follower gets at a time; the rest comes with the next look.
MAXIMUM_CHANGES = 200
# Longer than any look that an index serves takes, shorter than people wait.
LOOK_TIMEOUT = 5
MAXIMUM_SEARCH = timedelta(days=31)
# With fewer actions of a type than these, the events of all of them are looked at within the time of a page.
FEW_ACTIONS = 2000
# Who asks for a replay of many waits longer, and less than the command line does.
COUNT_TIMEOUT = 20
_TIME_LIMIT = text(
    "SELECT set_config('statement_timeout', :limit, true), set_config('plan_cache_mode', "
    "'force_custom_plan', true)"
)
_COUNT = """
SELECT count(*) FROM (
    SELECT FROM sources CROSS JOIN LATERAL (
        SELECT FROM actions
        WHERE actions.environment = :environment AND actions.source_key = sources.key AND {which}
          AND actions.id BETWEEN :first AND :last
        ORDER BY actions.event_id LIMIT :limit
    ) AS few
    WHERE CAST(:source_key AS text) IS NULL OR sources.key = :source_key LIMIT :limit
) AS all_sources
"""
_COUNT_ACTIONS = text(_COUNT.format(which="actions.action_type = :action_type"))
_COUNT_NOT_SENT = text(
    _COUNT.format(
        which="actions.idempotency_key IS NULL "
        "AND (CAST(:action_type AS text) IS NULL OR actions.action_type = :action_type)"
    )
)


async def list_log(
    session: AsyncSession, box: SecretBox, wanted: LogFilter, page: PageRequest, *, with_actions: bool
) -> Page[LogEntry]:
    """A page of the log, newest first.

    Its cursors are ids, so that entries that arrive meanwhile move no page.

    Raises:
        RequestError: 422, a filter does not fit, or looking took too long.
    """
    _check_search(wanted)
    backwards = page.before is not None and page.after is None
    cursor = page.before if backwards else page.after
    position = None if cursor is None else _position(cursor, "before" if backwards else "after")
    events = await _look_for_page(session, wanted, position, page.size + 1, backwards=backwards)
    more, events = len(events) > page.size, events[: page.size]
    entries = [LogEntry(event) for event in (reversed(events) if backwards else events)]
    await complete(session, box, entries, with_actions=with_actions)
    return Page(
        items=entries,
        size=page.size,
        after=_cursor(entries[-1]) if entries and (more or backwards) else None,
        before=_cursor(entries[0]) if entries and (more if backwards else page.after) else None,
    )


async def get_entry(session: AsyncSession, box: SecretBox, source_key: str, identifier: UUID) -> LogEntry:
    """An entry of a source's log, whole.

    Raises:
        RequestError: 404, there is none.
    """
    event = await session.get(Event, identifier)
    if event is None or event.source_key != source_key:
        raise RequestError(404, "resource_missing", f"Source {source_key!r} has no log entry {identifier}")
    entry = LogEntry(event)
    await complete(session, box, [entry], with_actions=True)
    return entry


async def list_changes(
    session: AsyncSession,
    box: SecretBox,
    wanted: LogFilter,
    since: UUID,
    shown: dict[UUID, str],
    unfinished: Collection[UUID],
) -> tuple[list[LogEntry], UUID | None]:
    """The entries from `since` on, and those of `unfinished`, that have another status than in `shown`,
    oldest first; and where to go on at once, when there were more than one look brings. `shown` is brought up
    to date."""
    span = Span(None, True, since, wanted.starting_at, wanted.ending_at)
    later = await _look(session, wanted, span, MAXIMUM_CHANGES)
    events = {event.id: event for event in later}
    if unfinished:
        known = await load_events(session, select(Event).where(col(Event.id).in_(unfinished)))
        events |= {event.id: event for event in known}
    changed = [LogEntry(event) for _, event in sorted(events.items()) if shown.get(event.id) != event.status]
    await complete(session, box, changed, with_actions=False)
    shown |= {event.id: event.status for event in events.values()}
    return changed, later[-1].id if len(later) == MAXIMUM_CHANGES else None


async def count_events(session: AsyncSession, wanted: LogFilter) -> int:
    """How many events match.

    Raises:
        RequestError: 422, counting took too long.
    """
    async with _time_limit(session, COUNT_TIMEOUT):
        return int((await session.exec(select_count(wanted))).one())


async def list_following(session: AsyncSession, wanted: LogFilter, position: UUID, limit: int) -> list[Event]:
    """The first events beyond a position, oldest first, without what was received.

    Raises:
        RequestError: 422, looking took too long.
    """
    span = Span(position, True, None, wanted.starting_at, wanted.ending_at)
    return await _look(session, wanted, span, limit, seconds=COUNT_TIMEOUT)


async def _look_for_page(
    session: AsyncSession, wanted: LogFilter, position: UUID | None, limit: int, *, backwards: bool
) -> list[Event]:
    """The first entries beyond a position: those near it when they are enough, else those of all days.

    Planning a look costs a third of a millisecond for each index and day, and most pages are of one day.

    Raises:
        RequestError: 422, it took too long.
    """
    span = Span(position, backwards, None, wanted.starting_at, wanted.ending_at)
    events: list[Event] = []
    for part in span.near_and_far():
        by_actions = await _go_by_actions(session, wanted, part)
        events += await _look(session, wanted, part, limit - len(events), by_actions=by_actions)
        if len(events) == limit:
            break
    return events


async def _look(
    session: AsyncSession,
    wanted: LogFilter,
    span: Span,
    limit: int,
    *,
    by_actions: bool = False,
    seconds: int = LOOK_TIMEOUT,
) -> list[Event]:
    """The first entries of a span, from where it begins.

    Raises:
        RequestError: 422, it took longer than people wait.
    """
    found: dict[UUID, Event] = {}
    async with _time_limit(session, seconds):
        # One statement for each: to build one of several costs more than they do. What goes on to the next
        # status meanwhile is found in both, and once.
        for status in [wanted.status] if by_actions else statuses_of(wanted):
            query = select_entries(wanted, status, span, limit, by_actions=by_actions)
            found |= {event.id: event for event in await load_events(session, query)}
    return [found[key] for key in sorted(found, reverse=not span.backwards)][:limit]


@asynccontextmanager
async def _time_limit(session: AsyncSession, seconds: int) -> AsyncIterator[None]:
    """What is looked up in the block may take so many seconds.

    Raises:
        RequestError: 422, it took longer.
    """
    await (await session.connection()).execute(_TIME_LIMIT, {"limit": f"{seconds}s"})
    try:
        yield
    except OperationalError as error:
        if not isinstance(error.orig, QueryCanceled):
            raise
        message = f"took longer than {seconds} s: look at a shorter time, or use more filters"
        raise invalid_fields([FieldError("starting_at", message)]) from error


async def _go_by_actions(session: AsyncSession, wanted: LogFilter, span: "Span") -> bool:
    """Whether to look through a span's actions and at the event of each, instead of through the events.

    An action that failed or waits shows in its event's status. Of the others, those that are rare are looked
    up one by one; when there are many, the events that come first have some.
    """
    skipped = wanted.action_status is ActionStatus.SKIPPED
    if wanted.action_type is None and not skipped:
        return False
    if wanted.action_status in (ActionStatus.FAILED, ActionStatus.PENDING):
        return False
    count = _COUNT_NOT_SENT if skipped else _COUNT_ACTIONS
    first, last = span.bounds()
    parameters = {
        "environment": wanted.environment,
        "source_key": wanted.source_key,
        "action_type": wanted.action_type,
        "first": first,
        "last": last,
        "limit": FEW_ACTIONS,
    }
    return bool((await (await session.connection()).execute(count, parameters)).scalar_one() < FEW_ACTIONS)


def _check_search(wanted: LogFilter) -> None:
    if wanted.search is None:
        return
    if wanted.starting_at is None:
        message = "needs `starting_at` or `date`: it reads the bodies of that time one after the other"
        raise invalid_fields([FieldError("search", message)])
    if (wanted.ending_at or now()) - wanted.starting_at > MAXIMUM_SEARCH:
        raise invalid_fields([FieldError("search", f"looks at {MAXIMUM_SEARCH.days} days at most")])


def _cursor(entry: LogEntry) -> str:
    return base64.urlsafe_b64encode(entry.event.id.bytes).decode().rstrip("=")


def _position(cursor: str, field: str) -> UUID:
    try:
        found = UUID(bytes=base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if time_of(found) >= LATEST:
            raise ValueError(cursor)
        return found
    except ValueError:
        raise invalid_fields([FieldError(field, "is not a cursor of this list")]) from None
