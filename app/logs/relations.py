"""What belongs to an event of the log: the repeats of it that idempotency stopped, and its replays."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.event import Event

MAXIMUM_RELATED = 20

# An event is older than its repeats and replays: days before it are not looked at.
_REPLAYS = text("""
SELECT id, status, received_at FROM events WHERE replay_of = :id AND id > :id ORDER BY id DESC LIMIT :limit
""")
_REPEATS = text("""
SELECT id, status, received_at FROM events
WHERE idempotency_key = :idempotency_key AND id > :id AND duplicate_of = :id
ORDER BY id DESC LIMIT :limit
""")


@dataclass(frozen=True)
class Related:
    """An event that another one is the origin of."""

    id: UUID
    status: str
    received_at: datetime


@dataclass(frozen=True)
class Relations:
    """The latest repeats and replays of an event, newest first; `MAXIMUM_RELATED` of each at most."""

    repeats: list[Related]
    replays: list[Related]


async def find_relations(session: AsyncSession, event: Event) -> Relations:
    """What belongs to an event."""
    connection = await session.connection()
    given: dict[str, Any] = {"id": event.id, "limit": MAXIMUM_RELATED}
    replays = await connection.execute(_REPLAYS, given)
    found = Relations([], [Related(*row) for row in replays])
    if event.idempotency_key is not None:
        repeats = await connection.execute(_REPEATS, {**given, "idempotency_key": event.idempotency_key})
        found.repeats.extend(Related(*row) for row in repeats)
    return found
