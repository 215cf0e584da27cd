"""Micro-batching: many concurrent callers, one statement.

While one batch is being written the next one fills, so batches grow with the load and a lone caller waits for
nobody. Where items come faster than one at a time but slower than batches are written, a `pace` lets batches
grow. Bounded, in items and in bytes: a full queue refuses instead of growing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, InternalError, OperationalError

from app.core.errors import DoorbellError

Item = TypeVar("Item")
Result = TypeVar("Result")


# A batch is one statement, whose parameters Postgres holds in memory too.
MAXIMUM_BATCH_BYTES = 8 * 1024 * 1024


# So many items within so many seconds are those of several events: they are worth waiting for each other.
BUSY_ITEMS = 5
BUSY_WITHIN = 0.1
# The pace of what events write while they are processed, in seconds.
PACE = 0.05


class QueueFull(DoorbellError):
    """As much is waiting as the batcher may hold."""


class Batcher(Generic[Item, Result]):
    """Hands items to `write` in batches; each `submit` returns its item's result.

    `write` gets a list and returns one result for each, in order. `weigh` gives an item's bytes. `pace`:
    while items come often, a batch begins so many seconds after the one before. When Postgres refuses a batch
    for what is in it, its items are tried one by one, so that one bad item fails alone.
    """

    def __init__(
        self,
        write: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        maximum_batch: int = 200,
        maximum_queued: int = 10_000,
        maximum_bytes: int | None = None,
        weigh: Callable[[Item], int] = lambda _: 0,
        concurrency: int = 1,
        pace: float = 0,
    ) -> None:
        self._write = write
        self._maximum_batch = maximum_batch
        self._maximum_queued = maximum_queued
        self._maximum_bytes = maximum_bytes
        self._weigh = weigh
        self._bytes = 0
        self._idle = concurrency
        self._pace = pace
        self._arrivals: deque[float] = deque(maxlen=BUSY_ITEMS)
        self._next_begin = 0.0
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        """Items waiting for their turn."""
        return len(self._queue)

    @property
    def queued_bytes(self) -> int:
        """What they weigh, together with those that are being written."""
        return self._bytes

    async def submit(self, item: Item) -> Result:
        """The item's result, once its batch is written.

        Raises:
            QueueFull: too much waits, or is being written, already.
            Exception: whatever `write` raised for this item.
        """
        if len(self._queue) >= self._maximum_queued:
            raise QueueFull(f"{len(self._queue)} items are waiting")
        weight = self._weigh(item)
        if self._maximum_bytes is not None and self._bytes and self._bytes + weight > self._maximum_bytes:
            raise QueueFull(f"{self._bytes} bytes are waiting")
        self._bytes += weight
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._queue.append((item, future))
        self._arrivals.append(loop.time())
        if self._idle:
            self._idle -= 1
            writer = asyncio.create_task(self._drain())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await future

    async def _drain(self) -> None:
        try:
            while self._queue:
                if self._pace:
                    await self._keep_pace()
                batch, weight = self._next_batch()
                try:
                    await self._write_batch(batch)
                finally:
                    self._bytes -= weight
        finally:
            self._idle += 1

    async def _keep_pace(self) -> None:
        """Wait for more items, while they come often."""
        clock = asyncio.get_running_loop().time
        is_busy = len(self._arrivals) == BUSY_ITEMS and clock() - self._arrivals[0] < BUSY_WITHIN
        if is_busy and len(self._queue) < self._maximum_batch and (pause := self._next_begin - clock()) > 0:
            await asyncio.sleep(pause)
        self._next_begin = clock() + self._pace

    def _next_batch(self) -> tuple[list[tuple[Item, "asyncio.Future[Result]"]], int]:
        """What is written next, and its bytes: one item at least."""
        batch = [self._queue.popleft()]
        weight = self._weigh(batch[0][0])
        while self._queue and len(batch) < self._maximum_batch:
            more = self._weigh(self._queue[0][0])
            if weight + more > MAXIMUM_BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
            weight += more
        return batch, weight

    async def _write_batch(self, batch: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 (handed to whoever waits)
            if len(batch) > 1 and _may_be_one_item(error):
                for entry in batch:
                    await self._write_batch([entry])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


def is_about_content(error: Exception) -> bool:
    """Whether the values themselves cannot be stored. Constraints, partitions and missing columns are faults
    of the database, whatever the values are."""
    return isinstance(error, DataError | ValueError | TypeError)


def _may_be_one_item(error: Exception) -> bool:
    """Whether Postgres refused rows, rather than being out of reach: others of the batch may be written."""
    if isinstance(error, DBAPIError):
        # By SQLAlchemy's class: psycopg has one of its own for a full disk, a shutdown, and so on.
        out_of_reach = isinstance(error, OperationalError | InterfaceError | InternalError)
        return not (error.connection_invalidated or out_of_reach)
    return isinstance(error, ValueError | TypeError)
