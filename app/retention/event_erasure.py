"""The log's part of an erasure (`app/retention/erasure.py`): a user's events found, and what was sent with
them deleted.

Log rows stay, marked as erased. Events are found by the users that their actions named
(`app/actions/subjects.py`), by reading the action log once: it needs no index that every event would pay
for. What no action used is found by text only, which a request may bring (docs/erasure.md).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.actions.effects import storable
from app.actions.registry import action_types
from app.actions.subjects import users_of
from app.database.engine import to_json
from app.logs.needles import needles
from app.models.directory import USERS
from app.models.types import id_time_range

# Rows that are looked at in one transaction.
ACTIONS_A_BATCH = 5_000
PAYLOADS_A_BATCH = 500

# Only what holds the id somewhere comes out of the database.
_ACTIONS = text("""
WITH batch AS (
    SELECT id, event_id, action_type, payload FROM actions WHERE id > :cursor
      AND id < :end ORDER BY id LIMIT :size
)
SELECT (SELECT id FROM batch ORDER BY id DESC LIMIT 1) AS last, event_id, action_type, payload
FROM (SELECT) AS always LEFT JOIN batch ON position(:needle IN CAST(payload AS text)) > 0
""")

_PAYLOADS = text("""
WITH batch AS (
    SELECT * FROM event_payloads WHERE id > :cursor AND id < :end ORDER BY id LIMIT :size
)
SELECT (SELECT id FROM batch ORDER BY id DESC LIMIT 1) AS last, batch.id
FROM (SELECT) AS always LEFT JOIN batch ON EXISTS (
    SELECT FROM unnest(CAST(:needles AS bytea[])) AS needle
    WHERE position(needle IN body) > 0
        OR position(needle IN convert_to(concat(headers, preprocess_output), 'UTF8')) > 0
)
""")

# An event, what it repeats or replays, and what repeats or replays it: one body.
_FAMILY = text("""
WITH given AS (SELECT unnest(CAST(:ids AS uuid[])) AS id)
SELECT events.* FROM (
    SELECT events.id, status, erased_at, replay_of, duplicate_of, environment FROM given
      JOIN events USING (id)
    UNION
    SELECT events.id, status, erased_at, replay_of, duplicate_of, environment
    FROM given JOIN events ON events.replay_of = given.id
    UNION
    SELECT events.id, status, erased_at, replay_of, duplicate_of, environment
    FROM given JOIN events ON events.duplicate_of = given.id
) AS events WHERE environment = :environment
""")

_ACTIONS_OF = """
FROM unnest(CAST(:ids AS uuid[]), CAST(:firsts AS uuid[]), CAST(:ends AS uuid[])) AS event (id, first, "end")
WHERE actions.id >= event.first AND actions.id < event."end" AND actions.event_id = event.id
"""
# Of the action's configuration, constants may be about the user; errors may hold what was sent.
_ERASE_EVENTS: dict[str, TextClause] = {
    "event_payloads": text("DELETE FROM event_payloads WHERE id = ANY(CAST(:ids AS uuid[]))"),
    "actions": text(
        f"UPDATE actions SET parameters = '{{}}', payload = NULL, result = NULL, error = NULL, "
        f"left_out = NULL {_ACTIONS_OF}"
    ),
    "events": text("""
UPDATE events SET erased_at = now(), error = NULL, verification_reason = NULL,
    ordering_keys = CASE WHEN status IN ('received', 'processing') THEN ordering_keys END,
    idempotency_key = CASE
        WHEN EXISTS (SELECT FROM unnest(CAST(:texts AS text[])) AS found
          WHERE position(found IN idempotency_key) > 0)
        THEN NULL ELSE idempotency_key
    END
WHERE id = ANY(CAST(:ids AS uuid[]))
"""),
}
_COUNT_EVENTS: dict[str, TextClause] = {
    "event_payloads": text("SELECT count(*) FROM event_payloads WHERE id = ANY(CAST(:ids AS uuid[]))"),
    "actions": text(
        "SELECT count(*) FROM actions, unnest(CAST(:ids AS uuid[]), CAST(:firsts AS uuid[]), CAST(:ends AS "
        "uuid[])) "
        'AS event (id, first, "end") WHERE actions.id >= event.first AND actions.id < event."end" '
        "AND actions.event_id = event.id"
    ),
    "events": text("SELECT count(*) FROM events WHERE id = ANY(CAST(:ids AS uuid[]))"),
}

_OF_USER = "FROM applied_changes WHERE environment = :environment AND collection = :collection AND id = :id"
_FORGET_APPLIED = text(f"DELETE {_OF_USER}")
_COUNT_APPLIED = text(f"SELECT count(*) {_OF_USER}")

_COUNT_ONCE = text("""
INSERT INTO erasure_events (erasure_id, event_id) SELECT :id, unnest(CAST(:ids AS uuid[]))
ON CONFLICT DO NOTHING RETURNING event_id
""")
_FORGET_COUNTED = text("DELETE FROM erasure_events WHERE erasure_id = :id")


# What is counted, by table.
TABLES = (*_ERASE_EVENTS, "applied_changes")


@dataclass(frozen=True)
class Found:
    """The events that a batch of rows is about, and the id of its last row; None when there was no row
    left."""

    event_ids: set[UUID]
    last: UUID | None


async def find_by_actions(connection: AsyncConnection, after: UUID, before: UUID, user_id: str) -> Found:
    """The events of the next actions whose payload names the user."""
    rows = await connection.execute(
        _ACTIONS, {"cursor": after, "end": before, "size": ACTIONS_A_BATCH, "needle": to_json(user_id)}
    )
    found = rows.all()
    return Found(
        {
            each.event_id
            for each in found
            if each.event_id is not None and _concerns(each.action_type, each.payload, user_id)
        },
        found[0].last,
    )


def _concerns(action_type: str, payload: dict[str, Any], user_id: str) -> bool:
    """Whether the payload names the user; one of a type that is gone does, because it holds the id."""
    action = action_types().get(action_type)
    return action is None or user_id in users_of(action, payload)


async def find_by_text(connection: AsyncConnection, after: UUID, before: UUID, texts: Sequence[str]) -> Found:
    """The next events that were received with one of these texts."""
    wanted = [each for one in texts for each in needles(one)]
    parameters = {"cursor": after, "end": before, "size": PAYLOADS_A_BATCH, "needles": wanted}
    found = (await connection.execute(_PAYLOADS, parameters)).all()
    return Found({each.id for each in found if each.id is not None}, found[0].last)


async def find_family(
    connection: AsyncConnection, environment: str, concerned: Collection[UUID]
) -> list[Row[Any]]:
    """The events of this environment among these, with what they repeat or replay and what repeats or replays
    them."""
    found: dict[UUID, Row[Any]] = {}
    asked: set[UUID] = set()
    while todo := set(concerned) - asked:
        asked |= todo
        rows = await connection.execute(_FAMILY, {"ids": list(todo), "environment": environment})
        found |= {each.id: each for each in rows}
        concerned = {
            related
            for each in found.values()
            for related in (each.id, each.replay_of, each.duplicate_of)
            if related is not None
        }
    return list(found.values())


async def erase_events(
    connection: AsyncConnection, ids: Sequence[UUID], texts: Sequence[str]
) -> Counter[str]:
    """Delete what was sent with these events, and their keys that hold one of the texts; how many rows, by
    table."""
    return Counter(
        {
            table: (await connection.execute(erase, {**_ranges(ids), "texts": texts})).rowcount
            for table, erase in _ERASE_EVENTS.items()
        }
    )


async def count_events(connection: AsyncConnection, erasure_id: UUID, ids: Sequence[UUID]) -> Counter[str]:
    """What `erase_events` would do with those of these events that this erasure has not counted yet."""
    counted = await connection.execute(_COUNT_ONCE, {"id": erasure_id, "ids": ids})
    parameters = _ranges(sorted(counted.scalars()))
    return Counter(
        {
            table: (await connection.execute(count, parameters)).scalar_one()
            for table, count in _COUNT_EVENTS.items()
        }
    )


async def forget_applied(
    connection: AsyncConnection, environment: str, user_id: str, *, dry_run: bool
) -> Counter[str]:
    """Delete what is kept of which event set what of the user; how many rows."""
    whose = {"environment": environment, "collection": USERS, "id": storable(user_id)}
    if dry_run:
        number = (await connection.execute(_COUNT_APPLIED, whose)).scalar_one()
    else:
        number = (await connection.execute(_FORGET_APPLIED, whose)).rowcount
    return Counter({"applied_changes": number})


async def forget_counted(connection: AsyncConnection, erasure_id: UUID) -> None:
    """A dry run is over."""
    await connection.execute(_FORGET_COUNTED, {"id": erasure_id})


def _ranges(ids: Sequence[UUID]) -> dict[str, list[UUID]]:
    """Ids of events, and between which ids their actions are."""
    ranges = [id_time_range(each) for each in ids]
    return {"ids": list(ids), "firsts": [first for first, _ in ranges], "ends": [end for _, end in ranges]}
