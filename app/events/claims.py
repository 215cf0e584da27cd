"""Stage 3 of an event, its first half: the claims that a dispatcher has on rows of the event log.

A claim is a lease: an event that is claimed and not started is claimed again when the lease ran out. What
happens to the claimed is in `app/worker/events.py`.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.models.types import digest_of

SWEEP_BATCH = 100
POSTPONED = timedelta(seconds=5)

# Round robin over the sources that have a backlog, found by jumping through the index; those with fewer
# events in flight come first, and none has more than its share of the slots. The claimed come as an array: a
# join with them would read every event since.
_CLAIM = text("""
WITH RECURSIVE backlog (source_key) AS (
    (SELECT source_key FROM events WHERE environment = :environment AND status = 'received' AND id >= :since
     ORDER BY source_key LIMIT 1)
    UNION ALL
    SELECT (SELECT source_key FROM events WHERE environment = :environment AND status = 'received'
            AND id >= :since AND source_key > backlog.source_key ORDER BY source_key LIMIT 1)
    FROM backlog WHERE backlog.source_key IS NOT NULL
), waiting AS (
    SELECT backlog.source_key, coalesce(busy.in_flight, 0) AS in_flight
    FROM backlog LEFT JOIN unnest(CAST(:busy_sources AS text[]), CAST(:busy_counts AS integer[]))
        AS busy (source_key, in_flight) ON busy.source_key = backlog.source_key
    WHERE backlog.source_key IS NOT NULL
), candidates AS (
    SELECT event.id, waiting.in_flight + row_number() OVER (PARTITION BY waiting.source_key ORDER BY event.id)
      AS turn
    FROM waiting CROSS JOIN LATERAL (
        SELECT id FROM events
        WHERE environment = :environment AND source_key = waiting.source_key AND status = 'received'
          AND id >= :since
        ORDER BY id LIMIT least(:limit, greatest(0, :share - waiting.in_flight)) FOR UPDATE SKIP LOCKED
    ) AS event
), claimed AS (
    SELECT id FROM candidates ORDER BY turn, id LIMIT :limit
)
UPDATE events SET status = 'processing', lease_expires_at = now() + :lease
WHERE events.id = ANY(ARRAY(SELECT id FROM claimed)) AND events.id >= :since
RETURNING events.id, source_key, event_type, idempotency_key, received_at, workflow_id, run_id, origin,
  traceparent,
    false AS was_claimed
""")

_RECLAIM = text("""
WITH expired AS (
    SELECT id FROM events
    WHERE environment = :environment AND status = 'processing' AND lease_expires_at < now()
    ORDER BY lease_expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE events SET lease_expires_at = now() + :lease
WHERE events.id = ANY(ARRAY(SELECT id FROM expired))
RETURNING events.id, source_key, event_type, idempotency_key, received_at, workflow_id, run_id, origin,
  traceparent,
    true AS was_claimed
""")

# A lease that ran out is for the sweep to claim again, which looks at what became of the run.
_STARTED = text("""
UPDATE events SET workflow_id = v.workflow_id, run_id = v.run_id, lease_expires_at = now() + :lease
FROM unnest(CAST(:ids AS uuid[]), CAST(:workflow_ids AS text[]), CAST(:run_ids AS text[]))
    AS v (id, workflow_id, run_id)
WHERE events.id = v.id AND events.id >= :first AND events.id <= :last
  AND events.status = 'processing' AND events.lease_expires_at > now()
RETURNING events.id
""")

_POSTPONE = text(
    "UPDATE events SET lease_expires_at = now() + :pause WHERE id = :id AND status = 'processing'"
)

_STATUS = text("SELECT status FROM events WHERE id = :id")

_ENDED = text("SELECT id FROM events WHERE id = ANY(CAST(:ids AS uuid[])) AND status <> 'processing'")


@dataclass(frozen=True)
class Leases:
    """How long a claim holds. `claim`: one that is not followed by a start is claimed again. `run`: a started
    event is looked at again, in case its workflow ended without recording an outcome. `sweep`: how often
    leases that ran out are looked for."""

    claim: timedelta = timedelta(seconds=60)
    run: timedelta = timedelta(minutes=15)
    sweep: timedelta = timedelta(seconds=10)


@dataclass(frozen=True)
class Claimed:
    """An event that this dispatcher has claimed. `run_id` is set when its run was noted; `was_claimed`, when
    an earlier claim's lease ran out, so that it may have been started."""

    id: UUID
    source_key: str
    event_type: str | None
    idempotency_key: str | None
    received_at: datetime
    workflow_id: str | None
    run_id: str | None
    origin: str | None = None
    was_claimed: bool = False
    traceparent: str | None = None


@dataclass(frozen=True)
class Run:
    """The run that an event waits for: its own, or the one whose success it shares."""

    event_id: UUID
    workflow_id: str
    run_id: str


def workflow_id(environment: str, event: Claimed, *, enforce_idempotency: bool) -> str:
    """The id of the workflow that executes an event: the same for all events of one idempotency tuple.

    Rehearsals and replays are asked for by hand: each of them runs.
    """
    prefix = f"event/{environment}/{event.source_key}"
    if event.idempotency_key is None or not enforce_idempotency or event.origin is not None:
        return f"{prefix}/{event.id}"
    return f"{prefix}/{digest_of(event.event_type or '', event.idempotency_key).hex()}"


class Claims:
    """Claims, renews and gives up the events of one environment."""

    def __init__(self, environment: str, engine: AsyncEngine, leases: Leases) -> None:
        self._environment = environment
        self._engine = engine
        self._leases = leases

    async def take_waiting(self, since: UUID, *, limit: int, share: int, busy: Counter[str]) -> list[Claimed]:
        """Claim received events from an id on, round robin over the sources. `busy` counts what each source
        has in flight, of which it may have `share` at most."""
        return await self._take(
            _CLAIM,
            limit=limit,
            since=since,
            share=share,
            busy_sources=list(busy),
            busy_counts=list(busy.values()),
        )

    async def take_expired(self) -> list[Claimed]:
        """Claim events whose lease ran out."""
        return await self._take(_RECLAIM, limit=SWEEP_BATCH)

    async def _take(self, statement: TextClause, **parameters: object) -> list[Claimed]:
        async with self._engine.begin() as connection:
            rows = await connection.execute(
                statement, {"environment": self._environment, "lease": self._leases.claim, **parameters}
            )
            return [Claimed(**row) for row in rows.mappings()]

    async def note(self, runs: Sequence[Run]) -> set[UUID]:
        """Note which run each event waits for, and renew its lease; the events for which that was done."""
        if not runs:
            return set()
        async with self._engine.begin() as connection:
            noted = await connection.scalars(
                _STARTED,
                {
                    "ids": [run.event_id for run in runs],
                    "workflow_ids": [run.workflow_id for run in runs],
                    "run_ids": [run.run_id for run in runs],
                    "lease": self._leases.run,
                    "first": min(run.event_id for run in runs),
                    "last": max(run.event_id for run in runs),
                },
            )
            return set(noted)

    async def postpone(self, event_id: UUID) -> None:
        """Let the sweep claim it, in a moment."""
        async with self._engine.begin() as connection:
            await connection.execute(_POSTPONE, {"id": event_id, "pause": POSTPONED})

    async def status(self, event_id: UUID) -> str | None:
        """The status of any event."""
        async with self._engine.connect() as connection:
            status: str | None = await connection.scalar(_STATUS, {"id": event_id})
            return status

    async def ended(self, event_ids: Collection[UUID]) -> list[UUID]:
        """Which of these are no longer being processed."""
        async with self._engine.connect() as connection:
            return list(await connection.scalars(_ENDED, {"ids": list(event_ids)}))
