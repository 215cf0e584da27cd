"""What happened over time: events and actions by outcome, how long events took, by source and event type.

Read from counts of closed minutes and longer times (`app.logs.rollup` makes them), and, for what is newer,
from the log itself; so it costs the same with a thousand events and with millions.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import FieldError
from app.core.validation import invalid_fields
from app.models.types import first_id_at, now, time_of

# Latencies are counted in steps, four for each doubling: step n is up to 2^(n/4) milliseconds.
LATENCY_STEPS = 4
PERCENTILES = (50, 95, 99)
# Event types that are counted by name, of each source in each run of counting; the others are one.
NAMED_TYPES = 50
MAXIMUM_POINTS = 750
# What is not rolled up is read from the log for this long at most; it is a minute or two while a worker runs.
MAXIMUM_FRESH = timedelta(minutes=15)


class Interval(StrEnum):
    """How long the time of one point is."""

    MINUTE = "minute"
    QUARTER_HOUR = "quarter_hour"
    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """The time of one point."""
        return _LENGTHS[self]

    @property
    def kept(self) -> timedelta:
        """How long counts of it are kept. Hours are kept longer than a late event takes to finish."""
        return _KEPT[self]

    def floor(self, moment: datetime) -> datetime:
        """The beginning of the point that a moment is in; days are those of UTC."""
        seconds = self.length.total_seconds()
        return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)

    def ceil(self, moment: datetime) -> datetime:
        """The end of the point that ends at a moment or has it inside."""
        floor = self.floor(moment)
        return floor if floor == moment else floor + self.length


_LENGTHS = {
    Interval.MINUTE: timedelta(minutes=1),
    Interval.QUARTER_HOUR: timedelta(minutes=15),
    Interval.HOUR: timedelta(hours=1),
    Interval.DAY: timedelta(days=1),
}
_KEPT = {
    Interval.MINUTE: timedelta(days=2),
    Interval.QUARTER_HOUR: timedelta(days=8),
    Interval.HOUR: timedelta(days=36),
    Interval.DAY: timedelta(days=400),
}

# The counts of the events with ids from :first to before `end`, by minute. The time of an id is its first 48
# bits.
COUNTED = f"""
event AS MATERIALIZED (
    SELECT id, environment, source_key, left(coalesce(event_type, ''), 255) AS name, status,
           to_timestamp(
               ('x' || translate(left(CAST(id AS text), 13), '-', ''))::bit(48)::bigint / 60000 * 60
           ) AS starts_at,
           CASE WHEN status IN ('succeeded', 'failed')
                THEN extract(epoch FROM finished_at - received_at)::double precision * 1000 END AS
                  milliseconds
    FROM events
    WHERE id >= {{first}} AND id < :end
      AND (CAST(:environment AS text) IS NULL OR environment = :environment)
      AND (CAST(:source_key AS text) IS NULL OR source_key = :source_key)
), frequent AS (
    SELECT * FROM (
        SELECT environment, source_key, name,
               row_number() OVER (PARTITION BY environment, source_key ORDER BY count(*) DESC, name) AS rank
        FROM event GROUP BY environment, source_key, name
    ) AS ranked
    WHERE rank <= {NAMED_TYPES}
), counted AS (
    SELECT starts_at, environment, 'event' AS subject, source_key, coalesce(frequent.name, '') AS name,
      status,
           count(*) AS count
    FROM event LEFT JOIN frequent USING (environment, source_key, name)
    GROUP BY starts_at, environment, source_key, coalesce(frequent.name, ''), status
    UNION ALL
    SELECT starts_at, environment, 'latency', source_key, '',
           CAST(greatest(0, ceil({LATENCY_STEPS} * ln(greatest(milliseconds,
             1)) / ln(2.0)))::integer AS text), count(*)
    FROM event WHERE milliseconds IS NOT NULL
    GROUP BY 1, 2, 4, 6
    UNION ALL
    SELECT starts_at, event.environment, 'action', event.source_key, action_type, action.status, count(*)
    FROM actions AS action JOIN event ON event.id = action.event_id
    WHERE action.id >= {{first}} AND action.id < :end
    GROUP BY 1, 2, 4, 5, 6
)
"""

# What was counted ahead, and, where that ends, the log.
_FOUND = f"""
WITH {COUNTED.format(first="greatest(CAST(:first AS uuid), (SELECT next_id FROM statistics_progress))")},
found AS (
    SELECT starts_at, subject, source_key, name, status, count FROM statistics
    WHERE resolution = :resolution AND starts_at >= :starting_at AND starts_at < :ending_at
      AND environment = :environment AND (CAST(:source_key AS text) IS NULL OR source_key = :source_key)
    UNION ALL
    SELECT to_timestamp(floor(extract(epoch FROM starts_at) / :resolution) * :resolution), subject,
      source_key, name,
           status, count
    FROM counted
)
"""
_BY_POINT_AND_BY_NAME = text(f"""{_FOUND}
SELECT starts_at, subject, source_key, name, status, sum(count)::bigint AS count FROM found
GROUP BY GROUPING SETS ((starts_at, subject, status), (subject, source_key, name, status))
""")
_BY_SOURCE = text(f"""{_FOUND}
SELECT source_key, starts_at, status, sum(count)::bigint AS count FROM found
WHERE subject = 'event' GROUP BY source_key, starts_at, status
""")
_PROGRESS = text("SELECT next_id FROM statistics_progress")


@dataclass(frozen=True)
class Latencies:
    """How long events took, from their acceptance to the end of their last action: how many in each step."""

    steps: Mapping[int, int]

    @property
    def events(self) -> int:
        """How many events were measured."""
        return sum(self.steps.values())

    def percentile(self, percent: float) -> float | None:
        """Milliseconds within which that share of the events was done, to a tenth or so; None without
        events."""
        wanted = self.events * percent / 100
        below = 0
        for step, events in sorted(self.steps.items()):
            if below + events >= wanted and events:
                # Within a step, evenly on its logarithmic scale.
                exponent = (step - 1 + (wanted - below) / events) / LATENCY_STEPS
                return math.exp2(max(0.0, exponent))
            below += events
        return None


@dataclass
class Point:
    """One piece of time: counts of events and actions by status."""

    starts_at: datetime
    events: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    latency_steps: Counter[int] = field(default_factory=Counter)

    @property
    def latencies(self) -> Latencies:
        """How long its events took."""
        return Latencies(self.latency_steps)


@dataclass
class Statistics:
    """What happened in a time, in `points` and as totals.

    `rolled_up_to`: what came before it is counted ahead; what came long after it, while no worker ran, is
    missing.
    """

    interval: Interval
    points: list[Point]
    sources: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    event_types: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    rolled_up_to: datetime | None = None

    @property
    def events(self) -> Counter[str]:
        """Events by status."""
        return sum((each.events for each in self.points), Counter())

    @property
    def actions(self) -> Counter[str]:
        """Actions by status."""
        return sum((each.actions for each in self.points), Counter())

    @property
    def latencies(self) -> Latencies:
        """How long the events took."""
        return Latencies(sum((each.latency_steps for each in self.points), Counter()))


async def read_statistics(
    session: AsyncSession,
    environment: str,
    interval: Interval,
    starting_at: datetime,
    ending_at: datetime,
    source_key: str | None = None,
) -> Statistics:
    """What happened in an environment in the points that begin from `starting_at` on and before `ending_at`.

    Raises:
        RequestError: 422, there would be no point or too many, or the points are so old that they are not
            kept.
    """
    starts = interval.floor(starting_at)
    ends = interval.ceil(ending_at)
    _check(interval, starts, ends)
    connection = await session.connection()
    progress = (await connection.execute(_PROGRESS)).scalar()
    parameters = _parameters(environment, source_key, interval, starts, ends)
    rows = await connection.execute(_BY_POINT_AND_BY_NAME, parameters)
    count = int((ends - starts) / interval.length)
    points = {moment: Point(moment) for moment in (starts + interval.length * n for n in range(count))}
    found = Statistics(
        interval, list(points.values()), rolled_up_to=None if progress is None else time_of(progress)
    )
    for moment, subject, source, name, status, counted in rows:
        if moment is not None:
            _add_to_point(points[moment.astimezone(UTC)], subject, status, counted)
        elif subject == "event":
            found.sources[source][status] += counted
            found.event_types[source, name][status] += counted
    return found


async def count_by_source(
    session: AsyncSession, environment: str, interval: Interval, starts: datetime, ends: datetime
) -> dict[str, dict[datetime, Counter[str]]]:
    """Events by status of each source in each point, where there were some. The times are those of points."""
    parameters = _parameters(environment, None, interval, starts, ends)
    found: dict[str, dict[datetime, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for source, moment, status, counted in await (await session.connection()).execute(_BY_SOURCE, parameters):
        found[source][moment.astimezone(UTC)][status] += counted
    return found


def _parameters(
    environment: str, source_key: str | None, interval: Interval, starts: datetime, ends: datetime
) -> dict[str, Any]:
    return {
        "environment": environment,
        "source_key": source_key,
        "resolution": int(interval.length.total_seconds()),
        "starting_at": starts,
        "ending_at": ends,
        "first": first_id_at(max(starts, now() - MAXIMUM_FRESH)),
        "end": first_id_at(ends),
    }


def _add_to_point(point: Point, subject: str, status: str, counted: int) -> None:
    if subject == "latency":
        point.latency_steps[int(status)] += counted
    else:
        (point.events if subject == "event" else point.actions)[status] += counted


def _check(interval: Interval, starts: datetime, ends: datetime) -> None:
    points = math.ceil((ends - starts) / interval.length)
    if points < 1:
        raise invalid_fields([FieldError("ending_at", "must be after `starting_at`")])
    if points > MAXIMUM_POINTS:
        message = (
            f"{points} points are more than {MAXIMUM_POINTS}: look at a shorter time or a longer interval"
        )
        raise invalid_fields([FieldError("interval", message)])
    if starts < now() - interval.kept:
        message = f"counts by {interval} are kept for {interval.kept.days} days: use a longer interval"
        raise invalid_fields([FieldError("starting_at", message)])
