"""What a source received lately: its event types, the latest events of each, and how many there were."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.secrets import SecretBox
from app.logs.entries import LogEntry, complete, load_events
from app.models.event import Event
from app.models.types import first_id_at, now, time_of

RECENT = timedelta(days=30)
MAXIMUM_EVENT_TYPES = 1000
# Payloads are kept for a shorter time than events: how many events are looked at for one.
MAXIMUM_LOOKS = 20
# Jumps from one type's latest event to the next type's, backwards through the index, instead of reading every
# event.
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

# How many events of each type, as far as anybody wants to know.
_COUNTS = text("""
SELECT wanted.event_type, (
    SELECT count(*) FROM (
        SELECT FROM events
        WHERE environment = :environment AND source_key = :source_key
          AND events.event_type = wanted.event_type
          AND id >= :since
        LIMIT :limit
    ) AS found
) AS number
FROM unnest(CAST(:event_types AS text[])) AS wanted (event_type)
""")

# The latest events of a type whose payloads are still stored. OFFSET 0 makes
# it a look into one partition for each.
_LATEST = text("""
SELECT event.* FROM (
    SELECT * FROM events
    WHERE environment = :environment AND source_key = :source_key AND event_type = :event_type
      AND id >= :since
      AND origin IS NULL
    ORDER BY id DESC LIMIT :looks
) AS event
CROSS JOIN LATERAL (SELECT id FROM event_payloads WHERE event_payloads.id = event.id OFFSET 0) AS payload
ORDER BY event.id DESC LIMIT :wanted
""")


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


async def count_event_types(
    session: AsyncSession, environment: str, source_key: str, event_types: Sequence[str], *, limit: int
) -> dict[str, int]:
    """How many events of each of these types came in the last 30 days; `limit` stands for as many or more."""
    rows = await (await session.connection()).execute(
        _COUNTS,
        {
            "environment": environment,
            "source_key": source_key,
            "event_types": list(event_types),
            "since": first_id_at(now() - RECENT),
            "limit": limit,
        },
    )
    return {row.event_type: row.number for row in rows}


async def list_latest(
    session: AsyncSession, environment: str, source_key: str, event_type: str, limit: int = MAXIMUM_LOOKS
) -> list[Event]:
    """The latest events of a type in the last 30 days, newest first, that were not made by hand and whose
    payloads are stored."""
    parameters = {
        "environment": environment,
        "source_key": source_key,
        "event_type": event_type,
        "since": first_id_at(now() - RECENT),
        "looks": MAXIMUM_LOOKS,
        "wanted": limit,
    }
    return await load_events(session, _LATEST, parameters)


async def find_latest(
    session: AsyncSession, box: SecretBox, environment: str, source_key: str, event_type: str
) -> LogEntry | None:
    """The latest event of a type, as `list_latest` finds it, with its payload."""
    found = await list_latest(session, environment, source_key, event_type, 1)
    if not found:
        return None
    entry = LogEntry(found[0])
    await complete(session, box, [entry], with_actions=False)
    return entry
