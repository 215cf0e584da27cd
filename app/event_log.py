"""The event log as the worker uses it: events loaded by id, outcomes recorded, both in batches across events.

A payload that was loaded stays in memory until its event's outcome is recorded, so that each event is read
once; correct without.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.batching import Batcher
from app.errors import Permanent
from app.mapping import DecodedEvent
from app.models.status import EventStatus
from app.secrets import SecretBox
from app.sensitive import withheld

MAXIMUM_CACHED = 500
MAXIMUM_CACHED_BODY = 256 * 1024

_LOAD = text("""
SELECT e.id, e.environment, e.source_key, e.event_type, e.idempotency_key, e.verification_status,
       e.verification_reason, e.received_at, e.error, e.origin, e.replay_mappings,
       p.body, p.headers, p.sensitive_headers, p.preprocess_output
FROM events e LEFT JOIN event_payloads p ON p.id = e.id AND p.id = ANY(CAST(:ids AS uuid[]))
WHERE e.id = ANY(CAST(:ids AS uuid[]))
""")

# The bounds let Postgres look into the partitions that hold the batch only; final states stay as they are.
_FINISH = text("""
UPDATE events SET status = v.status, error = coalesce(v.error, events.error), finished_at = v.finished_at,
    workflow_id = v.workflow_id, run_id = v.run_id, duplicate_of = v.duplicate_of, lease_expires_at = NULL
FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:errors AS text[]),
            CAST(:finished_ats AS timestamptz[]), CAST(:workflow_ids AS text[]), CAST(:run_ids AS text[]),
            CAST(:duplicates_of AS uuid[]))
    AS v (id, status, error, finished_at, workflow_id, run_id, duplicate_of)
WHERE events.id = v.id AND events.id >= :first AND events.id <= :last
  AND events.status IN ('received', 'processing')
""")

_RELEASE = text("""
WITH released AS (
    UPDATE events SET status = 'received', lease_expires_at = NULL, workflow_id = NULL, run_id = NULL
    WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'processing' RETURNING environment
)
SELECT pg_notify(:channel, environment) FROM (SELECT DISTINCT environment FROM released) AS environments
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
    error: str | None
    body: bytes | None = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    preprocess_output: dict[str, Any] | None = field(repr=False)
    origin: str | None = None
    replay_mappings: str | None = None

    def received_body(self) -> bytes:
        """The body as received.

        Raises:
            Permanent: it is gone, past its retention.
        """
        if self.body is None:
            raise Permanent(f"the payload of event {self.id} is no longer stored")
        return self.body

    def decoded(self, sensitive_paths: Sequence[str] = ()) -> DecodedEvent:
        """What paths are read from: all but the values at these paths. Raises as `received_body` does."""
        body = withheld(orjson.loads(self.received_body()), sensitive_paths)
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


class EventLog:
    """One for each worker process."""

    def __init__(self, engine: AsyncEngine, box: SecretBox) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._box = box
        self._loaded: OrderedDict[UUID, StoredEvent] = OrderedDict()
        self._loads: Batcher[UUID, StoredEvent | None] = Batcher(self._load)
        self._finishes: Batcher[Finished, None] = Batcher(self._finish)

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
        if len(event.body or b"") <= MAXIMUM_CACHED_BODY:
            self._loaded[event_id] = event
            if len(self._loaded) > MAXIMUM_CACHED:
                self._loaded.popitem(last=False)
        return event

    async def finish(self, finished: Finished) -> None:
        """Write a final state. An event that already has one keeps it."""
        self._loaded.pop(finished.id, None)
        await self._finishes.submit(finished)

    async def release(self, event_ids: Sequence[UUID], channel: str) -> None:
        """Give events back to the dispatcher, which hears of it on `channel`."""
        async with self._engine.connect() as connection:
            await connection.execute(_RELEASE, {"ids": list(event_ids), "channel": channel})

    async def set_verification(self, event_id: UUID, status: str, reason: str | None) -> None:
        """Correct the verification that reception noted."""
        async with self._engine.connect() as connection:
            await connection.execute(_VERIFICATION, {"id": event_id, "status": status, "reason": reason})

    async def _load(self, event_ids: list[UUID]) -> list[StoredEvent | None]:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LOAD, {"ids": event_ids})).mappings().all()
        found = {row["id"]: self._stored(dict(row)) for row in rows}
        return [found.get(event_id) for event_id in event_ids]

    def _stored(self, row: dict[str, Any]) -> StoredEvent:
        row["headers"] = row["headers"] or {}
        sensitive = row.pop("sensitive_headers")
        if sensitive is not None:
            row["headers"] |= orjson.loads(self._box.decrypt(sensitive))
        return StoredEvent(**row)

    async def _finish(self, batch: list[Finished]) -> list[None]:
        async with self._engine.connect() as connection:
            await connection.execute(
                _FINISH,
                {
                    "ids": [each.id for each in batch],
                    "statuses": [each.status.value for each in batch],
                    "errors": [each.error for each in batch],
                    "finished_ats": [each.finished_at for each in batch],
                    "workflow_ids": [each.workflow_id for each in batch],
                    "run_ids": [each.run_id for each in batch],
                    "duplicates_of": [each.duplicate_of for each in batch],
                    "first": min(each.id for each in batch),
                    "last": max(each.id for each in batch),
                },
            )
        return [None] * len(batch)
