"""Micro-batching: results reach their callers, bad items fail alone, the queue is bounded."""

import asyncio
from collections.abc import Sequence

import pytest

from app.database.batching import Batcher, QueueFull
from tests.clock import Clock


async def test_concurrent_callers_share_a_write() -> None:
    batches: list[list[int]] = []

    async def write(items: list[int]) -> Sequence[int]:
        batches.append(items)
        await asyncio.sleep(0)
        return [item * 2 for item in items]

    batcher = Batcher(write, maximum_batch=10)
    results = await asyncio.gather(*(batcher.submit(n) for n in range(25)))
    assert results == [n * 2 for n in range(25)]
    assert [len(batch) for batch in batches] == [10, 10, 5]


async def test_bad_item_fails_alone() -> None:
    async def write(items: list[str]) -> Sequence[int]:
        return [int(item) for item in items]

    batcher = Batcher(write)
    results = await asyncio.gather(
        *(batcher.submit(each) for each in ("1", "x", "3")), return_exceptions=True
    )
    assert results[0] == 1
    assert isinstance(results[1], ValueError)
    assert results[2] == 3


async def test_outage_fails_all_at_once() -> None:
    calls = 0

    async def write(items: list[int]) -> Sequence[int]:
        nonlocal calls
        calls += 1
        raise OSError("no connection")

    batcher = Batcher(write)
    results = await asyncio.gather(*(batcher.submit(n) for n in range(5)), return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
    assert calls == 1


async def test_full_queue_refuses() -> None:
    gate = asyncio.Event()

    async def write(items: list[int]) -> Sequence[int]:
        await gate.wait()
        return items

    batcher = Batcher(write, maximum_batch=1, maximum_queued=2)
    tasks = [asyncio.create_task(batcher.submit(n)) for n in range(2)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(batcher.submit(2)))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await batcher.submit(3)
    gate.set()
    assert await asyncio.gather(*tasks) == [0, 1, 2]


async def test_caller_that_gave_up_harms_nobody() -> None:
    gate = asyncio.Event()

    async def write(items: list[int]) -> Sequence[int]:
        await gate.wait()
        return items

    batcher = Batcher(write)
    impatient = asyncio.create_task(batcher.submit(1))
    patient = asyncio.create_task(batcher.submit(2))
    await asyncio.sleep(0)
    impatient.cancel()
    gate.set()
    assert await patient == 2


async def test_items_that_come_often_wait_for_each_other_and_a_lone_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    batches: list[list[int]] = []

    async def write(items: list[int]) -> Sequence[int]:
        batches.append(items)
        return items

    async def submitted(*items: int) -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(batcher.submit(each)) for each in items]
        for _ in range(5):
            await asyncio.sleep(0)
        return tasks

    batcher = Batcher(write, pace=0.2)
    # While the clock stands still, nobody gets to the end of a wait.
    await batcher.submit(0)
    await batcher.submit(1)
    waiting = await submitted(*range(2, 12))
    waiting += await submitted(*range(12, 22))
    assert batches == [[0], [1]]
    clock.now += 0.25
    await asyncio.gather(*waiting)
    assert batches == [[0], [1], list(range(2, 22))]
