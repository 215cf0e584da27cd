"""The events whose actions were about a recipient: found in the newest part of the action log.

An index by recipient would be paid for by every event. So the newest actions of the environment are read
backwards, in batches, until enough are found, or the time or the number is used up; the answer says how far
back it looked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.actions.registry import action_types
from app.actions.subjects import users_of
from app.database.engine import to_json
from app.directory.recipients import Reference
from app.models.directory import TENANTS, USERS
from app.models.types import first_id_at, now, time_of

LOOK_BACK = timedelta(days=7)
MAXIMUM_ACTIONS = 20_000
ACTIONS_A_BATCH = 2_000
SECONDS = 0.2

# Only what holds the id somewhere comes out of the database.
_BATCH = text("""
WITH batch AS MATERIALIZED (
    SELECT id, event_id, environment, source_key, action_type, status, payload FROM actions
    WHERE id < :before AND id >= :first ORDER BY id DESC LIMIT :size
), span AS (
    SELECT (SELECT id FROM batch ORDER BY id LIMIT 1) AS last, (SELECT count(*) FROM batch) AS looked
)
SELECT span.last, span.looked, found.* FROM span LEFT JOIN batch AS found
    ON found.environment = :environment AND position(:needle IN CAST(found.payload AS text)) > 0
ORDER BY found.id DESC
""")


@dataclass(frozen=True)
class Touch:
    """An action about a recipient."""

    event_id: UUID
    source_key: str
    action_type: str
    status: str

    @property
    def received_at(self) -> datetime:
        return time_of(self.event_id)


@dataclass(frozen=True)
class Touches:
    """What was found, newest first, and how far it was looked: `since`, in the newest `looked` actions."""

    found: Sequence[Touch]
    looked: int
    since: datetime
    is_complete: bool


async def find_touches(
    connection: AsyncConnection, environment: str, reference: Reference, limit: int
) -> Touches:
    """The newest actions about a recipient. `is_complete`: all of the last days was looked through."""
    first, deadline = now() - LOOK_BACK, monotonic() + SECONDS
    before, looked, since = first_id_at(now() + timedelta(seconds=1)), 0, now()
    found: list[Touch] = []
    while looked < MAXIMUM_ACTIONS and len(found) < limit and monotonic() < deadline:
        parameters = {
            "before": before,
            "first": first_id_at(first),
            "size": ACTIONS_A_BATCH,
            "environment": environment,
            "needle": to_json(reference.id),
        }
        rows = (await connection.execute(_BATCH, parameters)).all()
        looked += rows[0].looked
        found += [
            Touch(each.event_id, each.source_key, each.action_type, each.status)
            for each in rows
            if each.event_id is not None and is_about(each.action_type, each.payload, reference)
        ]
        if rows[0].looked < ACTIONS_A_BATCH:
            return Touches(found[:limit], looked, first, is_complete=len(found) <= limit)
        before, since = rows[0].last, time_of(rows[0].last)
    return Touches(found[:limit], looked, since, is_complete=False)


def is_about(action_type: str, payload: dict[str, Any], reference: Reference) -> bool:
    """Whether an evaluated payload is about a recipient."""
    action = action_types().get(action_type)
    if action is None:
        return False
    if reference.collection == USERS:
        return reference.id in users_of(action, payload)
    if reference.collection == TENANTS:
        named = payload.get("id") if action_type.startswith("tenants_") else None
        return reference.id in (payload.get("tenant"), named)
    return any(each == reference for each in _objects(payload))


def _objects(value: Any) -> Iterator[Reference]:
    """The objects that a payload names, anywhere in it."""
    if isinstance(value, dict):
        collection = value.get("collection")
        for name in ("id", "object_id"):
            if isinstance(collection, str) and isinstance(value.get(name), str):
                yield Reference(collection, value[name])
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _objects(each)
