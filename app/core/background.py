"""Work that runs beside a block of code."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines beside the block and cancel them at its end.

    All have ended when this has, also when one of them failed, or when the block's own task is cancelled
    meanwhile: what they use may be closed next.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await _ended(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


async def _ended(tasks: Collection["asyncio.Task[None]"]) -> None:
    """Wait for all of them. A cancellation that comes meanwhile is raised afterwards."""
    cancelled = None
    while waiting := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
