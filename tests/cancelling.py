"""Cancels a task at each of its awaits in turn, in all ways that asyncio has."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from types import coroutine
from typing import Any

Work = Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True)
class Way:
    """`late`: what was awaited has come, and the task is about to go on. `again`: each later await is
    cancelled too, as those in a cancel scope of anyio are."""

    late: bool
    again: bool

    def __str__(self) -> str:
        return f"{'late' if self.late else 'early'}-{'again' if self.again else 'once'}"


WAYS = [Way(late, again) for late in (False, True) for again in (False, True)]


async def cancel_everywhere(work: Work, check: Callable[[], Awaitable[None]]) -> None:
    """Do the work until it comes to its end, each time cancelled at the next of its awaits, in each way. Each
    time it must end as cancelled, and `check` is called."""
    for way in WAYS:
        place, task = 1, await _ended(work, 1, way)
        while task.cancelled():
            try:
                await check()
            except BaseException as error:
                error.add_note(f"after a cancellation at await {place} ({way})")
                raise
            place += 1
            task = await _ended(work, place, way)
        assert task.result() < place, f"the cancellation at await {place} ({way}) was swallowed"


async def _ended(work: Work, place: int, way: Way) -> "asyncio.Task[int]":
    task = asyncio.create_task(_run(work(), place, way))
    await asyncio.wait([task])
    return task


async def _run(work: Coroutine[Any, Any, object], place: int, way: Way) -> int:
    return await _driven(work, place, way)


@coroutine
def _driven(work: Coroutine[Any, Any, object], place: int, way: Way) -> Generator[Any, Any, int]:
    """Pass on what the work awaits; the number of its awaits."""
    task = asyncio.current_task()
    assert task is not None
    awaits, error = 0, None
    while True:
        try:
            awaited = work.send(None) if error is None else work.throw(error)
        except StopIteration:
            return awaits
        awaits += 1
        if awaits == place or (way.again and awaits > place):
            if way.late and awaited is not None:
                # Called before the task goes on, whose own callback is added after this one.
                awaited.add_done_callback(lambda _: task.cancel())
            else:
                task.cancel()
        try:
            yield awaited
            error = None
        except BaseException as raised:  # noqa: BLE001 (handed to the work)
            error = raised
