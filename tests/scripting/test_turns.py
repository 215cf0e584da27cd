"""Whose turn it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.scripting.turns import LONGEST_WAIT, Busy, FairTurns, Owner

SLOW: Owner = ("production", "slow")


class Served:
    """Calls whose end the test decides, and the order in which their turns came."""

    def __init__(self, turns: FairTurns) -> None:
        self._turns = turns
        self.order: list[Owner] = []
        self.running: list[asyncio.Event] = []

    def call(self, owner: Owner) -> asyncio.Task[None]:
        return asyncio.create_task(self._call(owner))

    async def _call(self, owner: Owner) -> None:
        async with self._turns.turn(owner):
            self.order.append(owner)
            ended = asyncio.Event()
            self.running.append(ended)
            await ended.wait()

    async def end_one(self) -> None:
        self.running.pop(0).set()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def slow_owner(turns: FairTurns, owner: Owner, seconds: float) -> AsyncIterator[None]:
    """Let an owner have used this time."""
    async with turns.turn(owner):
        pass
    line = turns._lines[owner]
    line.used, line.average = line.used + seconds, seconds
    yield


async def test_who_used_the_least_time_is_next() -> None:
    turns = FairTurns(1)
    served = Served(turns)
    tasks = [served.call(SLOW) for _ in range(50)]
    await settle()
    tasks += [served.call(("production", "other")), served.call(("development", "third"))]
    await settle()
    await served.end_one()
    await served.end_one()
    assert set(served.order[1:3]) == {("production", "other"), ("development", "third")} or served.order[
        1:3
    ] == [("development", "third"), ("production", "other")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_owner_whose_calls_are_slow_has_half_of_the_places() -> None:
    turns = FairTurns(2)
    served = Served(turns)
    async with slow_owner(turns, SLOW, 0.5):
        tasks = [served.call(SLOW) for _ in range(4)]
        await settle()
        assert served.order == [SLOW]
        tasks.append(served.call(("production", "other")))
        await settle()
        assert served.order == [SLOW, ("production", "other")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_environments_share_equally_however_many_sources_they_have() -> None:
    turns = FairTurns(1)
    served = Served(turns)
    tasks = [served.call(("production", f"source-{number}")) for number in range(40)]
    await settle()
    tasks.append(served.call(("development", "only")))
    await settle()
    await served.end_one()
    assert ("development", "only") in served.order[:2]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_owner_waits_for_so_long_only_and_others_are_let_in() -> None:
    turns = FairTurns(1)
    served = Served(turns)
    async with slow_owner(turns, SLOW, LONGEST_WAIT / 4):
        tasks = [served.call(SLOW) for _ in range(20)]
        await settle()
        refused = [each for each in tasks if each.done() and isinstance(each.exception(), Busy)]
        assert 10 <= len(refused) < 19
        other = served.call(("production", "other"))
        await settle()
        assert not other.done()
        await served.end_one()
        assert served.order[1] == ("production", "other")
    for task in (*tasks, other):
        task.cancel()
    await asyncio.gather(*tasks, other, return_exceptions=True)


async def test_calls_that_are_cancelled_leave_no_place_taken() -> None:
    turns = FairTurns(1)
    served = Served(turns)
    tasks = [served.call(SLOW) for _ in range(5)]
    await settle()
    for task in tasks[1:]:
        task.cancel()
    served.running[0].set()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(5), turns.turn(SLOW):
        pass


async def test_too_many_are_refused() -> None:
    turns = FairTurns(1, maximum_waiting=0)
    async with turns.turn(SLOW):
        with pytest.raises(Busy):
            async with turns.turn(SLOW):
                raise AssertionError
