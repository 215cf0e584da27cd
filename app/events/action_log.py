"""The action log as the worker uses it: rows added when an event is mapped, updated after each attempt, both
in batches across events. What was applied to what an action changes is read and written in the same
statements."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.actions.registry import action_types
from app.core.errors import Permanent
from app.database.batching import PACE, Batcher
from app.database.engine import to_json, with_isolation
from app.events.applied import (
    APPLIED_ROWS,
    LookUp,
    NotedChange,
    Position,
    Standing,
    SubjectKey,
    keys_of,
    look_up,
    standings,
    wanted_rows,
)
from app.models.status import ActionStatus
from app.models.types import id_time_range, new_id, now

MAXIMUM_CACHED = 2000
# Properties of one user, object or tenant of which is kept what set them last. Beyond, it begins anew.
MAXIMUM_PROPERTIES = 2000
# What several events changed at once is settled for so many things at a time: each holds a connection.
SETTLING = 2

# A mapping evaluated twice finds the row of the first time: what was evaluated then is what is sent. Rows
# come as one JSON array, as those of the inbox do.
_ADD = text(
    """
WITH added AS (
    INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status,
                         error, attempts, finished_at, environment, source_key, position, left_out)
    SELECT id, event_id, mapping_id, action_type, parameters::json, payload::json, idempotency_key, status,
           error, 0, finished_at, environment, source_key, position::json, left_out
    FROM json_to_recordset(CAST(:rows AS json)) AS given (
        id uuid, event_id uuid, mapping_id uuid, action_type text, parameters text, payload text,
        idempotency_key text, status text, error text, finished_at timestamptz, environment text,
        source_key text, position text, left_out jsonb)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
)
SELECT id AS added, NULL AS environment, NULL AS collection, NULL AS id, NULL AS target, NULL AS destination,
       NULL::jsonb AS properties, NULL::jsonb AS deleted, NULL::bigint AS version, NULL AS last_event
FROM added
UNION ALL
SELECT NULL, found.environment, found.collection, found.id, found.target, found.destination,
       found.properties, found.deleted, found.version, found.last_event
"""
    + APPLIED_ROWS
)

_LOAD = text("""
SELECT id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error,
       finished_at, calls, result, position, left_out, parent_missing_since,
       contested
FROM actions WHERE id = ANY(CAST(:ids AS uuid[]))
""")

_OF_EVENT = text("""
SELECT id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error,
       finished_at, calls, result, position, left_out, parent_missing_since,
       contested
FROM actions WHERE id >= :first AND id < :end AND event_id = :event_id
""")

# Rows in one order everywhere, so that processes wait for each other and never in a circle. What a later
# event set stays its own; a deletion leaves what is later than it. An action is not over yet when another
# event changed the same row since it was looked up.
_RECORD = text("""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:changes AS json)) AS given (
        action uuid, environment text, collection text, id text, target text, destination text,
        properties jsonb, deleted jsonb, version bigint, event text)
), changed AS (
    INSERT INTO applied_changes AS stored (environment, collection, id, target, destination, properties,
                                           deleted, version, last_event, last_on)
    SELECT environment, collection, id, target, destination, properties, deleted, 1, event,
           CAST(:today AS date)
    FROM given ORDER BY environment, collection, id, target, destination
    ON CONFLICT (environment, collection, id, target, destination) DO UPDATE SET
        properties = CASE
            WHEN excluded.deleted IS NOT NULL THEN (
                SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(stored.properties)
                WHERE doorbell_is_later(value, excluded.deleted))
            WHEN (SELECT count(*) FROM jsonb_object_keys(stored.properties)) > :maximum
                THEN excluded.properties
            ELSE stored.properties || (
                SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(excluded.properties)
                WHERE NOT doorbell_is_later(stored.properties -> key, value))
        END,
        deleted = CASE
            WHEN doorbell_is_later(stored.deleted, excluded.deleted) THEN stored.deleted
            ELSE excluded.deleted
        END,
        version = stored.version + (stored.last_event <> excluded.last_event)::integer,
        last_event = excluded.last_event,
        last_on = excluded.last_on
    RETURNING environment, collection, id, target, destination, version
), contested AS MATERIALIZED (
    SELECT DISTINCT action FROM given JOIN changed USING (environment, collection, id, target, destination)
    WHERE given.version <> changed.version
), outcome AS (
    UPDATE actions SET status = CASE WHEN contested.action IS NULL THEN v.status ELSE 'pending' END,
        result = v.result::json, error = v.error, attempts = actions.attempts + v.attempts, calls = v.calls,
        left_out = v.left_out, started_at = coalesce(actions.started_at, v.started_at),
        finished_at = CASE WHEN contested.action IS NULL THEN v.finished_at END,
        contested = actions.contested OR contested.action IS NOT NULL,
        parent_missing_since = coalesce(actions.parent_missing_since, v.parent_missing_since),
        next_attempt_at = v.next_attempt_at
    FROM json_to_recordset(CAST(:rows AS json)) AS v (
        id uuid, status text, result text, error text, attempts integer, calls integer, left_out jsonb,
        started_at timestamptz, finished_at timestamptz, parent_missing_since timestamptz,
        next_attempt_at timestamptz)
    LEFT JOIN contested ON contested.action = v.id
    WHERE actions.id = v.id AND actions.id >= :first AND actions.id <= :last AND actions.status = 'pending'
)
SELECT action FROM contested
""")

_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")

_GIVE_UP = text("""
UPDATE actions SET status = 'failed', finished_at = now(),
    next_attempt_at = NULL,
    error = coalesce(CAST(:by AS text) || ' gave up', 'gave up') || ' after ' || attempts ||
        CASE attempts WHEN 1 THEN ' attempt: ' ELSE ' attempts: ' END ||
        coalesce(error, 'no attempt was recorded')
WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'pending'
RETURNING action_type
""")


@dataclass(frozen=True)
class StoredAction:
    """An action as evaluated: what is sent, unchanged, on every attempt."""

    id: UUID
    event_id: UUID
    mapping_id: UUID
    action_type: str
    parameters: dict[str, Any] = field(repr=False)
    payload: dict[str, Any] | None = field(repr=False)
    idempotency_key: str | None
    status: ActionStatus
    error: str | None = None
    finished_at: datetime | None = None
    # How many of its calls have succeeded, and what came of them.
    calls: int = 0
    result: dict[str, Any] | None = field(default=None, repr=False)
    # Where its event is from, written for the log's filters and not read back.
    environment: str | None = None
    source_key: str | None = None
    position: Position | None = None
    left_out: list[dict[str, Any]] | None = field(default=None, repr=False)
    parent_missing_since: datetime | None = None
    contested: bool = False
    # What was applied so far to what it changes, when it was added; not read back.
    standing: Standing | None = field(default=None, repr=False)

    @property
    def stands(self) -> Position:
        """Where its event stands; of an action from before that was stored, by receipt."""
        return self.position or Position(str(self.event_id))


@dataclass(frozen=True)
class Attempt:
    """What came of one attempt, about to be written. `started_at` None: it was not its turn, nothing was
    sent."""

    action_id: UUID
    status: ActionStatus
    started_at: datetime | None
    finished_at: datetime | None
    calls: int
    result: dict[str, Any] | None = field(default=None, repr=False)
    error: str | None = None
    left_out: list[dict[str, Any]] | None = field(default=None, repr=False)
    parent_missing_since: datetime | None = None
    next_attempt_at: datetime | None = None
    applied: "AppliedBy | None" = field(default=None, repr=False)


@dataclass(frozen=True)
class AppliedBy:
    """What the calls of an attempt changed, by an event of this position, and what was there before."""

    environment: str
    destination: str
    position: Position
    changes: Sequence[NotedChange]
    before: Standing

    @property
    def keys(self) -> set[SubjectKey]:
        """The rows that it changed."""
        return {each.key for each in self.changes}


@dataclass(frozen=True)
class _Addition:
    """An action about to be added, and what to look up for it."""

    action: StoredAction
    destination: str
    keys: Sequence[SubjectKey]


class ActionLog:
    """One for each worker process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = with_isolation(engine, "AUTOCOMMIT")
        self._transactions = engine
        self._settling = asyncio.Semaphore(SETTLING)
        self._pending: OrderedDict[UUID, StoredAction] = OrderedDict()
        self._adds: Batcher[_Addition, StoredAction] = Batcher(self._add, pace=PACE)
        self._look_ups: Batcher[LookUp, Standing] = Batcher(self._look_up)
        self._loads: Batcher[UUID, StoredAction | None] = Batcher(self._load)
        self._records: Batcher[Attempt, bool] = Batcher(self._record, pace=PACE)

    async def add(self, action: StoredAction, destination: str) -> StoredAction:
        """Add an action's row; the row that was there already, if it was. With what was applied so far to
        what it changes at its destination."""
        keys = keys_of(action_types()[action.action_type], action.payload)
        stored = await self._adds.submit(_Addition(action, destination, keys))
        self._remember(stored)
        return stored

    async def of_event(self, event_id: UUID) -> list[StoredAction]:
        """The actions that were stored with an event, in the order in which they run."""
        first, end = id_time_range(event_id)
        async with self._engine.connect() as connection:
            found = await connection.execute(_OF_EVENT, {"first": first, "end": end, "event_id": event_id})
            actions = [_stored(row) for row in found.mappings()]
        order = list(action_types())
        return sorted(actions, key=lambda each: order.index(each.action_type))

    async def load(self, action_id: UUID, *, anew: bool = False) -> StoredAction:
        """The action. `anew`: as it is stored now, when another process may have worked on it since.

        Raises:
            Permanent: it is gone, past retention.
        """
        if not anew and (action := self._pending.get(action_id)):
            return action
        action = await self._loads.submit(action_id)
        if action is None:
            raise Permanent(f"action {action_id} is no longer stored")
        self._remember(action)
        return action

    async def look_up(self, action: StoredAction, environment: str, destination: str) -> Standing:
        """What was applied by now to what an action changes."""
        keys = keys_of(action_types()[action.action_type], action.payload)
        if not keys:
            return Standing()
        return await self._look_ups.submit(LookUp(environment, destination, keys))

    async def record(self, attempt: Attempt) -> bool:
        """Write what came of an attempt; False when another event changed the same thing meanwhile, so that
        the action is still pending."""
        if attempt.status is not ActionStatus.PENDING:
            self._pending.pop(attempt.action_id, None)
        return await self._records.submit(attempt)

    @asynccontextmanager
    async def alone(self, *name: str) -> AsyncIterator[None]:
        """Let those who settle the same thing, in all processes, come one after the other."""
        async with self._settling, self._transactions.begin() as connection:
            await connection.execute(_ALONE, {"name": to_json(["settle", *name])})
            yield

    async def apply(self, applied: AppliedBy) -> bool:
        """Note what was changed once more; False when another event changed the same thing meanwhile."""
        nothing = Attempt(new_id(), ActionStatus.PENDING, None, None, 0, applied=applied)
        async with self._engine.connect() as connection:
            (is_settled,) = await _write(connection, [nothing])
        return is_settled

    async def give_up(self, action_ids: Sequence[UUID], by: str | None = None) -> Sequence[str]:
        """Mark actions as failed that are not tried again; the types of those that were pending. `by`: who
        asked for that."""
        async with self._engine.connect() as connection:
            gave_up = await connection.scalars(_GIVE_UP, {"ids": list(action_ids), "by": by})
            return gave_up.all()

    def _remember(self, action: StoredAction) -> None:
        """Keep a pending action at hand for its attempt, so that it is not read back."""
        if action.status is ActionStatus.PENDING:
            self._pending[action.id] = action
            if len(self._pending) > MAXIMUM_CACHED:
                self._pending.popitem(last=False)

    async def _add(self, additions: list[_Addition]) -> list[StoredAction]:
        actions = [each.action for each in additions]
        wanted = [LookUp(each.action.environment or "", each.destination, each.keys) for each in additions]
        async with self._engine.connect() as connection:
            result = await connection.execute(
                _ADD, {"rows": to_json([_row(each) for each in actions]), "keys": wanted_rows(wanted)}
            )
            found = result.mappings().all()
        added = {row["added"] for row in found}
        found_standings = standings(wanted, [row for row in found if row["added"] is None])
        earlier = await self._load([each.id for each in actions if each.id not in added])
        rows = {each.id: each for each in earlier if each is not None}
        return [
            replace(rows.get(action.id, action), standing=standing)
            for action, standing in zip(actions, found_standings, strict=True)
        ]

    async def _look_up(self, wanted: list[LookUp]) -> list[Standing]:
        async with self._engine.connect() as connection:
            return await look_up(connection, wanted)

    async def _load(self, action_ids: list[UUID]) -> list[StoredAction | None]:
        if not action_ids:
            return []
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LOAD, {"ids": action_ids})).mappings().all()
        found = {row["id"]: _stored(row) for row in rows}
        return [found.get(action_id) for action_id in action_ids]

    async def _record(self, batch: list[Attempt]) -> list[bool]:
        async with self._engine.connect() as connection:
            return [done for part in _without_repeats(batch) for done in await _write(connection, part)]


async def _write(connection: AsyncConnection, batch: list[Attempt]) -> list[bool]:
    """Write attempts of which no two change the same row."""
    contested = set(
        await connection.scalars(
            _RECORD,
            {
                "rows": to_json([_attempt_row(each) for each in batch]),
                "first": min(each.action_id for each in batch),
                "last": max(each.action_id for each in batch),
                "changes": to_json([row for each in batch for row in _changed_rows(each)]),
                "today": now().date(),
                "maximum": MAXIMUM_PROPERTIES,
            },
        )
    )
    return [each.action_id not in contested for each in batch]


def _without_repeats(batch: list[Attempt]) -> list[list[Attempt]]:
    """The attempts in their order, cut where one changes a row that one before it changes: a statement
    changes a row once."""
    parts: list[list[Attempt]] = [[]]
    seen: set[tuple[str, ...]] = set()
    for each in batch:
        rows = {tuple(row) for row in _row_keys(each.applied)}
        if rows & seen:
            parts.append([])
            seen.clear()
        parts[-1].append(each)
        seen |= rows
    return parts


def _row_keys(applied: AppliedBy | None) -> list[tuple[str, ...]]:
    if applied is None:
        return []
    return [(applied.environment, *key, applied.destination) for key in applied.keys]


def _changed_rows(attempt: Attempt) -> list[dict[str, object]]:
    """What an attempt changed, a row of the table each."""
    applied = attempt.applied
    if applied is None:
        return []
    mark, event_id = applied.position.as_mark(), applied.position.event_id
    properties: dict[SubjectKey, dict[str, object]] = {key: {} for key in applied.keys}
    deleted: set[SubjectKey] = set()
    for each in applied.changes:
        properties[each.key] |= dict.fromkeys(each.properties, mark)
        if each.deletes:
            deleted.add(each.key)
    return [
        {
            "action": attempt.action_id,
            "environment": applied.environment,
            **key._asdict(),
            "destination": applied.destination,
            "properties": marks,
            "deleted": mark if key in deleted else None,
            "version": applied.before.of(key).version_after(event_id),
            "event": event_id,
        }
        for key, marks in properties.items()
    ]


def _row(action: StoredAction) -> dict[str, object]:
    """An action as JSON takes it. JSON within it is text, so that it stays as it came."""
    return {
        "id": action.id,
        "event_id": action.event_id,
        "mapping_id": action.mapping_id,
        "action_type": action.action_type,
        "parameters": to_json(action.parameters),
        "payload": None if action.payload is None else to_json(action.payload),
        "idempotency_key": action.idempotency_key,
        "status": action.status,
        "error": action.error,
        "finished_at": action.finished_at,
        "environment": action.environment,
        "source_key": action.source_key,
        "position": None if action.position is None else to_json(action.position.as_mark()),
        "left_out": action.left_out,
    }


def _attempt_row(attempt: Attempt) -> dict[str, object]:
    """An attempt as JSON takes it; one that sent nothing is none that counts."""
    return {
        "id": attempt.action_id,
        "status": attempt.status,
        "result": None if attempt.result is None else to_json(attempt.result),
        "error": attempt.error,
        "attempts": 0 if attempt.started_at is None else 1,
        "calls": attempt.calls,
        "left_out": attempt.left_out or None,
        "parent_missing_since": attempt.parent_missing_since,
        "next_attempt_at": attempt.next_attempt_at,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
    }


def _stored(row: RowMapping) -> StoredAction:
    position = None if row["position"] is None else Position.of_mark(row["position"])
    return StoredAction(**{**row, "status": ActionStatus(row["status"]), "position": position})
