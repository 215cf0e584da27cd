"""Micro-batching: many concurrent callers, one statement.

While one batch is being written the next one fills, so batches grow with the load and a lone caller waits for
nobody. Bounded: a full queue refuses instead of growing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from app.errors import DoorbellError

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(DoorbellError):
    """As many items are waiting as the batcher may hold."""


class Batcher(Generic[Item, Result]):
    """Hands items to `write` in batches; each `submit` returns its item's result.

    `write` gets a list and returns one result for each, in order. When Postgres refuses a batch for what is in
    it, its items are tried one by one, so that one bad item fails alone.
    """

    def __init__(
        self,
        write: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        maximum_batch: int = 200,
        maximum_queued: int = 10_000,
        concurrency: int = 1,
    ) -> None:
        self._write = write
        self._maximum_batch = maximum_batch
        self._maximum_queued = maximum_queued
        self._idle = concurrency
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        """Items waiting for their turn."""
        return len(self._queue)

    async def submit(self, item: Item) -> Result:
        """The item's result, once its batch is written.

        Raises:
            QueueFull: too many items wait already.
            Exception: whatever `write` raised for this item.
        """
        if len(self._queue) >= self._maximum_queued:
            raise QueueFull(f"{len(self._queue)} items are waiting")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._idle:
            self._idle -= 1
            writer = asyncio.create_task(self._drain())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await future

    async def _drain(self) -> None:
        try:
            while self._queue:
                size = min(len(self._queue), self._maximum_batch)
                await self._write_batch([self._queue.popleft() for _ in range(size)])
        finally:
            self._idle += 1

    async def _write_batch(self, batch: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 (handed to whoever waits)
            if len(batch) > 1 and _is_about_content(error):
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


def _is_about_content(error: Exception) -> bool:
    """Whether Postgres refused the rows themselves, rather than being out of reach."""
    if isinstance(error, DBAPIError):
        return not error.connection_invalidated and error.orig.__class__.__name__ not in (
            "OperationalError",
            "InterfaceError",
            "InternalError",
        )
    return isinstance(error, ValueError | TypeError)
