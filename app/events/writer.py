"""The one writer of events: whatever is received, replayed or rehearsed becomes rows of the event log here.

A column is written when `ReceivedEvent` has a field of its name; its type is that of the model.
"""

from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter

from sqlalchemy import Column, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from app.database.engine import to_json
from app.events.channel import CHANNEL
from app.events.reception import ReceivedEvent
from app.models.event import Event
from app.models.status import EventStatus

_EVENTS: Table = SQLModel.metadata.tables[str(Event.__tablename__)]
_GIVEN = [each.name for each in fields(ReceivedEvent) if each.name in _EVENTS.columns]
_values = attrgetter(*_GIVEN)
_WRITTEN = [*_GIVEN, "finished_at"]


def _typed(column: Column[object]) -> str:
    return f"{column.name} {column.type.compile(postgresql.dialect())}"  # type: ignore[no-untyped-call]


# Their order of receipt is that of the rows, by the column's default.
#
# An id is written once: a batch whose connection broke before Postgres answered is sent again as it is. All
# rows come as one JSON array: an array for each column costs the driver many times as much.
_INSERT = text(f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS given (
        {", ".join(_typed(_EVENTS.columns[name]) for name in _WRITTEN)},
        body text, headers text, sensitive_headers text, preprocess_output text)
), new_events AS (
    INSERT INTO events ({", ".join(_WRITTEN)})
    SELECT {", ".join(_WRITTEN)} FROM given
    ON CONFLICT (id) DO NOTHING
    RETURNING id, environment, source_key, status, ordering_keys, received_order
), new_turns AS (
    INSERT INTO ordering_turns (environment, source_key, ordering_key, received_order, event_id)
    SELECT environment, source_key, key.ordering_key, received_order, id
    FROM new_events CROSS JOIN LATERAL unnest(ordering_keys) AS key (ordering_key) WHERE status = 'received'
), new_payloads AS (
    INSERT INTO event_payloads (id, body, headers, sensitive_headers, preprocess_output)
    SELECT id, decode(body, 'base64'), headers::json, decode(sensitive_headers, 'base64'),
      preprocess_output::json
    FROM given
    ON CONFLICT (id) DO NOTHING
)
SELECT pg_notify(:channel, environment) FROM unnest(CAST(:awaited AS text[])) AS environment
""")


async def write_events(connection: AsyncConnection, events: Sequence[ReceivedEvent]) -> None:
    """Write events with their payloads, in their order. Their dispatchers hear of them at the commit."""
    waiting = {each.environment for each in events if each.status is EventStatus.RECEIVED}
    rows = to_json([_row(each) for each in events])
    await connection.execute(_INSERT, {"rows": rows, "channel": CHANNEL, "awaited": sorted(waiting)})


def _row(event: ReceivedEvent) -> dict[str, object]:
    """The row of an event as JSON takes it. JSON within it is text, so that an escaped U+0000 stays what it
    is."""
    sensitive, preprocess = event.sensitive_headers, event.preprocess_output
    row: dict[str, object] = dict(zip(_GIVEN, _values(event), strict=True))
    row["finished_at"] = None if event.status is EventStatus.RECEIVED else event.received_at
    row["body"] = b2a_base64(event.body, newline=False).decode()
    row["headers"] = to_json(event.headers)
    row["sensitive_headers"] = None if sensitive is None else b2a_base64(sensitive, newline=False).decode()
    row["preprocess_output"] = None if preprocess is None else to_json(preprocess)
    return row
