"""The action log as the worker uses it: rows added when an event is mapped, updated after each attempt, both
in batches across events."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.actions.registry import action_types
from app.core.errors import Permanent
from app.database.batching import PACE, Batcher
from app.database.engine import to_json
from app.models.status import ActionStatus
from app.models.types import id_time_range

MAXIMUM_CACHED = 2000

# A mapping evaluated twice finds the row of the first time: what was evaluated then is what is sent. Rows
# come as one JSON array, as those of the inbox do.
_ADD = text("""
INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status,
  error,
                     attempts, finished_at, environment, source_key)
SELECT id, event_id, mapping_id, action_type, parameters::json, payload::json, idempotency_key, status, error,
       0, finished_at, environment, source_key
FROM json_to_recordset(CAST(:rows AS json)) AS given (
    id uuid, event_id uuid, mapping_id uuid, action_type text, parameters text, payload text,
      idempotency_key text,
    status text, error text, finished_at timestamptz, environment text, source_key text)
ON CONFLICT (id) DO NOTHING
RETURNING id
""")

_LOAD = text("""
SELECT id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error,
  finished_at,
       calls, result
FROM actions WHERE id = ANY(CAST(:ids AS uuid[]))
""")

_OF_EVENT = text("""
SELECT id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error, finished_at
FROM actions WHERE id >= :first AND id < :end AND event_id = :event_id
""")

_RECORD = text("""
UPDATE actions SET status = v.status, result = v.result::json, error = v.error,
    attempts = actions.attempts + v.attempts, calls = v.calls, started_at = coalesce(actions.started_at,
      v.started_at),
    finished_at = v.finished_at
FROM json_to_recordset(CAST(:rows AS json)) AS v (
    id uuid, status text, result text, error text, attempts integer, calls integer, started_at timestamptz,
    finished_at timestamptz)
WHERE actions.id = v.id AND actions.id >= :first AND actions.id <= :last AND actions.status = 'pending'
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


class ActionLog:
    """One for each worker process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._pending: OrderedDict[UUID, StoredAction] = OrderedDict()
        self._adds: Batcher[StoredAction, StoredAction] = Batcher(self._add, pace=PACE)
        self._loads: Batcher[UUID, StoredAction | None] = Batcher(self._load)
        self._records: Batcher[Attempt, None] = Batcher(self._record, pace=PACE)

    async def add(self, action: StoredAction) -> StoredAction:
        """Add an action's row; the row that was there already, if it was."""
        stored = await self._adds.submit(action)
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

    async def record(self, attempt: Attempt) -> None:
        """Write what came of an attempt."""
        if attempt.status is not ActionStatus.PENDING:
            self._pending.pop(attempt.action_id, None)
        await self._records.submit(attempt)

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

    async def _add(self, actions: list[StoredAction]) -> list[StoredAction]:
        async with self._engine.connect() as connection:
            result = await connection.execute(_ADD, {"rows": to_json([_row(each) for each in actions])})
            added = set(result.scalars())
        earlier = await self._load([each.id for each in actions if each.id not in added])
        rows = {each.id: each for each in earlier if each is not None}
        return [rows.get(each.id, each) for each in actions]

    async def _load(self, action_ids: list[UUID]) -> list[StoredAction | None]:
        if not action_ids:
            return []
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LOAD, {"ids": action_ids})).mappings().all()
        found = {row["id"]: _stored(row) for row in rows}
        return [found.get(action_id) for action_id in action_ids]

    async def _record(self, batch: list[Attempt]) -> list[None]:
        parameters = {
            "rows": to_json([_attempt_row(each) for each in batch]),
            "first": min(each.action_id for each in batch),
            "last": max(each.action_id for each in batch),
        }
        async with self._engine.connect() as connection:
            await connection.execute(_RECORD, parameters)
        return [None] * len(batch)


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
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
    }


def _stored(row: RowMapping) -> StoredAction:
    return StoredAction(**{**row, "status": ActionStatus(row["status"])})
