"""The event log and action log as people read them: listed, filtered, summed up.

Both tables are partitioned by day of their UUIDv7 ids: filters on time become ranges of ids, and everything
that belongs to an event is found by its id alone.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from psycopg.errors import QueryCanceled
from sqlalchemy import BindParameter, Row, Select, TextClause, false, literal, text, true, union_all
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.activities.actions.registry import action_types
from app.directory.pages import Page, PageRequest
from app.errors import FieldError, Permanent, RequestError
from app.models.event import Event
from app.models.source import Mapping, Source
from app.models.status import ActionStatus, EventStatus, VerificationStatus
from app.models.types import first_id_at, id_time_range, now, time_of
from app.providers.registry import providers
from app.secrets import SecretBox
from app.sensitive import REDACTED, redacted
from app.validation import invalid_fields

RECENT = timedelta(days=30)
MAXIMUM_EVENT_TYPES = 1000
# Payloads are kept for a shorter time than events: how many events are looked at for one.
MAXIMUM_LOOKS = 20
# Bodies that a page carries at most; an entry beyond it says so, and is shown whole when asked for by id.
MAXIMUM_PAGE_BYTES = 8 * 1024 * 1024
# Entries that a follower gets at a time; the rest comes with the next look.
MAXIMUM_CHANGES = 200
# Longer than any look that an index serves takes, shorter than people wait.
LOOK_TIMEOUT = 5
MAXIMUM_SEARCH = timedelta(days=31)
_TIME_LIMIT = text(f"SET LOCAL statement_timeout = '{LOOK_TIMEOUT}s'")

_PAYLOADS = text("""
SELECT id, headers, sensitive_headers, preprocess_output,
       CASE WHEN sum(octet_length(body)) OVER (ORDER BY id DESC) <= :budget OR row_number() OVER (ORDER BY id DESC) = 1
            THEN body END AS body
FROM event_payloads
WHERE id = ANY(CAST(:ids AS uuid[])) AND id >= :first AND id <= :last
""")

# OFFSET 0 keeps Postgres from turning this into a join that reads all actions: one look into the primary key for
# each event, whose actions share its millisecond.
_ACTIONS = text("""
SELECT action.* FROM unnest(CAST(:ids AS uuid[]), CAST(:firsts AS uuid[]), CAST(:ends AS uuid[])) AS event (id, first, "end")
CROSS JOIN LATERAL (
    SELECT * FROM actions
    WHERE actions.id >= event.first AND actions.id < event."end" AND actions.event_id = event.id OFFSET 0
) AS action
""")

# Jumps from one type's latest event to the next type's, backwards through the index, instead of reading every event.
_EVENT_TYPES = text("""
WITH RECURSIVE seen (event_type, id, position) AS (
    (SELECT event_type, id, 1 FROM events
     WHERE environment = :environment AND source_key = :source_key AND event_type IS NOT NULL AND id >= :since
     ORDER BY event_type DESC, id DESC LIMIT 1)
    UNION ALL
    SELECT next.event_type, next.id, position + 1 FROM seen CROSS JOIN LATERAL (
        SELECT event_type, id FROM events
        WHERE environment = :environment AND source_key = :source_key AND event_type < seen.event_type
          AND id >= :since
        ORDER BY event_type DESC, id DESC LIMIT 1
    ) AS next
    WHERE position < :limit
)
SELECT event_type, id FROM seen ORDER BY event_type
""")

# The latest event of a type whose payload is still stored. OFFSET 0 as above: a look into one partition for each.
_LATEST = text("""
SELECT event.* FROM (
    SELECT * FROM events
    WHERE environment = :environment AND source_key = :source_key AND event_type = :event_type AND id >= :since
      AND origin IS DISTINCT FROM 'rehearsal'
    ORDER BY id DESC LIMIT :looks
) AS event
CROSS JOIN LATERAL (SELECT id FROM event_payloads WHERE event_payloads.id = event.id OFFSET 0) AS payload
ORDER BY event.id DESC LIMIT 1
""")

_ACTIVITY = text("""
SELECT (SELECT count(*) FROM events
        WHERE environment = :environment AND source_key = :source_key AND id >= :since) AS events_count,
       (SELECT received_at FROM events
        WHERE environment = :environment AND source_key = :source_key
        ORDER BY id DESC LIMIT 1) AS last_received_at
""")


# OFFSET 0 keeps these as one look for each event, in the order of events, so that they stop at the limit.
_RAN = text("""
EXISTS (
    SELECT FROM actions
    WHERE actions.id >= CAST(left(CAST(events.id AS text), 13) || '-0000-0000-000000000000' AS uuid)
      AND actions.id <= CAST(left(CAST(events.id AS text), 13) || '-ffff-ffff-ffffffffffff' AS uuid)
      AND actions.event_id = events.id
      AND (CAST(:action_type AS text) IS NULL OR actions.action_type = :action_type)
      AND (CAST(:action_status AS text) IS NULL OR actions.status = :action_status)
    OFFSET 0
)
""")

_CONTAINS = text("""
EXISTS (
    SELECT FROM event_payloads
    WHERE event_payloads.id = events.id
      AND EXISTS (SELECT FROM unnest(CAST(:needles AS bytea[])) AS needle WHERE position(needle IN body) > 0)
    OFFSET 0
)
""")


@dataclass(frozen=True)
class LogFilter:
    """Which entries of an environment's log. `source_key` None is all sources.

    `starting_at` and `ending_at` are inclusive. `search` is text inside the body, case-sensitive; it needs a
    `starting_at`, because it reads the bodies of that time one after the other.
    """

    environment: str
    source_key: str | None
    event_type: str | None = None
    status: EventStatus | None = None
    idempotent: bool | None = None
    verification_status: VerificationStatus | None = None
    id: UUID | None = None
    idempotency_key: str | None = None
    action_type: str | None = None
    action_status: ActionStatus | None = None
    search: str | None = None
    starting_at: datetime | None = None
    ending_at: datetime | None = None


@dataclass
class LogAction:
    """An entry of the action log."""

    id: UUID
    event_id: UUID
    mapping_id: UUID
    action_type: str
    parameters: dict[str, Any]
    payload: dict[str, Any] | None
    idempotency_key: str | None
    status: str
    result: dict[str, Any] | None
    error: str | None
    attempts: int
    calls: int
    started_at: datetime | None
    finished_at: datetime | None


@dataclass
class LogEntry:
    """An entry of the event log with what was received.

    `data` is None when the body was not a JSON object, or one nested too deep to be shown; `omitted` when the page had no room left for it.
    """

    event: Event
    data: dict[str, Any] | None = None
    omitted: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    preprocess_output: dict[str, Any] | None = None
    actions: list[LogAction] = field(default_factory=list)


@dataclass(frozen=True)
class Activity:
    """What a source received lately."""

    events_count: int
    last_received_at: datetime | None
    mappings_count: int


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
    query = _query(wanted, position, page.size + 1, backwards=backwards)
    rows = await _look(session, query)
    more, rows = len(rows) > page.size, rows[: page.size]
    entries = [_entry(row) for row in (reversed(rows) if backwards else rows)]
    await _complete(session, box, entries, with_actions=with_actions)
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
    await _complete(session, box, [entry], with_actions=True)
    return entry


async def list_changes(
    session: AsyncSession,
    box: SecretBox,
    wanted: LogFilter,
    since: UUID,
    shown: dict[UUID, str],
    unfinished: Collection[UUID],
) -> tuple[list[LogEntry], UUID | None]:
    """The entries from `since` on, and those of `unfinished`, that have another status than in `shown`, oldest first;
    and where to go on at once, when there were more than one look brings. `shown` is brought up to date."""
    later = await _look(session, _query(wanted, None, MAXIMUM_CHANGES, backwards=True, since=since))
    rows = {row.id: row for row in later}
    if unfinished:
        table = Event.__table__  # type: ignore[attr-defined]
        rows |= {row.id: row for row in await _look(session, select(table).where(table.c.id.in_(unfinished)))}
    changed = [_entry(row) for _, row in sorted(rows.items()) if shown.get(row.id) != row.status]
    await _complete(session, box, changed, with_actions=False)
    shown |= {row.id: row.status for row in rows.values()}
    return changed, later[-1].id if len(later) == MAXIMUM_CHANGES else None


async def _complete(
    session: AsyncSession, box: SecretBox, entries: Sequence[LogEntry], *, with_actions: bool
) -> None:
    if entries:
        await _add_payloads(session, box, entries)
        if with_actions:
            await _add_actions(session, entries)


async def _look(session: AsyncSession, query: Select[Any]) -> Sequence[Row[Any]]:
    """The rows of a query that may not take longer than people wait.

    Raises:
        RequestError: 422, it took too long.
    """
    connection = await session.connection()
    await connection.execute(_TIME_LIMIT)
    try:
        found: Sequence[Row[Any]] = (await connection.execute(query)).all()
        return found
    except OperationalError as error:
        if not isinstance(error.orig, QueryCanceled):
            raise
        message = f"took longer than {LOOK_TIMEOUT} s: look at a shorter time, or use more filters"
        raise invalid_fields([FieldError("starting_at", message)]) from error


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
        return UUID(bytes=base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except ValueError:
        raise invalid_fields([FieldError(field, "is not a cursor of this list")]) from None


async def list_event_types(
    session: AsyncSession, environment: str, source_key: str
) -> Sequence[tuple[str, datetime]]:
    """The event types that a source received in the last 30 days, by name, with the time of the latest."""
    rows = await (await session.connection()).execute(
        _EVENT_TYPES,
        {
            "environment": environment,
            "source_key": source_key,
            "since": first_id_at(now() - RECENT),
            "limit": MAXIMUM_EVENT_TYPES,
        },
    )
    return [(row.event_type, time_of(row.id)) for row in rows]


async def find_latest(
    session: AsyncSession, box: SecretBox, environment: str, source_key: str, event_type: str
) -> LogEntry | None:
    """The latest event of a type in the last 30 days that was not made by hand, with its payload."""
    rows = await (await session.connection()).execute(
        _LATEST,
        {
            "environment": environment,
            "source_key": source_key,
            "event_type": event_type,
            "since": first_id_at(now() - RECENT),
            "looks": MAXIMUM_LOOKS,
        },
    )
    row = rows.first()
    if row is None:
        return None
    entry = _entry(row)
    await _add_payloads(session, box, [entry])
    return entry


async def get_activity(
    session: AsyncSession, environment: str, source_key: str, configured: UUID
) -> Activity:
    """How much a source received in the last 30 days, and when last."""
    rows = await (await session.connection()).execute(
        _ACTIVITY,
        {"environment": environment, "source_key": source_key, "since": first_id_at(now() - RECENT)},
    )
    activity = rows.one()
    mappings = await session.exec(select(Mapping.id).where(Mapping.source_environment_id == configured))
    return Activity(activity.events_count, activity.last_received_at, len(mappings.all()))


def _query(
    wanted: LogFilter, position: UUID | None, limit: int, *, backwards: bool, since: UUID | None = None
) -> Select[Any]:
    """The first entries beyond `position`: towards older ones, or `backwards` towards newer ones.

    Merged from one index scan for each source and status, each of which stops at the limit.
    """
    sources = select(Source.__table__.c.key).subquery("sources")  # type: ignore[attr-defined]
    source_key = sources.c.key if wanted.source_key is None else wanted.source_key
    branches = []
    for status in _statuses(wanted):
        branch = _branch(wanted, source_key, status)
        identifier = branch.selected_columns.id
        if position is not None:
            branch = branch.where(identifier > position if backwards else identifier < position)
        if since is not None:
            branch = branch.where(identifier >= since)
        ordered = branch.order_by(identifier.asc() if backwards else identifier.desc()).limit(limit)
        branches.append(ordered.correlate(sources).subquery().select())
    if len(branches) == 1 and wanted.source_key is not None:
        return ordered
    merged = union_all(*branches)
    found = merged.lateral("found") if wanted.source_key is None else merged.subquery("found")
    query: Select[Any] = select(found)
    if wanted.source_key is None:
        query = query.select_from(sources.join(found, true()))
    return query.order_by(found.c.id.asc() if backwards else found.c.id.desc()).limit(limit)


def _statuses(wanted: LogFilter) -> Sequence[EventStatus | None]:
    """The statuses that an entry may have; None is any. An action's failure or wait shows in its event's."""
    if wanted.status is not None:
        return [wanted.status]
    if wanted.idempotent:
        return [EventStatus.IDEMPOTENT]
    if wanted.action_status in (ActionStatus.FAILED, ActionStatus.PENDING):
        return [EventStatus.FAILED, EventStatus.PROCESSING, EventStatus.RECEIVED]
    return [None]


def _branch(wanted: LogFilter, source_key: Any, status: EventStatus | None) -> Select[Any]:
    table = Event.__table__  # type: ignore[attr-defined]
    query: Select[Any] = select(table).where(
        table.c.environment == wanted.environment, table.c.source_key == source_key
    )
    if wanted.event_type is not None:
        query = query.where(table.c.event_type == wanted.event_type)
    if status is not None:
        query = query.where(table.c.status == _written(status))
    if wanted.idempotent is not None and status is None:
        query = query.where(table.c.status != EventStatus.IDEMPOTENT.value)
    elif wanted.idempotent is not None and wanted.idempotent != (status is EventStatus.IDEMPOTENT):
        query = query.where(false())
    if wanted.verification_status is not None:
        query = query.where(table.c.verification_status == _written(wanted.verification_status))
    if wanted.id is not None:
        query = query.where(table.c.id == wanted.id)
    if wanted.idempotency_key is not None:
        query = query.where(table.c.idempotency_key == wanted.idempotency_key)
    if wanted.starting_at is not None:
        query = query.where(table.c.id >= first_id_at(wanted.starting_at))
    if wanted.ending_at is not None:
        query = query.where(table.c.id < id_time_range(first_id_at(wanted.ending_at))[1])
    if wanted.action_type is not None or wanted.action_status is not None:
        query = query.where(_ran(wanted.action_type, wanted.action_status))
    if wanted.search is not None:
        query = query.where(_CONTAINS.bindparams(needles=_needles(wanted.search)))
    return query


def _written(value: StrEnum) -> BindParameter[str]:
    """Written out in the statement, so that a partial index on it serves prepared statements too."""
    return literal(value.value, literal_execute=True)


def _ran(action_type: str | None, status: ActionStatus | None) -> TextClause:
    return _RAN.bindparams(action_type=action_type, action_status=status.value if status else None)


def _needles(wanted: str) -> list[bytes]:
    """The text as it may stand in a body: as it is, or as JSON writes it, with what is not ASCII escaped or not."""
    written = (json.dumps(wanted, ensure_ascii=escaped)[1:-1] for escaped in (True, False))
    return list({each.encode() for each in (wanted, *written)})


def _entry(row: Row[Any]) -> LogEntry:
    return LogEntry(Event(**{name: row._mapping[name] for name in Event.model_fields}))


async def _add_payloads(session: AsyncSession, box: SecretBox, entries: Sequence[LogEntry]) -> None:
    by_id = {each.event.id: each for each in entries}
    sensitive = await _sensitive_paths(session, {each.event.source_key for each in entries})
    rows = await (await session.connection()).execute(
        _PAYLOADS,
        {"ids": list(by_id), "first": min(by_id), "last": max(by_id), "budget": MAXIMUM_PAGE_BYTES},
    )
    for row in rows:
        entry = by_id[row.id]
        entry.omitted = row.body is None
        entry.data = (
            None if row.body is None else redacted(_object(row.body), sensitive[entry.event.source_key])
        )
        entry.headers = row.headers | _redacted(row.sensitive_headers, box)
        entry.preprocess_output = _writable(row.preprocess_output)


async def _sensitive_paths(session: AsyncSession, keys: set[str]) -> dict[str, tuple[str, ...]]:
    """Where the bodies of these sources hold what is never shown, as their providers declare."""
    rows = await session.exec(select(Source.key, Source.provider).where(col(Source.key).in_(keys)))
    known = {key: providers()[name].sensitive_paths for key, name in rows if name in providers()}
    return {key: known.get(key, ()) for key in keys}


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return _writable(parsed) if isinstance(parsed, dict) else None


def _writable(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """The value, unless it is nested too deep to stand in an answer: JSON is read to a depth that cannot be written."""
    try:
        orjson.dumps([[[[[value]]]]])
    except orjson.JSONEncodeError:
        return None
    return value


def _redacted(sensitive: bytes | None, box: SecretBox) -> dict[str, str]:
    """The names of headers that carried credentials."""
    if sensitive is None:
        return {}
    try:
        return dict.fromkeys(orjson.loads(box.decrypt(sensitive)), REDACTED)
    except Permanent:
        return {}


async def _add_actions(session: AsyncSession, entries: Sequence[LogEntry]) -> None:
    ranges = [id_time_range(each.event.id) for each in entries]
    rows = await (await session.connection()).execute(
        _ACTIONS,
        {
            "ids": [each.event.id for each in entries],
            "firsts": [first for first, _ in ranges],
            "ends": [end for _, end in ranges],
        },
    )
    by_event: defaultdict[UUID, list[LogAction]] = defaultdict(list)
    for row in rows:
        by_event[row.event_id].append(LogAction(**{**row._mapping, "payload": _writable(row.payload)}))
    order = {name: position for position, name in enumerate(action_types())}
    for entry in entries:
        entry.actions = sorted(
            by_event[entry.event.id],
            key=lambda action: (
                order.get(action.action_type, len(order)),
                action.started_at or now(),
                action.id,
            ),
        )
