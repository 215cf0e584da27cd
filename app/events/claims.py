"""Stage 3 of an event, its first half: the claims that a dispatcher has on rows of the event log.

A claim is a lease: an event that is claimed and not started is claimed again when the lease ran out. What
happens to the claimed is in `app/worker/events.py`.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.events.channel import CHANNEL
from app.events.ordering import BLOCKER, LOCK, QUEUE, Turns, check_parks
from app.models.types import digest_of, time_of

SWEEP_BATCH = 100
# Events of a source that one claim parks at most.
PARK_BATCH = 500
POSTPONED = timedelta(seconds=5)

# What a claim returns of an event, whatever came of it.
_CLAIMED = """id, source_key, event_type, idempotency_key, received_at, workflow_id, run_id, origin,
    takes_key, replay_of, traceparent, ordering_keys IS NOT NULL AS is_ordered"""

# What may be claimed: the predicate of the index `events_ready`.
_READY = "(CASE WHEN waiting_for IS NULL THEN status END) = 'received'"

# Round robin over the sources that have a backlog, found by jumping through the index; those with fewer
# events in flight come first, and none has more than its share of the slots. The claimed come as an array: a
# join with them would read every event since.
#
# An event that comes after another one of its ordering key is parked. When it repeats one that is executed,
# or succeeded, it is claimed without its keys: it has nothing to execute.
_CLAIM = text(f"""
WITH RECURSIVE backlog (source_key) AS (
    (SELECT source_key FROM events WHERE environment = :environment AND {_READY} AND id >= :since
     ORDER BY source_key LIMIT 1)
    UNION ALL
    SELECT (SELECT source_key FROM events WHERE environment = :environment AND {_READY}
            AND id >= :since AND source_key > backlog.source_key ORDER BY source_key LIMIT 1)
    FROM backlog WHERE backlog.source_key IS NOT NULL
), waiting AS (
    SELECT backlog.source_key, coalesce(busy.in_flight, 0) AS in_flight
    FROM backlog LEFT JOIN unnest(CAST(:busy_sources AS text[]), CAST(:busy_counts AS integer[]))
        AS busy (source_key, in_flight) ON busy.source_key = backlog.source_key
    WHERE backlog.source_key IS NOT NULL
), candidates AS (
    SELECT event.*, waiting.in_flight
    FROM waiting CROSS JOIN LATERAL (
        SELECT id, environment, source_key, event_type, idempotency_key, origin, ordering_keys, received_order
        FROM events
        WHERE environment = :environment AND source_key = waiting.source_key AND {_READY} AND id >= :since
        ORDER BY id
        LIMIT CASE WHEN waiting.in_flight >= :share THEN 0
                   ELSE least(:look, :share - waiting.in_flight + :more) END
        FOR UPDATE SKIP LOCKED
    ) AS event
), judged AS MATERIALIZED (
    SELECT candidate.*,
        CASE WHEN ordering_keys IS NOT NULL THEN ({BLOCKER.format(waiter="candidate")}) END AS blocker
    FROM candidates AS candidate
), compared AS MATERIALIZED (
    SELECT judged.*, original.id AS original, original.status AS original_status
    FROM judged LEFT JOIN LATERAL (
        SELECT id, status FROM events AS original
        WHERE original.idempotency_key = judged.idempotency_key AND original.environment = :environment
          AND original.source_key = judged.source_key AND original.origin IS NULL
          AND original.event_type IS NOT DISTINCT FROM judged.event_type
          AND original.received_order < judged.received_order
          AND original.status IN ('succeeded', 'processing', 'received')
        ORDER BY original.status = 'received', original.received_order DESC LIMIT 1
    ) AS original ON judged.blocker IS NOT NULL AND judged.origin IS NULL
        AND judged.source_key <> ALL(CAST(:repeating AS text[]))
), claimable AS (
    SELECT *, in_flight + row_number() OVER (PARTITION BY source_key ORDER BY id) AS turn
    FROM compared WHERE blocker IS NULL OR original_status <> 'received'
), claimed AS MATERIALIZED (
    SELECT * FROM claimable WHERE turn <= :share ORDER BY turn, id LIMIT :limit
), blocked AS MATERIALIZED (
    SELECT id, coalesce(original, blocker) AS waiting_for FROM compared
    WHERE blocker IS NOT NULL AND coalesce(original_status, 'received') = 'received'
), parked AS (
    UPDATE events SET waiting_for = (SELECT waiting_for FROM blocked WHERE blocked.id = events.id)
    WHERE events.id = ANY(ARRAY(SELECT id FROM blocked)) AND events.id >= :since
    RETURNING {_CLAIMED}, waiting_for
), taken AS (
    INSERT INTO ordering_turns (environment, source_key, ordering_key, received_order, event_id, taken_at)
    SELECT environment, source_key, key.ordering_key, received_order, id, now()
    FROM claimed CROSS JOIN LATERAL unnest(ordering_keys) AS key (ordering_key) WHERE blocker IS NULL
    ON CONFLICT (environment, source_key, ordering_key, received_order) DO UPDATE SET taken_at = now()
), started AS (
    UPDATE events SET status = 'processing', lease_expires_at = now() + :lease
    WHERE events.id = ANY(ARRAY(SELECT id FROM claimed)) AND events.id >= :since
    RETURNING {_CLAIMED}, (SELECT blocker FROM claimed WHERE claimed.id = events.id) AS blocker
)
SELECT *, false AS is_parked, blocker IS NULL AS holds_keys, false AS was_claimed FROM started
UNION ALL
SELECT *, true, false, false FROM parked
""")

_RECLAIM = text(f"""
WITH expired AS (
    SELECT id FROM events
    WHERE environment = :environment AND status = 'processing' AND lease_expires_at < now()
    ORDER BY lease_expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE events SET lease_expires_at = now() + :lease
WHERE events.id = ANY(ARRAY(SELECT id FROM expired))
RETURNING {_CLAIMED}, CAST(NULL AS uuid) AS blocker, true AS was_claimed, ordering_keys IS NULL OR EXISTS (
    SELECT FROM ordering_turns AS turn
    WHERE turn.environment = events.environment AND turn.source_key = events.source_key
      AND turn.ordering_key = events.ordering_keys[1] AND turn.received_order = events.received_order
      AND turn.taken_at IS NOT NULL
) AS holds_keys
""")

# An event that has nothing to execute now waits for its turn, behind `blocker` if one is known.
_QUEUE_AGAIN = text(f"""
WITH queued AS (
    UPDATE events SET status = 'received', lease_expires_at = NULL, workflow_id = NULL, run_id = NULL,
        waiting_for = :blocker
    WHERE id = :id AND status = 'processing'
    RETURNING id, environment, source_key, ordering_keys, received_order
), turns AS ({QUEUE.format(queued="queued")})
SELECT pg_notify(:channel, environment) FROM queued
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
    an earlier claim's lease ran out, so that it may have been started.

    One that does not hold its keys must not be executed: it repeats another one, or waits for `blocker`.
    """

    id: UUID
    source_key: str
    event_type: str | None
    idempotency_key: str | None
    received_at: datetime
    workflow_id: str | None
    run_id: str | None
    origin: str | None = None
    takes_key: bool = False
    replay_of: UUID | None = None
    was_claimed: bool = False
    traceparent: str | None = None
    is_ordered: bool = False
    holds_keys: bool = True
    blocker: UUID | None = None

    @property
    def asked_at(self) -> datetime:
        """What the idempotency window is measured to. A second try belongs where its original was received:
        any success since then is the one that it asks for."""
        if self.takes_key and self.replay_of is not None:
            return time_of(self.replay_of)
        return self.received_at


@dataclass(frozen=True)
class Taken:
    """What one claim came to: the events that are claimed, and those that wait for their turn now."""

    claimed: list[Claimed]
    parked: list[UUID]


@dataclass(frozen=True)
class Run:
    """The run that an event waits for: its own, or the one whose success it shares."""

    event_id: UUID
    workflow_id: str
    run_id: str


def workflow_id(environment: str, event: Claimed, *, enforce_idempotency: bool) -> str:
    """The id of the workflow that executes an event: the same for all events of one idempotency tuple.

    Rehearsals and replays of a success are asked for by hand: each of them runs. The replay of an event that
    did not succeed is its next try.
    """
    prefix = f"event/{environment}/{event.source_key}"
    is_by_hand = event.origin is not None and not event.takes_key
    if event.idempotency_key is None or not enforce_idempotency or is_by_hand:
        return f"{prefix}/{event.id}"
    return f"{prefix}/{digest_of(event.event_type or '', event.idempotency_key).hex()}"


class Claims:
    """Claims, renews and gives up the events of one environment."""

    def __init__(self, environment: str, engine: AsyncEngine, leases: Leases) -> None:
        self._environment = environment
        self._engine = engine
        self._leases = leases

    async def take_waiting(
        self,
        since: UUID,
        *,
        limit: int,
        share: int,
        busy: Counter[str],
        repeating: Collection[str] = (),
        look_further: bool = False,
    ) -> Taken:
        """Claim received events from an id on, round robin over the sources. `busy` counts what each source
        has in flight, of which it may have `share` at most. The sources in `repeating` execute repeats.

        `look_further` than needed, for those that must wait for their turn: so are many parked at once.
        """
        parameters = {
            "environment": self._environment,
            "lease": self._leases.claim,
            "limit": limit,
            "since": since,
            "share": share,
            "busy_sources": list(busy),
            "busy_counts": list(busy.values()),
            "repeating": list(repeating),
            "look": PARK_BATCH if look_further else limit,
            "more": PARK_BATCH if look_further else 0,
        }
        async with self._engine.begin() as connection:
            await connection.execute(LOCK, {"environment": self._environment})
            rows = [dict(row) for row in (await connection.execute(_CLAIM, parameters)).mappings()]
        taken = Taken([], [])
        for row in rows:
            if row.pop("is_parked"):
                taken.parked.append(row["id"])
            else:
                taken.claimed.append(Claimed(**row))
        return taken

    async def take_expired(self) -> list[Claimed]:
        """Claim events whose lease ran out."""
        parameters = {"environment": self._environment, "lease": self._leases.claim, "limit": SWEEP_BATCH}
        async with self._engine.begin() as connection:
            rows = await connection.execute(_RECLAIM, parameters)
            return [Claimed(**row) for row in rows.mappings()]

    async def queue_again(self, event: Claimed) -> None:
        """Let an event wait for its turn: it has something to execute and does not hold its keys."""
        parameters = {"id": event.id, "blocker": event.blocker, "channel": CHANNEL}
        async with self._engine.begin() as connection:
            await connection.execute(_QUEUE_AGAIN, parameters)
        if event.blocker is not None:
            await check_parks(self._engine, [event.id])

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

    async def share_run(self, event: Claimed, run: Run) -> bool:
        """Let an event wait for the run of another one, whose success it shares, and hold no key meanwhile;
        whether that was done."""
        if event.is_ordered:
            # Before the note: whoever records the run's outcome may put the event back in its place.
            await Turns(self._engine).release(event.id)
        return bool(await self.note([run]))

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
