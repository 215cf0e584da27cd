"""Ordering keys: events of one (environment, source, ordering key) are executed one after the other.

An event that is received takes its place in `ordering_turns`, a row for each of its keys. A claim
(`app/events/claims.py`) takes all keys of an event at once, or parks the event: `waiting_for` names the event
that it comes after, and the row leaves the index that claims walk. Whoever ends an event lets go of its keys
and wakes the events that name it.

Three rules keep this right without locks on keys:

- Claims of an environment come one after the other (an advisory lock, taken before the claim's snapshot).
- An event's end is committed before its turns are removed and its waiters woken, and a park is checked again
  after its commit: one of the two sees the other.
- A turn that was left behind, by a crash or by a process of the previous version, is removed when an event is
  parked behind it, or by the sweep.

An action that waits for something other than its destination (a late parent, a timer) must not hold up its
event's keys. While such an event is processed:

    turns = Turns(engine)
    await turns.release(event_id)         # The next events of its keys may run.
    ...                                   # Wait, in the workflow.
    earlier = await turns.take(event_id)  # None: it has its keys again. An id: ask again later.

Between the two it holds nothing; `take` puts it at the place that it had, so that it comes before those of
its key that have not begun.
"""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.events.channel import CHANNEL

# Parks that one sweep looks at.
SWEPT = 10_000

# The event after whose end `waiter` is looked at again: the latest one before it, so that of many that wait
# each end wakes one. A later one that has begun already, because `waiter` was committed late, comes last.
BLOCKER = """
    SELECT turn.event_id FROM unnest({waiter}.ordering_keys) AS key (ordering_key)
    CROSS JOIN LATERAL (
        (SELECT event_id, received_order FROM ordering_turns AS earlier
         WHERE earlier.environment = {waiter}.environment AND earlier.source_key = {waiter}.source_key
           AND earlier.ordering_key = key.ordering_key AND earlier.received_order < {waiter}.received_order
         ORDER BY earlier.environment DESC, earlier.source_key DESC, earlier.ordering_key DESC,
             earlier.received_order DESC LIMIT 1)
        UNION ALL
        (SELECT event_id, received_order FROM ordering_turns AS begun
         WHERE begun.environment = {waiter}.environment AND begun.source_key = {waiter}.source_key
           AND begun.ordering_key = key.ordering_key AND begun.received_order > {waiter}.received_order
           AND begun.taken_at IS NOT NULL
         LIMIT 1)
    ) AS turn
    ORDER BY turn.received_order > {waiter}.received_order, turn.received_order DESC LIMIT 1
"""

# Put events (back) in their places, without their keys.
QUEUE = """
    INSERT INTO ordering_turns (environment, source_key, ordering_key, received_order, event_id)
    SELECT queued.environment, queued.source_key, key.ordering_key, queued.received_order, queued.id
    FROM {queued} AS queued CROSS JOIN LATERAL unnest(queued.ordering_keys) AS key (ordering_key)
    ON CONFLICT (environment, source_key, ordering_key, received_order) DO UPDATE SET taken_at = NULL
"""

# The turns of events, each by one look into the primary key: a join may read the whole table.
TURNS_OF = """
    SELECT turn.ctid FROM {events} AS its CROSS JOIN LATERAL unnest(its.ordering_keys) AS key (ordering_key)
    CROSS JOIN LATERAL (
        SELECT ctid FROM ordering_turns
        WHERE environment = its.environment AND source_key = its.source_key
          AND ordering_key = key.ordering_key AND received_order = its.received_order
        OFFSET 0
    ) AS turn
"""

# At most one claim of an environment at a time. A process that stops in the middle is not waited for.
LOCK = text("""
SELECT set_config('idle_in_transaction_session_timeout', '10s', true),
    pg_advisory_xact_lock(hashtextextended('claims/' || :environment, 0))
""")

# Wakes whoever waits for these events.
_WAKE = """
woken AS (
    UPDATE events SET waiting_for = NULL WHERE waiting_for = ANY(CAST(:ids AS uuid[]))
    RETURNING environment
)
SELECT pg_notify(:channel, environment) FROM (SELECT DISTINCT environment FROM woken) AS environments
"""

_LET_GO = text(f"""
WITH ended AS MATERIALIZED (
    SELECT environment, source_key, ordering_keys, received_order FROM events
    WHERE id = ANY(CAST(:ids AS uuid[])) AND id >= :first AND id <= :last AND ordering_keys IS NOT NULL
      AND status NOT IN ('received', 'processing')
), gone AS (
    DELETE FROM ordering_turns WHERE ctid = ANY(ARRAY({TURNS_OF.format(events="ended")}))
), {_WAKE}
""")

_WAKE_WAITING = text(f"WITH {_WAKE}")

_GIVE_UP = text(f"""
WITH giving AS MATERIALIZED (
    SELECT environment, source_key, ordering_keys, received_order FROM events
    WHERE id = ANY(CAST(:ids AS uuid[])) AND ordering_keys IS NOT NULL AND status = 'processing'
)
DELETE FROM ordering_turns WHERE ctid = ANY(ARRAY({TURNS_OF.format(events="giving")}))
""")

_HELD_TOO_LONG = text("""
DELETE FROM ordering_turns
WHERE environment = :environment AND source_key = :source_key AND taken_at < now() - CAST(:hold AS interval)
RETURNING event_id
""")

# A park holds as long as the event that it names is unfinished, and has a turn before the waiter's or has
# begun; or is the one that the waiter repeats.
_CHECK = text("""
WITH stale AS MATERIALIZED (
    SELECT id, environment, source_key, ordering_keys, waiting_for FROM events AS waiter
    WHERE id = ANY(CAST(:ids AS uuid[])) AND waiting_for IS NOT NULL AND NOT EXISTS (
        SELECT FROM events AS blocker
        WHERE blocker.id = waiter.waiting_for AND blocker.status IN ('received', 'processing') AND (
            blocker.idempotency_key = waiter.idempotency_key
            OR EXISTS (
                SELECT FROM unnest(waiter.ordering_keys) AS key (ordering_key) JOIN ordering_turns AS turn
                  ON turn.environment = waiter.environment AND turn.source_key = waiter.source_key
                  AND turn.ordering_key = key.ordering_key AND turn.received_order = blocker.received_order
                WHERE turn.received_order < waiter.received_order OR turn.taken_at IS NOT NULL
            )
        )
        OFFSET 0
    )
), gone AS (
    DELETE FROM ordering_turns WHERE ctid = ANY(ARRAY(
        SELECT turn.ctid FROM stale CROSS JOIN LATERAL unnest(stale.ordering_keys) AS key (ordering_key)
        CROSS JOIN LATERAL (
            SELECT ctid FROM ordering_turns
            WHERE environment = stale.environment AND source_key = stale.source_key
              AND ordering_key = key.ordering_key AND event_id = stale.waiting_for
            OFFSET 0
        ) AS turn
        WHERE NOT EXISTS (
            SELECT FROM events AS blocker
            WHERE blocker.id = stale.waiting_for AND blocker.status IN ('received', 'processing') OFFSET 0
        )
    ))
), woken AS (
    UPDATE events SET waiting_for = NULL WHERE id = ANY(ARRAY(SELECT id FROM stale)) RETURNING environment
)
SELECT environment, count(*) AS woken, pg_notify(:channel, environment) FROM woken GROUP BY environment
""")

_PARKED = text("""
SELECT id, waiting_for FROM events
WHERE waiting_for IS NOT NULL AND waiting_for > :after AND environment = :environment
ORDER BY waiting_for LIMIT :limit
""")

_ITS_ENVIRONMENT = text("SELECT environment FROM events WHERE id = :id AND ordering_keys IS NOT NULL")

_QUEUE_ONE = text(QUEUE.format(queued="(SELECT * FROM events WHERE id = :id)"))

_TAKE = text(f"""
WITH its AS MATERIALIZED (
    SELECT environment, source_key, ordering_keys, received_order,
        ({BLOCKER.format(waiter="asking")}) AS blocker
    FROM events AS asking WHERE id = :id
), took AS (
    UPDATE ordering_turns SET taken_at = now()
    WHERE ctid = ANY(ARRAY({TURNS_OF.format(events="(SELECT * FROM its WHERE blocker IS NULL)")}))
)
UPDATE events SET waiting_for = its.blocker FROM its WHERE events.id = :id RETURNING its.blocker
""")


async def let_go(connection: AsyncConnection, event_ids: Collection[UUID]) -> None:
    """After the commit of these events' ends: give their keys to whoever waits for them."""
    if event_ids:
        ids = list(event_ids)
        parameters = {"ids": ids, "first": min(ids), "last": max(ids), "channel": CHANNEL}
        await connection.execute(_LET_GO, parameters)


async def wake_waiting(connection: AsyncConnection, event_ids: Collection[UUID]) -> None:
    """After the commit of whatever these events gave up: let those that wait for them be claimed."""
    if event_ids:
        await connection.execute(_WAKE_WAITING, {"ids": list(event_ids), "channel": CHANNEL})


async def check_parks(engine: AsyncEngine, event_ids: Collection[UUID]) -> int:
    """After the commit of parks: wake those whose reason is gone; how many."""
    async with engine.begin() as connection:
        rows = await connection.execute(_CHECK, {"ids": list(event_ids), "channel": CHANNEL})
        return sum(row.woken for row in rows)


class ParkSweep:
    """Looks after an environment's parked events, a bounded number at a time: what a crash between an end and
    its waking left behind."""

    def __init__(self, environment: str, engine: AsyncEngine) -> None:
        self._environment = environment
        self._engine = engine
        self._after = UUID(int=0)

    async def check_some(self) -> None:
        """Check the next parks, from the first one again after the last."""
        parameters = {"environment": self._environment, "after": self._after, "limit": SWEPT}
        async with self._engine.connect() as connection:
            parked = (await connection.execute(_PARKED, parameters)).all()
        self._after = parked[-1].waiting_for if len(parked) == SWEPT else UUID(int=0)
        if parked:
            await check_parks(self._engine, [row.id for row in parked])


class Turns:
    """Lets events that are processed hold up nobody for a while."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def release(self, event_id: UUID) -> None:
        """Let an event go on without its keys."""
        async with self._engine.begin() as connection:
            await connection.execute(_GIVE_UP, {"ids": [event_id]})
        async with self._engine.begin() as connection:
            await wake_waiting(connection, [event_id])

    async def take(self, event_id: UUID) -> UUID | None:
        """Give an event its keys again; the event to wait for when they are not free, which the log shows
        meanwhile. An event without ordering keys has all that it needs."""
        async with self._engine.begin() as connection:
            environment = await connection.scalar(_ITS_ENVIRONMENT, {"id": event_id})
            if environment is None:
                return None
            await connection.execute(LOCK, {"environment": environment})
            await connection.execute(_QUEUE_ONE, {"id": event_id})
            blocker: UUID | None = await connection.scalar(_TAKE, {"id": event_id})
            return blocker


async def release_held_too_long(
    engine: AsyncEngine, environment: str, source_key: str, hold: timedelta
) -> int:
    """Let the events of a source that have had their keys for longer than `hold` go on without; how many."""
    parameters = {"environment": environment, "source_key": source_key, "hold": hold}
    async with engine.begin() as connection:
        ids = set((await connection.execute(_HELD_TOO_LONG, parameters)).scalars())
    async with engine.begin() as connection:
        await wake_waiting(connection, ids)
    return len(ids)
