"""Stage 2 of an event: the durable inbox. Events of many requests go into the event log with one statement.

`accept` returns after the commit and not before. The dispatcher of the event's environment
(`app/worker/events.py`) hears of it by NOTIFY.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.batching import Batcher
from app.database.engine import with_isolation
from app.events.reception import ReceivedEvent
from app.events.writer import write_events
from app.runtime import metrics

logger = logging.getLogger(__name__)

# A request of many events waits as so many single ones would.
GROUP_WEIGHT = 100

# Senders give up after 1 to 30 seconds. What takes longer is answered 503, whether it is committed or not.
WRITE_TIMEOUT = timedelta(seconds=10)
# What a row takes besides its body, roughly.
ROW_BYTES = 2048


class Inbox:
    """Writes received events. Bounded: when Postgres does not keep up, `accept` refuses."""

    def __init__(self, engine: AsyncEngine, *, maximum_queued: int, maximum_bytes: int) -> None:
        self._engine = with_isolation(engine, "AUTOCOMMIT")
        self._batcher: Batcher[ReceivedEvent, None] = Batcher(
            self._write,
            maximum_batch=500,
            maximum_queued=maximum_queued,
            maximum_bytes=maximum_bytes,
            weigh=lambda event: len(event.body) + ROW_BYTES,
            concurrency=2,
        )
        self._groups: Batcher[Sequence[ReceivedEvent], None] = Batcher(
            self._write_group,
            maximum_batch=1,
            maximum_queued=max(maximum_queued // GROUP_WEIGHT, 1),
            maximum_bytes=maximum_bytes,
            weigh=lambda group: sum(len(event.body) + ROW_BYTES for event in group),
            concurrency=2,
        )
        metrics.watch_queue(
            lambda: self._batcher.queued + self._groups.queued * GROUP_WEIGHT,
            lambda: self._batcher.queued_bytes + self._groups.queued_bytes,
        )

    async def accept(self, event: ReceivedEvent) -> None:
        """Make the event durable.

        Raises:
            QueueFull: Postgres does not keep up.
            sqlalchemy.exc.DBAPIError, TimeoutError: Postgres is out; the event is not accepted, though it may
            be
                in the log when the connection broke at the commit.
        """
        await self._batcher.submit(event)

    async def accept_all(self, events: Sequence[ReceivedEvent]) -> None:
        """Make all of the events durable, or none. Raises as `accept` does."""
        if len(events) == 1:
            await self.accept(events[0])
        elif events:
            await self._groups.submit(events)

    async def _write_group(self, groups: list[Sequence[ReceivedEvent]]) -> Sequence[None]:
        """One statement for each group, whatever its size: a transaction of its own."""
        for group in groups:
            await self._write(list(group))
        return [None] * len(groups)

    async def _write(self, events: list[ReceivedEvent]) -> Sequence[None]:
        async with asyncio.timeout(WRITE_TIMEOUT.total_seconds()):
            try:
                await self._insert(events)
            except DBAPIError as error:
                if not (error.connection_invalidated or isinstance(error, IntegrityError)):
                    raise
                # The pool's connections are of a server that is gone, and a new one may exist already. Or the
                # partition of these rows was attached after the statement had chosen the default one.
                logger.info("inbox_tries_again", extra={"events": len(events), "error": type(error).__name__})
                await self._insert(events)
        metrics.count_received(events)
        return [None] * len(events)

    async def _insert(self, events: list[ReceivedEvent]) -> None:
        async with self._engine.connect() as connection:
            await write_events(connection, events)
