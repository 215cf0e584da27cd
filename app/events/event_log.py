"""The event log as the worker uses it: events loaded by id, outcomes recorded, both in batches across events.

A payload that was loaded stays in memory until its event's outcome is recorded, so that each event is read
once; correct without.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.actions.paths import DecodedEvent
from app.actions.sensitive import withheld
from app.core import exact_json
from app.core.errors import Permanent
from app.core.secrets import SecretBox
from app.database.batching import PACE, Batcher
from app.database.engine import with_isolation
from app.events.channel import CHANNEL
from app.events.ordering import QUEUE, let_go, wake_waiting
from app.models.status import EventStatus
from app.runtime import metrics

# Bodies kept in memory, in bytes: those of all events in flight of usual size, and no more.
MAXIMUM_CACHED = 16 * 1024 * 1024
MAXIMUM_CACHED_BODY = 256 * 1024
# What a row costs besides its body, roughly.
ROW_BYTES = 4096

_LOAD = text("""
SELECT e.id, e.environment, e.source_key, e.event_type, e.idempotency_key, e.verification_status,
       e.verification_reason, e.received_at, e.occurred_at, e.error, e.origin, e.replay_of,
       e.replay_mappings, e.takes_key,
       e.received_through, p.body, p.headers, p.sensitive_headers, p.preprocess_output
FROM events e LEFT JOIN event_payloads p ON p.id = e.id AND p.id = ANY(CAST(:ids AS uuid[]))
WHERE e.id = ANY(CAST(:ids AS uuid[]))
""")

# The event that a replay runs again, which may be a replay itself. Retention may have taken it.
_ORIGINAL = text("""
WITH RECURSIVE replayed (id) AS (
    SELECT CAST(:id AS uuid)
    UNION
    SELECT events.replay_of FROM replayed JOIN events ON events.id = replayed.id
    WHERE events.replay_of IS NOT NULL
)
SELECT id FROM replayed ORDER BY id LIMIT 1
""")

# The actions of events that have come to their end, which nobody runs any more: those of an event that
# repeats another one and sent nothing are deleted. Found by the millisecond of their event.
END_ACTIONS = """
left_pending AS MATERIALIZED (
    SELECT action.id, action.attempts > 0 AS was_tried, ended.status, ended.error
    FROM ended CROSS JOIN LATERAL (
        SELECT id, attempts FROM actions
        WHERE actions.id >= CAST(left(CAST(ended.id AS text), 13) || '-0000-0000-000000000000' AS uuid)
          AND actions.id <= CAST(left(CAST(ended.id AS text), 13) || '-ffff-ffff-ffffffffffff' AS uuid)
          AND actions.event_id = ended.id AND actions.status = 'pending'
        OFFSET 0
    ) AS action
), never_run AS (
    DELETE FROM actions
    WHERE id = ANY(ARRAY(SELECT id FROM left_pending WHERE status = 'idempotent' AND NOT was_tried))
      AND status = 'pending'
), ended_actions AS (
    UPDATE actions SET finished_at = now(), next_attempt_at = NULL,
        status = CASE left_pending.status WHEN 'succeeded' THEN 'succeeded' ELSE 'failed' END,
        error = CASE WHEN left_pending.status <> 'succeeded' THEN concat_ws('; last attempt: ',
            CASE left_pending.status WHEN 'idempotent' THEN 'not run any more: the event repeats another one'
            ELSE 'not run any more: ' || coalesce(left_pending.error, 'the event ended') END,
            actions.error) END
    FROM left_pending
    WHERE actions.id = ANY(ARRAY(SELECT id FROM left_pending WHERE status <> 'idempotent' OR was_tried))
      AND actions.id = left_pending.id AND actions.status = 'pending'
)
"""

# The bounds let Postgres look into the partitions that hold the batch only; final states stay as they are.
_FINISHED = """
UPDATE events SET status = v.status, error = coalesce(v.error, events.error), finished_at = v.finished_at,
    workflow_id = v.workflow_id, run_id = v.run_id, duplicate_of = v.duplicate_of, lease_expires_at = NULL,
    waiting_for = NULL
FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:errors AS text[]),
            CAST(:finished_ats AS timestamptz[]), CAST(:workflow_ids AS text[]), CAST(:run_ids AS text[]),
            CAST(:duplicates_of AS uuid[]))
    AS v (id, status, error, finished_at, workflow_id, run_id, duplicate_of)
WHERE events.id = v.id AND events.id >= :first AND events.id <= :last
  AND events.status IN ('received', 'processing')
RETURNING events.id, events.status, events.error, events.ordering_keys IS NOT NULL AS is_ordered
"""
_FINISH = text(_FINISHED)
_FINISH_WITH_ACTIONS = text(f"""
WITH ended AS ({_FINISHED}), {END_ACTIONS}
SELECT id, is_ordered FROM ended
""")

# Those that wait for a run whose event has its outcome: they share a success. After a failure, and after a
# run in which nothing ran, they go back, and the next one executes (`app/worker/start.py`).
_SETTLE = text(f"""
WITH run AS (
    SELECT events.id, events.finished_at, v.workflow_id, v.run_id,
           events.status = 'succeeded' AND NOT v.ran_nothing AS is_shared
    FROM unnest(CAST(:ids AS uuid[]), CAST(:workflow_ids AS text[]), CAST(:run_ids AS text[]),
                CAST(:ran_nothing AS boolean[]))
        AS v (id, workflow_id, run_id, ran_nothing)
    JOIN events ON events.id = v.id
    WHERE events.id >= :first AND events.id <= :last
      AND events.status IN ('succeeded', 'ignored', 'failed', 'rejected')
), settled AS (
    UPDATE events SET
        status = CASE WHEN is_shared THEN 'idempotent' ELSE 'received' END,
        duplicate_of = CASE WHEN is_shared THEN run.id END,
        finished_at = CASE WHEN is_shared THEN run.finished_at END,
        workflow_id = CASE WHEN is_shared THEN run.workflow_id END,
        run_id = CASE WHEN is_shared THEN run.run_id END,
        lease_expires_at = NULL
    FROM run
    WHERE events.run_id = run.run_id AND events.status = 'processing' AND events.id <> run.id
    RETURNING events.id, events.environment, events.source_key, events.status, events.error,
        events.ordering_keys, events.received_order
), turns AS ({QUEUE.format(queued="(SELECT * FROM settled WHERE status = 'received')")}
), ended AS (
    SELECT id, status, error FROM settled WHERE status = 'idempotent'
), {END_ACTIONS}
SELECT environment, source_key, count(*) FILTER (WHERE status = 'idempotent') AS idempotent,
    array_agg(id) FILTER (WHERE status = 'idempotent' AND ordering_keys IS NOT NULL) AS freed,
    CASE WHEN bool_or(status = 'received') THEN pg_notify(:channel, environment) END
FROM settled GROUP BY environment, source_key
""")

_RELEASE = text(f"""
WITH released AS (
    UPDATE events SET status = 'received', lease_expires_at = NULL, workflow_id = NULL, run_id = NULL
    WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'processing'
    RETURNING id, environment, source_key, ordering_keys, received_order
), turns AS ({QUEUE.format(queued="released")})
SELECT environment, pg_notify(:channel, environment) FROM (SELECT DISTINCT environment FROM released) AS e
""")

_VERIFICATION = text(
    "UPDATE events SET verification_status = :status, verification_reason = :reason WHERE id = :id"
)


@dataclass(frozen=True)
class StoredEvent:
    """An event as it is in the log, with its payload, which may be gone sooner than the event itself.

    `error` is what reception could not make out.
    """

    id: UUID
    environment: str
    source_key: str
    event_type: str | None
    idempotency_key: str | None
    verification_status: str
    verification_reason: str | None
    received_at: datetime
    occurred_at: datetime | None
    error: str | None
    received_through: str
    body: bytes | None = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    preprocess_output: dict[str, Any] | None = field(repr=False)
    origin: str | None = None
    replay_of: UUID | None = None
    replay_mappings: str | None = None
    takes_key: bool = False

    @property
    def is_by_hand(self) -> bool:
        """Whether it runs whatever its idempotency key says: it was asked for, and is no second try."""
        return self.origin is not None and not self.takes_key

    def received_body(self) -> bytes:
        """The body as received.

        Raises:
            Permanent: it is gone, past its retention or erased.
        """
        if self.body is None:
            raise Permanent(f"the payload of event {self.id} is no longer stored")
        return self.body

    def decoded(self, sensitive_paths: Sequence[str] = ()) -> DecodedEvent:
        """What paths are read from: all but the values at these paths. Raises as `received_body` does."""
        body = withheld(exact_json.loads(self.received_body()), sensitive_paths)
        return DecodedEvent(body, self.headers, self.preprocess_output)


@dataclass(frozen=True)
class Finished:
    """A final state of an event, about to be written."""

    id: UUID
    status: EventStatus
    finished_at: datetime
    error: str | None = None
    workflow_id: str | None = None
    run_id: str | None = None
    duplicate_of: UUID | None = None
    # That it is no success which those that wait for its run share.
    ran_nothing: bool = False
    # That each of its actions has its final state already.
    actions_ended: bool = False


class EventLog:
    """One for each worker process."""

    def __init__(self, engine: AsyncEngine, box: SecretBox) -> None:
        self._engine = with_isolation(engine, "AUTOCOMMIT")
        self._box = box
        self._loaded: OrderedDict[UUID, StoredEvent] = OrderedDict()
        self._loaded_bytes = 0
        self._loads: Batcher[UUID, StoredEvent | None] = Batcher(self._load)
        self._finishes: Batcher[Finished, None] = Batcher(self._finish, pace=PACE)

    async def load(self, event_id: UUID) -> StoredEvent:
        """The event and, as long as it is kept, its payload.

        Raises:
            Permanent: the event is gone, past retention.
        """
        if event := self._loaded.get(event_id):
            return event
        event = await self._loads.submit(event_id)
        if event is None:
            raise Permanent(f"event {event_id} is no longer stored")
        self._keep(event)
        return event

    async def load_ahead(self, event_ids: Sequence[UUID]) -> None:
        """Have events that are about to be processed at hand, with one statement for all. What fails is met
        again."""
        await asyncio.gather(*map(self.load, event_ids), return_exceptions=True)

    async def finish(self, finished: Finished) -> None:
        """Write a final state, end the actions that are left, and settle the events that wait for its run. An
        event that already has a final state keeps it.

        Done again after a crash between the two, it does what is left.
        """
        self._forget(finished.id)
        await self._finishes.submit(finished)

    async def original_of(self, event: StoredEvent) -> UUID:
        """The event that was received: itself, or the first that a replay goes back to."""
        if event.replay_of is None:
            return event.id
        async with self._engine.connect() as connection:
            original: UUID = await connection.scalar(_ORIGINAL, {"id": event.replay_of})
            return original

    async def release(self, event_ids: Sequence[UUID]) -> None:
        """Give events back to the dispatcher, which hears of it."""
        async with self._engine.connect() as connection:
            await connection.execute(_RELEASE, {"ids": list(event_ids), "channel": CHANNEL})
            await wake_waiting(connection, event_ids)

    async def set_verification(self, event_id: UUID, status: str, reason: str | None) -> None:
        """Correct the verification that reception noted."""
        async with self._engine.connect() as connection:
            await connection.execute(_VERIFICATION, {"id": event_id, "status": status, "reason": reason})

    def _keep(self, event: StoredEvent) -> None:
        """Keep an event at hand for its next stages; the oldest make room."""
        if len(event.body or b"") > MAXIMUM_CACHED_BODY or event.id in self._loaded:
            return
        self._loaded[event.id] = event
        self._loaded_bytes += _size(event)
        while self._loaded_bytes > MAXIMUM_CACHED:
            self._forget(next(iter(self._loaded)))

    def _forget(self, event_id: UUID) -> None:
        if event := self._loaded.pop(event_id, None):
            self._loaded_bytes -= _size(event)

    async def _load(self, event_ids: list[UUID]) -> list[StoredEvent | None]:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LOAD, {"ids": event_ids})).mappings().all()
        found = {row["id"]: self._stored(dict(row)) for row in rows}
        return [found.get(event_id) for event_id in event_ids]

    def _stored(self, row: dict[str, Any]) -> StoredEvent:
        row["headers"] = row["headers"] or {}
        sensitive = row.pop("sensitive_headers")
        if sensitive is not None:
            row["headers"] |= exact_json.loads(self._box.decrypt(sensitive))
        return StoredEvent(**row)

    async def _finish(self, batch: list[Finished]) -> list[None]:
        runs = [each for each in batch if each.run_id and each.status is not EventStatus.IDEMPOTENT]
        async with self._engine.connect() as connection:
            ended = await self._end(connection, batch)
            if runs:
                ended |= await self._settle(connection, runs)
            # Last: what the events of these runs let go of may go to those that waited for their outcome.
            await let_go(connection, ended)
        return [None] * len(batch)

    async def _end(self, connection: AsyncConnection, batch: list[Finished]) -> set[UUID]:
        """Write final states; the events whose keys are to be let go of: also those that had theirs before,
        because a crash may have come in between."""
        unordered = set[UUID]()
        for actions_ended, query in ((True, _FINISH), (False, _FINISH_WITH_ACTIONS)):
            if part := [each for each in batch if each.actions_ended is actions_ended]:
                rows = await connection.execute(query, _finished_rows(part))
                unordered.update(row.id for row in rows if not row.is_ordered)
        return {each.id for each in batch} - unordered

    async def _settle(self, connection: AsyncConnection, runs: list[Finished]) -> set[UUID]:
        """Settle the events that wait for these runs; those of them that have ordering keys and their end."""
        settled = await connection.execute(
            _SETTLE,
            {
                "first": min(each.id for each in runs),
                "last": max(each.id for each in runs),
                "ids": [each.id for each in runs],
                "workflow_ids": [each.workflow_id for each in runs],
                "run_ids": [each.run_id for each in runs],
                "ran_nothing": [each.ran_nothing for each in runs],
                "channel": CHANNEL,
            },
        )
        freed = set[UUID]()
        for row in settled:
            metrics.count_idempotent(row.environment, row.source_key, row.idempotent)
            freed.update(row.freed or ())
        return freed


def _finished_rows(batch: Sequence[Finished]) -> dict[str, object]:
    return {
        "first": min(each.id for each in batch),
        "last": max(each.id for each in batch),
        "ids": [each.id for each in batch],
        "statuses": [each.status.value for each in batch],
        "errors": [each.error for each in batch],
        "finished_ats": [each.finished_at for each in batch],
        "workflow_ids": [each.workflow_id for each in batch],
        "run_ids": [each.run_id for each in batch],
        "duplicates_of": [each.duplicate_of for each in batch],
    }


def _size(event: StoredEvent) -> int:
    return len(event.body or b"") + ROW_BYTES
