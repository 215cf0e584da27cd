"""How much waits in the event log and since when, for the metrics. Read from Postgres when somebody asks, and
not again for a while: an index holds what waits, so that the size of the log does not count."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.runtime.readings import Reading

# Of a source: a backlog of this size says what there is to say.
MAXIMUM_COUNTED = 100_000

# Jumps from source to source through the index of what waits.
_WAITING = text("""
WITH RECURSIVE backlog (environment, source_key) AS (
    (SELECT environment, source_key FROM events WHERE status = 'received'
     ORDER BY environment, source_key LIMIT 1)
    UNION ALL
    SELECT following.environment, following.source_key FROM backlog CROSS JOIN LATERAL (
        SELECT environment, source_key FROM events WHERE status = 'received'
            AND (environment, source_key) > (backlog.environment, backlog.source_key)
        ORDER BY environment, source_key LIMIT 1
    ) AS following
)
SELECT backlog.environment, sum(counted.events) AS events,
    greatest(0, extract(epoch FROM now() - min(oldest.received_at))) AS oldest
FROM backlog
CROSS JOIN LATERAL (
    SELECT received_at FROM events
    WHERE environment = backlog.environment AND source_key = backlog.source_key AND status = 'received'
    ORDER BY id LIMIT 1
) AS oldest
CROSS JOIN LATERAL (
    SELECT count(*) AS events FROM (
        SELECT FROM events
        WHERE environment = backlog.environment AND source_key = backlog.source_key AND status = 'received'
        LIMIT :most
    ) AS bounded
) AS counted
GROUP BY backlog.environment
""")

_PROCESSING = text("""
SELECT environment, count(*) AS events,
    count(*) FILTER (WHERE lease_expires_at < now() - interval '1 minute') AS overdue
FROM (SELECT environment, lease_expires_at FROM events WHERE status = 'processing' LIMIT :most) AS bounded
GROUP BY environment
""")


_FOR_EARLIER = text("""
SELECT environment, count(*) AS events
FROM (SELECT environment FROM events WHERE waiting_for IS NOT NULL LIMIT :most) AS bounded
GROUP BY environment
""")


@dataclass
class Waiting:
    """What waits in one environment: events not claimed, the age of the oldest in seconds, those of them that
    wait for an earlier one, events claimed and not finished, and those of them that nobody looks after."""

    received: int = 0
    oldest: float = 0.0
    for_earlier: int = 0
    processing: int = 0
    overdue: int = 0


class Backlog(Reading[dict[str, Waiting]]):
    """What waits by environment, those with nothing left out."""

    unreadable = "backlog_unreadable"

    async def _find(self, connection: AsyncConnection) -> dict[str, Waiting]:
        waiting = (await connection.execute(_WAITING, {"most": MAXIMUM_COUNTED})).all()
        for_earlier = (await connection.execute(_FOR_EARLIER, {"most": MAXIMUM_COUNTED})).all()
        processing = (await connection.execute(_PROCESSING, {"most": MAXIMUM_COUNTED})).all()
        found: dict[str, Waiting] = {}
        for row in waiting:
            found[row.environment] = Waiting(received=int(row.events), oldest=float(row.oldest))
        for row in for_earlier:
            found.setdefault(row.environment, Waiting()).for_earlier = row.events
        for row in processing:
            each = found.setdefault(row.environment, Waiting())
            each.processing, each.overdue = row.events, row.overdue
        return found
