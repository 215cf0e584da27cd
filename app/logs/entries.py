"""Entries of the event log and the action log as people read them: with what was received, without its
secrets."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.actions.registry import action_types
from app.actions.sensitive import redacted
from app.core import exact_json
from app.core.errors import Permanent
from app.core.secrets import REDACTED, SecretBox
from app.models.event import Event
from app.models.source import Source
from app.models.types import id_time_range, now
from app.providers.registry import providers

# Bodies that a page carries at most; an entry beyond it says so, and is shown whole when asked for by id.
MAXIMUM_PAGE_BYTES = 8 * 1024 * 1024
_PAYLOADS = text("""
SELECT id, headers, sensitive_headers, preprocess_output,
       CASE WHEN sum(octet_length(body)) OVER (ORDER BY id DESC) <= :budget
         OR row_number() OVER (ORDER BY id DESC) = 1
            THEN body END AS body
FROM event_payloads
WHERE id = ANY(CAST(:ids AS uuid[])) AND id >= :first AND id <= :last
""")

# OFFSET 0 keeps Postgres from turning this into a join that reads all actions: one look into the primary key
# for each event, whose actions share its millisecond. The bounds say it all again, for the planner: else it
# looks at the partitions of all days.
_ACTIONS = text("""
SELECT action.* FROM unnest(CAST(:ids AS uuid[]), CAST(:firsts AS uuid[]), CAST(:ends AS uuid[])) AS event
  (id, first, "end")
CROSS JOIN LATERAL (
    SELECT * FROM actions
    WHERE actions.id >= event.first AND actions.id < event."end" AND actions.event_id = event.id
      AND actions.id BETWEEN :first AND :last OFFSET 0
) AS action
""")


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
    left_out: list[dict[str, Any]] | None
    attempts: int
    calls: int
    started_at: datetime | None
    finished_at: datetime | None
    next_attempt_at: datetime | None


@dataclass
class LogEntry:
    """An entry of the event log with what was received.

    `data` is None when the body was not a JSON object, or one nested too deep to be shown; `omitted` when the
    page had no room left for it.
    """

    event: Event
    data: dict[str, Any] | None = None
    omitted: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    preprocess_output: dict[str, Any] | None = None
    actions: list[LogAction] = field(default_factory=list)


async def load_events(
    session: AsyncSession, query: Any, parameters: dict[str, Any] | None = None
) -> list[Event]:
    """The events whose columns a query gives, as they are now."""
    loaded: Any = select(Event).from_statement(query).execution_options(populate_existing=True)
    return list((await session.exec(loaded, params=parameters)).scalars())


async def complete(
    session: AsyncSession, box: SecretBox, entries: Sequence[LogEntry], *, with_actions: bool
) -> None:
    """Give entries what was received, and their actions."""
    if entries:
        await _add_payloads(session, box, entries)
        if with_actions:
            await _add_actions(session, entries)


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
        parsed = exact_json.loads(body)
    except orjson.JSONDecodeError:
        return None
    return _writable(parsed) if isinstance(parsed, dict) else None


def _writable(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """The value, unless it is nested too deep to stand in an answer: JSON is read to a depth that cannot be
    written."""
    try:
        exact_json.dumps([[[[[value]]]]])
    except orjson.JSONEncodeError:
        return None
    return value


def _redacted(sensitive: bytes | None, box: SecretBox) -> dict[str, str]:
    """The names of headers that carried credentials."""
    if sensitive is None:
        return {}
    try:
        return dict.fromkeys(exact_json.loads(box.decrypt(sensitive)), REDACTED)
    except Permanent:
        return {}


def _log_action(row: Row[Any]) -> LogAction:
    columns = {each.name: row._mapping[each.name] for each in fields(LogAction)}
    return LogAction(**{**columns, "payload": _writable(row.payload)})


async def _add_actions(session: AsyncSession, entries: Sequence[LogEntry]) -> None:
    ranges = [id_time_range(each.event.id) for each in entries]
    rows = await (await session.connection()).execute(
        _ACTIONS,
        {
            "ids": [each.event.id for each in entries],
            "firsts": [first for first, _ in ranges],
            "ends": [end for _, end in ranges],
            "first": min(ranges)[0],
            "last": max(ranges)[1],
        },
    )
    by_event: defaultdict[UUID, list[LogAction]] = defaultdict(list)
    for row in rows:
        by_event[row.event_id].append(_log_action(row))
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
