"""How an environment is right now: what waits, what fails and why, how the destination answers.

Counts over time are `app.logs.statistics`'s. Here, every query reads a bounded number of the latest rows
through an index: they compare its last column but the id with `>=` and `<=`, and sort by it, because for `=`
Postgres may take the order of the primary key instead and read everything that came since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.types import first_id_at, time_of

MAXIMUM_COUNTED = 10_000
# Failed events of a source whose causes are compared, and events whose actions say how the destination
# answers.
LATEST_FAILURES = 100
LATEST_EVENTS = 50
_ENOUGH_TEXT = 400

_BACKLOG = text("""
SELECT
    (SELECT count(*) FROM (
        SELECT FROM events WHERE environment = :environment AND status = 'received' LIMIT :maximum
    ) AS waiting) AS waiting,
    (SELECT count(*) FROM (
        SELECT FROM events WHERE environment = :environment AND status = 'processing' LIMIT :maximum
    ) AS processing) AS processing,
    (SELECT min(CAST(oldest.id AS text)) FROM sources CROSS JOIN LATERAL (
        SELECT id FROM events
        WHERE environment = :environment AND source_key >= sources.key AND source_key <= sources.key
          AND status = 'received'
        ORDER BY source_key, id LIMIT 1
    ) AS oldest) AS oldest
""")

# One look into the primary key for each event, whose actions share its millisecond.
_ACTIONS_OF_EVENT = """
    SELECT action_type, status, error, attempts, finished_at FROM actions
    WHERE actions.event_id = event.id
      AND actions.id >= CAST(left(CAST(event.id AS text), 13) || '-0000-0000-000000000000' AS uuid)
      AND actions.id <= CAST(left(CAST(event.id AS text), 13) || '-ffff-ffff-ffffffffffff' AS uuid)
    OFFSET 0
"""

_CAUSES = text(f"""
WITH event AS (
    SELECT source.key, found.* FROM unnest(CAST(:keys AS text[])) AS source (key)
    CROSS JOIN unnest(ARRAY['failed', 'rejected']) AS failing (status)
    CROSS JOIN LATERAL (
        SELECT id, events.status, error, verification_reason FROM events
        WHERE environment = :environment AND source_key = source.key
          AND events.status >= failing.status AND events.status <= failing.status
          AND status NOT IN ('received', 'processing') AND id >= :since
        ORDER BY events.status DESC, id DESC LIMIT :latest
    ) AS found
), cause AS (
    SELECT event.key, event.status,
           left(coalesce(action.error, event.error, event.verification_reason, ''), {_ENOUGH_TEXT}) AS reason,
           max(CAST(event.id AS text)) AS last_id, count(DISTINCT event.id) AS events
    FROM event LEFT JOIN LATERAL ({_ACTIONS_OF_EVENT}) AS action ON action.status = 'failed'
    GROUP BY event.key, event.status, reason
)
SELECT DISTINCT ON (key) key, status, reason, events, last_id,
       CAST(sum(events) OVER (PARTITION BY key) AS bigint) AS of_events
FROM cause ORDER BY key, events DESC, last_id DESC
""")

_ANSWERS = text(f"""
WITH event AS (
    (SELECT found.* FROM sources
     CROSS JOIN unnest(ARRAY['succeeded', 'failed']) AS wanted (status)
     CROSS JOIN LATERAL (
         SELECT id, source_key FROM events
         WHERE environment = :environment AND source_key = sources.key
           AND events.status >= wanted.status AND events.status <= wanted.status
           AND status NOT IN ('received', 'processing') AND id >= :since
         ORDER BY events.status DESC, id DESC LIMIT :latest
     ) AS found
     ORDER BY found.id DESC LIMIT :latest)
    UNION ALL
    (SELECT id, source_key FROM events WHERE environment = :environment
      AND status = 'processing' LIMIT :latest)
)
SELECT event.source_key, action.* FROM event CROSS JOIN LATERAL ({_ACTIONS_OF_EVENT}) AS action
ORDER BY action.finished_at DESC NULLS FIRST
""")

_WAITS = text("""
SELECT split_part(key, '/', 2) AS endpoint, extract(epoch
  FROM greatest(next_turn, next_slot) - now()) AS seconds
FROM rate_limits
WHERE key LIKE :account || '/%' AND greatest(next_turn, next_slot) > now() + interval '1 second'
ORDER BY seconds DESC
""")


@dataclass(frozen=True)
class OpenEvents:
    """Events that wait for a worker, and those that one processes, at most MAXIMUM_COUNTED of each."""

    waiting: int
    processing: int
    oldest_at: datetime | None


@dataclass(frozen=True)
class Cause:
    """Why most of a source's latest failures failed, in the destination's words where it said some."""

    source_key: str
    status: str
    reason: str
    events: int
    of_events: int
    last_at: datetime


@dataclass(frozen=True)
class Answers:
    """How the destination answered the actions of the latest events."""

    succeeded: int
    failed: int
    retried: int
    last_failure: str | None
    last_failure_at: datetime | None
    last_failure_source: str | None


async def read_backlog(session: AsyncSession, environment: str) -> OpenEvents:
    """What waits in an environment."""
    parameters = {"environment": environment, "maximum": MAXIMUM_COUNTED}
    row = (await (await session.connection()).execute(_BACKLOG, parameters)).one()
    return OpenEvents(row.waiting, row.processing, None if row.oldest is None else time_of(UUID(row.oldest)))


async def find_causes(
    session: AsyncSession, environment: str, keys: Sequence[str], since: datetime
) -> dict[str, Cause]:
    """The most common cause among the latest failures of each of these sources."""
    parameters = {
        "environment": environment,
        "keys": list(keys),
        "since": first_id_at(since),
        "latest": LATEST_FAILURES,
    }
    rows = await (await session.connection()).execute(_CAUSES, parameters)
    return {
        row.key: Cause(row.key, row.status, row.reason, row.events, row.of_events, time_of(UUID(row.last_id)))
        for row in rows
    }


async def read_answers(session: AsyncSession, environment: str, since: datetime) -> Answers:
    """How the destination of an environment answers."""
    parameters = {"environment": environment, "since": first_id_at(since), "latest": LATEST_EVENTS}
    rows = (await (await session.connection()).execute(_ANSWERS, parameters)).all()
    failures = [row for row in rows if row.error and (row.status == "failed" or row.attempts)]
    last = failures[0] if failures else None
    return Answers(
        succeeded=sum(row.status == "succeeded" for row in rows),
        failed=sum(row.status == "failed" for row in rows),
        retried=sum(row.status == "pending" and row.attempts > 0 for row in rows),
        last_failure=last.error[:_ENOUGH_TEXT] if last else None,
        last_failure_at=last.finished_at if last else None,
        last_failure_source=last.source_key if last else None,
    )


async def read_rate_limit_waits(session: AsyncSession, account: str | None) -> list[tuple[str, float]]:
    """The endpoints of a destination's account whose calls wait for their turn, and for how many seconds."""
    if account is None:
        return []
    rows = await (await session.connection()).execute(_WAITS, {"account": account})
    return [(row.endpoint, float(row.seconds)) for row in rows]
