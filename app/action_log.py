"""The action log as the worker uses it: rows added when an event is mapped, updated after each attempt, both in
batches across events."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.activities.actions.registry import action_types
from app.batching import Batcher
from app.database import to_json
from app.errors import Permanent
from app.models.status import ActionStatus
from app.models.types import id_time_range

MAXIMUM_CACHED = 2000

# A mapping evaluated twice finds the row of the first time: what was evaluated then is what is sent.
_ADD = text("""
INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error,
                     attempts, finished_at)
SELECT id, event_id, mapping_id, action_type, parameters::json, payload::json, idempotency_key, status, error,
       0, finished_at
FROM unnest(CAST(:ids AS uuid[]), CAST(:event_ids AS uuid[]), CAST(:mapping_ids AS uuid[]),
            CAST(:action_types AS text[]), CAST(:parameters AS text[]), CAST(:payloads AS text[]),
            CAST(:idempotency_keys AS text[]), CAST(:statuses AS text[]), CAST(:errors AS text[]),
            CAST(:finished_ats AS timestamptz[]))
    AS v (id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error, finished_at)
ON CONFLICT (id) DO NOTHING
RETURNING id
""")

_LOAD = text("""
SELECT id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error, finished_at,
       calls, result
FROM actions WHERE id = ANY(CAST(:ids AS uuid[]))
""")

_OF_EVENT = text("""
SELECT id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status, error, finished_at
FROM actions WHERE id >= :first AND id < :end AND event_id = :event_id
""")

_RECORD = text("""
UPDATE actions SET status = v.status, result = v.result::json, error = v.error,
    attempts = actions.attempts + v.attempts, calls = v.calls, started_at = coalesce(actions.started_at, v.started_at),
    finished_at = v.finished_at
FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:results AS text[]), CAST(:errors AS text[]),
            CAST(:attempts AS integer[]), CAST(:calls AS integer[]), CAST(:started_ats AS timestamptz[]),
            CAST(:finished_ats AS timestamptz[]))
    AS v (id, status, result, error, attempts, calls, started_at, finished_at)
WHERE actions.id = v.id AND actions.id >= :first AND actions.id <= :last AND actions.status = 'pending'
""")

_GIVE_UP = text("""
UPDATE actions SET status = 'failed', finished_at = now(),
    error = 'gave up after ' || attempts || ' attempts: ' || coalesce(error, 'no attempt was recorded')
WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'pending'
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


@dataclass(frozen=True)
class Attempt:
    """What came of one attempt, about to be written. `started_at` None: it was not its turn, nothing was sent."""

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
        self._adds: Batcher[StoredAction, StoredAction] = Batcher(self._add)
        self._loads: Batcher[UUID, StoredAction | None] = Batcher(self._load)
        self._records: Batcher[Attempt, None] = Batcher(self._record)

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

    async def give_up(self, action_ids: Sequence[UUID]) -> None:
        """Mark actions as failed that are not tried again."""
        async with self._engine.connect() as connection:
            await connection.execute(_GIVE_UP, {"ids": list(action_ids)})

    def _remember(self, action: StoredAction) -> None:
        """Keep a pending action at hand for its attempt, so that it is not read back."""
        if action.status is ActionStatus.PENDING:
            self._pending[action.id] = action
            if len(self._pending) > MAXIMUM_CACHED:
                self._pending.popitem(last=False)

    async def _add(self, actions: list[StoredAction]) -> list[StoredAction]:
        async with self._engine.connect() as connection:
            result = await connection.execute(
                _ADD,
                {
                    "ids": [each.id for each in actions],
                    "event_ids": [each.event_id for each in actions],
                    "mapping_ids": [each.mapping_id for each in actions],
                    "action_types": [each.action_type for each in actions],
                    "parameters": [to_json(each.parameters) for each in actions],
                    "payloads": [None if each.payload is None else to_json(each.payload) for each in actions],
                    "idempotency_keys": [each.idempotency_key for each in actions],
                    "statuses": [each.status.value for each in actions],
                    "errors": [each.error for each in actions],
                    "finished_ats": [each.finished_at for each in actions],
                },
            )
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
        async with self._engine.connect() as connection:
            await connection.execute(
                _RECORD,
                {
                    "ids": [each.action_id for each in batch],
                    "statuses": [each.status.value for each in batch],
                    "results": [None if each.result is None else to_json(each.result) for each in batch],
                    "errors": [each.error for each in batch],
                    "attempts": [0 if each.started_at is None else 1 for each in batch],
                    "calls": [each.calls for each in batch],
                    "started_ats": [each.started_at for each in batch],
                    "finished_ats": [each.finished_at for each in batch],
                    "first": min(each.action_id for each in batch),
                    "last": max(each.action_id for each in batch),
                },
            )
        return [None] * len(batch)


def _stored(row: RowMapping) -> StoredAction:
    return StoredAction(**{**row, "status": ActionStatus(row["status"])})
