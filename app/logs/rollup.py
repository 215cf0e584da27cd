"""The counts that `app.logs.statistics` reads, made off the hot path: one worker process at a time, every
half minute.

Minutes are counted from the log when they are over; quarters of hours, hours and days are sums of the finer
ones. A minute is always counted as a whole and replaces what was counted before, so doing it twice changes
nothing. One that had unfinished events is counted again until it has none.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.logs.statistics import COUNTED, Interval
from app.models.types import first_id_at, now, time_of

logger = logging.getLogger(__name__)

EVERY = timedelta(seconds=30)
# A minute is counted when it is over for this long, and again until OVERLAP later: rows are committed a
# little after the time in their ids.
SETTLED = timedelta(seconds=30)
OVERLAP = timedelta(minutes=2)
# How long a round may take, so that one with much to do does not keep a connection busy for long.
ROUND = timedelta(seconds=10)
# Unfinished events younger than this are looked after by minute, older ones by hour: minutes are not kept.
BY_MINUTE = timedelta(days=1)

_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('doorbell_statistics'))")
_PROGRESS = text("SELECT next_id FROM statistics_progress")
_OLDEST = text("SELECT id FROM events ORDER BY id LIMIT 1")
_ADVANCE = text("""
INSERT INTO statistics_progress (only_row, next_id, updated_at) VALUES (true, :next_id, now())
ON CONFLICT (only_row) DO UPDATE SET next_id = excluded.next_id, updated_at = excluded.updated_at
""")
_FORGET = text("""
DELETE FROM statistics WHERE resolution = :resolution AND starts_at >= :starts AND starts_at < :ends
""")
_COUNT = text(f"""
WITH {COUNTED.format(first="CAST(:first AS uuid)")}
INSERT INTO statistics (resolution, starts_at, environment, subject, source_key, name, status, count)
SELECT 60, starts_at, environment, subject, source_key, name, status, count FROM counted
""")
_SUM = text("""
INSERT INTO statistics (resolution, starts_at, environment, subject, source_key, name, status, count)
SELECT :resolution, to_timestamp(floor(extract(epoch FROM starts_at) / :resolution) * :resolution) AS begins,
       environment, subject, source_key, name, status, sum(count)
FROM statistics
WHERE resolution = :finer AND starts_at >= :starts AND starts_at < :ends
GROUP BY begins, environment, subject, source_key, name, status
""")
_UNFINISHED = text("""
SELECT DISTINCT starts_at FROM statistics
WHERE resolution = :resolution AND starts_at >= :starts AND starts_at < :ends
  AND subject = 'event' AND status IN ('received', 'processing')
""")


async def keep_statistics(engine: AsyncEngine) -> None:
    """Roll up every half minute, until cancelled. Where several processes do, one of them works at a time."""
    while True:
        try:
            await roll_up(engine)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("statistics_not_made", extra={"error": type(error).__name__})
        await asyncio.sleep(EVERY.total_seconds())


async def roll_up(engine: AsyncEngine) -> None:
    """Count what is over since the last time, count again what was unfinished, and forget what is too old."""
    end = asyncio.get_running_loop().time() + ROUND.total_seconds()
    while asyncio.get_running_loop().time() < end and await _go_on(engine):
        pass
    for starts, ends in await _unfinished(engine):
        if asyncio.get_running_loop().time() > end:
            break
        async with _alone(engine) as connection:
            if connection is not None:
                await _count_again(connection, starts, ends)
    async with _alone(engine) as connection:
        if connection is not None:
            await _prune(connection)


@asynccontextmanager
async def _alone(engine: AsyncEngine) -> AsyncIterator[AsyncConnection | None]:
    """A transaction in which no other process rolls up; None while another one does."""
    async with engine.begin() as connection:
        yield connection if (await connection.execute(_LOCK)).scalar() else None


async def _go_on(engine: AsyncEngine) -> bool:
    """Count up to the end of an hour, or to the last minute that is over; whether there is more to do."""
    async with _alone(engine) as connection:
        if connection is None:
            return False
        over = Interval.MINUTE.floor(now() - SETTLED)
        begins = await _progress(connection, over)
        ends = min(over, Interval.HOUR.floor(begins) + Interval.HOUR.length)
        if begins >= ends:
            return False
        # Further back, the minutes that a repeated one would be added to may be forgotten already.
        overlap = OVERLAP if begins > now() - BY_MINUTE else timedelta()
        await _count_again(connection, begins - overlap, ends)
        await connection.execute(_ADVANCE, {"next_id": first_id_at(ends)})
        return ends < over


async def _progress(connection: AsyncConnection, over: datetime) -> datetime:
    """Where to go on: at first, with the oldest event whose hours are kept."""
    if (progress := (await connection.execute(_PROGRESS)).scalar()) is not None:
        return time_of(progress)
    oldest = (await connection.execute(_OLDEST)).scalar()
    if oldest is None:
        return over - Interval.MINUTE.length
    kept = Interval.DAY.ceil(now() - Interval.HOUR.kept)
    return max(Interval.HOUR.floor(time_of(oldest)), kept)


async def _count_again(connection: AsyncConnection, starts: datetime, ends: datetime) -> None:
    """Count these minutes from the log, and sum up the longer times that they are in."""
    await connection.execute(_FORGET, {"resolution": 60, "starts": starts, "ends": ends})
    await connection.execute(
        _COUNT,
        {"first": first_id_at(starts), "end": first_id_at(ends), "environment": None, "source_key": None},
    )
    for finer, interval in pairwise(Interval):
        within = {"starts": interval.floor(starts), "ends": interval.ceil(ends)}
        resolution = int(interval.length.total_seconds())
        await connection.execute(_FORGET, {"resolution": resolution, **within})
        await connection.execute(
            _SUM, {"resolution": resolution, "finer": int(finer.length.total_seconds()), **within}
        )


async def _unfinished(engine: AsyncEngine) -> list[tuple[datetime, datetime]]:
    """The times that had unfinished events, in any order: those that one round has no time for come in
    another."""
    young = Interval.HOUR.floor(now() - BY_MINUTE)
    # Events that are past retention are not there to be counted again.
    async with engine.connect() as connection:
        oldest = (await connection.execute(_OLDEST)).scalar()
        kept = now() if oldest is None else Interval.HOUR.floor(time_of(oldest))
        oldest_kept = max(kept, Interval.DAY.ceil(now() - Interval.HOUR.kept))
        found = []
        for interval, starts, ends in (
            (Interval.MINUTE, young, now()),
            (Interval.HOUR, min(oldest_kept, young), young),
        ):
            rows = await connection.execute(
                _UNFINISHED,
                {"resolution": int(interval.length.total_seconds()), "starts": starts, "ends": ends},
            )
            found += [(moment, moment + interval.length) for moment in rows.scalars()]
    random.shuffle(found)
    return found


async def _prune(connection: AsyncConnection) -> None:
    """Forget counts that are past their time. Whole days, so that no longer time loses a part of what it
    sums."""
    for interval in Interval:
        await connection.execute(
            _FORGET,
            {
                "resolution": int(interval.length.total_seconds()),
                "starts": datetime.fromtimestamp(0, now().tzinfo),
                "ends": Interval.DAY.floor(now() - interval.kept),
            },
        )
