"""Work beside a block: whatever happens, it has ended when the block has."""

import asyncio

import pytest

from app.core.background import background


class Work:
    """Goes on until it is cancelled, and then takes some time to end."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self.may_end.wait()
            self.ended = True


async def fail() -> None:
    raise ValueError("no")


async def test_a_failure_is_raised_after_all_have_ended() -> None:
    work = Work()

    async def block() -> None:
        async with background(fail(), work.run()):
            await work.began.wait()
            asyncio.get_running_loop().call_soon(work.may_end.set)

    with pytest.raises(ValueError, match="no"):
        await block()
    assert work.ended


async def test_a_cancellation_meanwhile_is_raised_after_all_have_ended() -> None:
    work = Work()

    async def block() -> None:
        async with background(work.run()):
            await work.began.wait()

    task = asyncio.create_task(block())
    await work.began.wait()
    for _ in range(3):
        # Each reaches it while it waits for its work.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    assert not work.ended
    work.may_end.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert work.ended
