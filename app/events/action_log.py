"""The action log as the worker uses it: rows added when an event is mapped, updated after each attempt, both
in batches across events. What was applied to what an action changes is read and written in the same
statements."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.actions.registry import action_types
from app.core.errors import Permanent
from app.database.batching import PACE, Batcher
from app.database.engine import to_json
from app.events.applied import Applied, AppliedChange, Key, Position, Standing, keys_of
from app.models.status import ActionStatus
from app.models.types import id_time_range, now

MAXIMUM_CACHED = 2000
# Properties of one user, object or tenant of which is kept what set them last. Beyond, it begins anew.
MAXIMUM_PROPERTIES = 2000

# An index finds each row, whatever the planner expects of the table.
_APPLIED = """
FROM json_to_recordset(CAST(:keys AS json)) AS wanted (
    environment text, collection text, id text, target text, destination text)
CROSS JOIN LATERAL (
    SELECT * FROM applied_changes AS applied
    WHERE applied.environment = wanted.environment AND applied.collection = wanted.collection
      AND applied.id = wanted.id AND applied.target = wanted.target
      AND applied.destination = wanted.destination LIMIT 1
) AS found
"""
_LOOK_UP = text(f"SELECT found.* {_APPLIED}")

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
       NULL::jsonb AS properties, NULL::jsonb AS deleted, NULL::bigint AS version
FROM added
UNION ALL
SELECT NULL, found.environment, found.collection, found.id, found.target, found.destination,
       found.properties, found.deleted, found.version
"""
    + _APPLIED
)

_LOAD = text("""
SELECT id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error,
       finished_at, calls, result, position, left_out, parent_missing_since
FROM actions WHERE id = ANY(CAST(:ids AS uuid[]))
""")

_OF_EVENT = text("""
SELECT id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error,
       finished_at, calls, result, position, left_out, parent_missing_since
FROM actions WHERE id >= :first AND id < :end AND event_id = :event_id
""")

# Rows in one order everywhere, so that processes wait for each other and never in a circle. What a later
# event set stays its own; a deletion leaves what is later than it.
_RECORD = text("""
WITH outcome AS (
    UPDATE actions SET status = v.status, result = v.result::json, error = v.error,
        attempts = actions.attempts + v.attempts, calls = v.calls, left_out = v.left_out,
        started_at = coalesce(actions.started_at, v.started_at), finished_at = v.finished_at,
        parent_missing_since = coalesce(actions.parent_missing_since, v.parent_missing_since)
    FROM json_to_recordset(CAST(:rows AS json)) AS v (
        id uuid, status text, result text, error text, attempts integer, calls integer, left_out jsonb,
        started_at timestamptz, finished_at timestamptz, parent_missing_since timestamptz)
    WHERE actions.id = v.id AND actions.id >= :first AND actions.id <= :last AND actions.status = 'pending'
)
INSERT INTO applied_changes AS stored (environment, collection, id, target, destination, properties, deleted,
                                       version, last_on)
SELECT environment, collection, id, target, destination, properties, deleted, 1, CAST(:today AS date)
FROM json_to_recordset(CAST(:changes AS json)) AS given (
    environment text, collection text, id text, target text, destination text, properties jsonb,
    deleted jsonb)
ORDER BY environment, collection, id, target, destination
ON CONFLICT (environment, collection, id, target, destination) DO UPDATE SET
    properties = CASE
        WHEN excluded.deleted IS NOT NULL THEN (
            SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(stored.properties)
            WHERE doorbell_is_later(value, excluded.deleted))
        WHEN (SELECT count(*) FROM jsonb_object_keys(stored.properties)) > :maximum THEN excluded.properties
        ELSE stored.properties || (
            SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(excluded.properties)
            WHERE NOT doorbell_is_later(stored.properties -> key, value))
    END,
    deleted = CASE
        WHEN doorbell_is_later(stored.deleted, excluded.deleted) THEN stored.deleted
        ELSE excluded.deleted
    END,
    version = stored.version + 1,
    last_on = excluded.last_on
RETURNING environment, collection, id, target, destination, version
""")

_GIVE_UP = text("""
UPDATE actions SET status = 'failed', finished_at = now(),
    error = 'gave up after ' || attempts || ' attempts: ' || coalesce(error, 'no attempt was recorded')
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
    applied: "AppliedBy | None" = field(default=None, repr=False)


@dataclass(frozen=True)
class AppliedBy:
    """What the calls of an attempt changed, by an event of this position, and what was there before."""

    environment: str
    destination: str
    position: Position
    changes: Sequence[AppliedChange]
    before: Standing

    @property
    def keys(self) -> set[Key]:
        """The rows that it changed."""
        return {each.key for each in self.changes}


@dataclass(frozen=True)
class _Addition:
    """An action about to be added, and what to look up for it."""

    action: StoredAction
    destination: str
    keys: Sequence[Key]


@dataclass(frozen=True)
class _LookUp:
    """What to look up at a destination of an environment."""

    environment: str
    destination: str
    keys: Sequence[Key]


class ActionLog:
    """One for each worker process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._pending: OrderedDict[UUID, StoredAction] = OrderedDict()
        self._adds: Batcher[_Addition, StoredAction] = Batcher(self._add, pace=PACE)
        self._look_ups: Batcher[_LookUp, Standing] = Batcher(self._look_up)
        self._loads: Batcher[UUID, StoredAction | None] = Batcher(self._load)
        self._records: Batcher[Attempt, Sequence[Key]] = Batcher(self._record, pace=PACE)

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
        return await self._look_ups.submit(_LookUp(environment, destination, keys))

    async def record(self, attempt: Attempt) -> Sequence[Key]:
        """Write what came of an attempt; which of the rows that it changed were changed by other events
        meanwhile."""
        if attempt.status is not ActionStatus.PENDING:
            self._pending.pop(attempt.action_id, None)
        return await self._records.submit(attempt)

    async def give_up(self, action_ids: Sequence[UUID]) -> Sequence[str]:
        """Mark actions as failed that are not tried again; the types of those that were pending."""
        async with self._engine.connect() as connection:
            gave_up = await connection.scalars(_GIVE_UP, {"ids": list(action_ids)})
            return gave_up.all()

    def _remember(self, action: StoredAction) -> None:
        """Keep a pending action at hand for its attempt, so that it is not read back."""
        if action.status is ActionStatus.PENDING:
            self._pending[action.id] = action
            if len(self._pending) > MAXIMUM_CACHED:
                self._pending.popitem(last=False)

    async def _add(self, additions: list[_Addition]) -> list[StoredAction]:
        actions = [each.action for each in additions]
        wanted = [_LookUp(each.action.environment or "", each.destination, each.keys) for each in additions]
        async with self._engine.connect() as connection:
            result = await connection.execute(
                _ADD, {"rows": to_json([_row(each) for each in actions]), "keys": _wanted(wanted)}
            )
            found = result.mappings().all()
        added = {row["added"] for row in found}
        standings = _standings(wanted, [row for row in found if row["added"] is None])
        earlier = await self._load([each.id for each in actions if each.id not in added])
        rows = {each.id: each for each in earlier if each is not None}
        return [
            replace(rows.get(action.id, action), standing=standing)
            for action, standing in zip(actions, standings, strict=True)
        ]

    async def _look_up(self, wanted: list[_LookUp]) -> list[Standing]:
        async with self._engine.connect() as connection:
            found = await connection.execute(_LOOK_UP, {"keys": _wanted(wanted)})
            return _standings(wanted, found.mappings().all())

    async def _load(self, action_ids: list[UUID]) -> list[StoredAction | None]:
        if not action_ids:
            return []
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LOAD, {"ids": action_ids})).mappings().all()
        found = {row["id"]: _stored(row) for row in rows}
        return [found.get(action_id) for action_id in action_ids]

    async def _record(self, batch: list[Attempt]) -> list[Sequence[Key]]:
        changed: list[Sequence[Key]] = []
        async with self._engine.connect() as connection:
            for each in _without_repeats(batch):
                changed += await _write(connection, each)
        return changed


async def _write(connection: AsyncConnection, batch: list[Attempt]) -> list[Sequence[Key]]:
    """Write attempts of which no two change the same row."""
    rows = await connection.execute(
        _RECORD,
        {
            "rows": to_json([_attempt_row(each) for each in batch]),
            "first": min(each.action_id for each in batch),
            "last": max(each.action_id for each in batch),
            "changes": to_json([row for each in batch for row in _changed_rows(each.applied)]),
            "today": now().date(),
            "maximum": MAXIMUM_PROPERTIES,
        },
    )
    versions = {tuple(row[:5]): row.version for row in rows}
    return [_changed_meanwhile(each.applied, versions) for each in batch]


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


def _changed_meanwhile(applied: AppliedBy | None, versions: Mapping[tuple[str, ...], int]) -> Sequence[Key]:
    if applied is None:
        return ()
    return [
        key
        for key in applied.keys
        if versions[(applied.environment, *key, applied.destination)] != applied.before.of(key).version + 1
    ]


def _changed_rows(applied: AppliedBy | None) -> list[dict[str, object]]:
    """What an attempt changed, a row of the table each."""
    if applied is None:
        return []
    mark = applied.position.as_mark()
    properties: dict[Key, dict[str, object]] = {key: {} for key in applied.keys}
    deleted: set[Key] = set()
    for each in applied.changes:
        properties[each.key] |= dict.fromkeys(each.properties, mark)
        if each.deletes:
            deleted.add(each.key)
    where = {"environment": applied.environment, "destination": applied.destination}
    return [
        {**where, **key._asdict(), "properties": marks, "deleted": mark if key in deleted else None}
        for key, marks in properties.items()
    ]


def _wanted(look_ups: Sequence[_LookUp]) -> str:
    """The rows to look up, as JSON."""
    found = {(each.environment, *key, each.destination) for each in look_ups for key in each.keys}
    names = ("environment", *Key._fields, "destination")
    return to_json([dict(zip(names, each, strict=True)) for each in found])


def _standings(look_ups: Sequence[_LookUp], rows: Sequence[RowMapping]) -> list[Standing]:
    """What was found, for each look-up."""
    moment = now()
    found = {
        (row["environment"], row["destination"], Key(row["collection"], row["id"], row["target"])): Applied(
            row["properties"], row["deleted"], row["version"]
        )
        for row in rows
    }
    return [
        Standing(
            {
                key: found[each.environment, each.destination, key]
                for key in each.keys
                if (each.environment, each.destination, key) in found
            },
            moment,
        )
        for each in look_ups
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
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
    }


def _stored(row: RowMapping) -> StoredAction:
    position = None if row["position"] is None else Position.of_mark(row["position"])
    return StoredAction(**{**row, "status": ActionStatus(row["status"]), "position": position})
