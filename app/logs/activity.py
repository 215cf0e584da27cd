"""What sources received lately, at a glance: how many events in each part of the last hour, how many of them
failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.logs.event_types import RECENT
from app.logs.statistics import Interval, count_by_source
from app.models.source import Mapping
from app.models.status import EventStatus
from app.models.types import first_id_at, now

SPAN = timedelta(hours=1)
BUCKETS = 30

# Not `=`, and in the order of the index events_by_source: else Postgres takes the primary key's order and
# reads all other sources' events since the last one of this.
_LAST = text("""
SELECT source.key, last.received_at
FROM unnest(CAST(:keys AS text[])) AS source (key)
CROSS JOIN LATERAL (
    SELECT received_at FROM events
    WHERE environment = :environment AND source_key >= source.key AND source_key <= source.key
    ORDER BY source_key DESC, id DESC LIMIT 1
) AS last
""")


# The last one as a range and in the order of the index that begins with the source: else Postgres may read
# all other sources' events since.
_ACTIVITY = text("""
SELECT (SELECT count(*) FROM events
        WHERE environment = :environment AND source_key = :source_key AND id >= :since) AS events_count,
       (SELECT received_at FROM events
        WHERE environment = :environment AND source_key >= :source_key AND source_key <= :source_key
        ORDER BY source_key DESC, id DESC LIMIT 1) AS last_received_at
""")


@dataclass
class SourceActivity:
    """A source's last hour. `buckets`: events by part of it, oldest first. `failures`: failed and rejected
    ones."""

    buckets: list[int]
    failures: int = 0
    last_received_at: datetime | None = None

    @property
    def events(self) -> int:
        """How many events came."""
        return sum(self.buckets)


@dataclass(frozen=True)
class Activity:
    """What a source received lately."""

    events_count: int
    last_received_at: datetime | None
    mappings_count: int


async def recent_activity(
    session: AsyncSession, environment: str, keys: Sequence[str]
) -> dict[str, SourceActivity]:
    """The last hour of each of these sources in an environment, up to the end of this minute."""
    end = Interval.MINUTE.ceil(now())
    start = end - SPAN
    found = {key: SourceActivity([0] * BUCKETS) for key in keys}
    counts = await count_by_source(session, environment, Interval.MINUTE, start, end)
    for key in counts.keys() & found.keys():
        for moment, statuses in counts[key].items():
            found[key].buckets[int((moment - start) / SPAN * BUCKETS)] += statuses.total()
            found[key].failures += statuses[EventStatus.FAILED] + statuses[EventStatus.REJECTED]
    of = {"environment": environment, "keys": list(keys)}
    for key, received_at in await (await session.connection()).execute(_LAST, of):
        found[key].last_received_at = received_at
    return found


async def get_activity(
    session: AsyncSession, environment: str, source_key: str, configured: UUID
) -> Activity:
    """How much a source received in the last 30 days, and when last."""
    rows = await (await session.connection()).execute(
        _ACTIVITY,
        {"environment": environment, "source_key": source_key, "since": first_id_at(now() - RECENT)},
    )
    activity = rows.one()
    mappings = await session.exec(select(Mapping.id).where(Mapping.source_environment_id == configured))
    return Activity(activity.events_count, activity.last_received_at, len(mappings.all()))
