"""The event log and action log as people read them: listed, filtered, summed up.

Both tables are partitioned by day of their UUIDv7 ids: filters on time become ranges of ids, and everything
that belongs to an event is found by its id alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import BindParameter, Row, Select, bindparam, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.activities.actions.registry import action_types
from app.directory.pages import Page, PageRequest, fetch_page
from app.errors import Permanent
from app.models.event import Event
from app.models.source import Mapping, Source
from app.models.status import EventStatus
from app.models.types import first_id_at, id_time_range, now, time_of
from app.providers.registry import providers
from app.secrets import SecretBox
from app.sensitive import REDACTED, redacted

RECENT = timedelta(days=30)
MAXIMUM_EVENT_TYPES = 1000
# Payloads are kept for a shorter time than events: how many events are looked at for one.
MAXIMUM_LOOKS = 20
# Bodies that a page carries at most; an entry beyond it says so, and is shown whole when asked for by id.
MAXIMUM_PAGE_BYTES = 8 * 1024 * 1024
_EPOCH = datetime.fromtimestamp(0, UTC)

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


@dataclass(frozen=True)
class LogFilter:
    """Which entries of a source's log. `starting_at` and `ending_at` are inclusive."""

    environment: str
    source_key: str
    event_type: str | None = None
    status: EventStatus | None = None
    id: UUID | None = None
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
    started_at: datetime | None
    finished_at: datetime | None


@dataclass
class LogEntry:
    """An entry of the event log with what was received.

    `data` is None when the body was not a JSON object; `omitted` when the page had no room left for it.
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
    """A page of a source's log, newest first."""
    found = await fetch_page(
        await session.connection(),
        _query(wanted),
        [col(Event.id)],
        page,
        _entry,
        descending=True,
        parse=UUID,
    )
    if found.items:
        await _add_payloads(session, box, found.items)
        if with_actions:
            await _add_actions(session, found.items)
    return found


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


def _query(wanted: LogFilter) -> Select[Any]:
    identifier = col(Event.id)
    query: Select[Any] = select(Event.__table__).where(  # type: ignore[attr-defined]
        col(Event.environment) == wanted.environment, col(Event.source_key) == wanted.source_key
    )
    if wanted.event_type is not None:
        query = query.where(col(Event.event_type) == wanted.event_type)
    if wanted.status is not None:
        # Written out, so that a partial index on a status serves prepared statements too.
        status: BindParameter[str] = bindparam("status", wanted.status.value, literal_execute=True)
        query = query.where(col(Event.status) == status)
    if wanted.id is not None:
        query = query.where(identifier == wanted.id)
    if wanted.starting_at is not None:
        query = query.where(identifier >= first_id_at(max(wanted.starting_at, _EPOCH)))
    if wanted.ending_at is not None:
        query = query.where(identifier < id_time_range(first_id_at(max(wanted.ending_at, _EPOCH)))[1])
    return query


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
        entry.preprocess_output = row.preprocess_output


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
    return parsed if isinstance(parsed, dict) else None


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
        by_event[row.event_id].append(LogAction(**row._mapping))
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
