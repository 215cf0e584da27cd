"""Rate limits, shared by several worker processes over the real Postgres."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from app.outbound.rate_limits import CATCHING_UP, EARLY, HORIZON, KnockRateLimits, Limit, NotYet
from app.runtime.resources import Runtime
from tests.servers import eventually

LIMIT = Limit("account", "users_identify", 100)


@pytest.fixture
async def processes(runtime: Runtime) -> AsyncIterator[list[KnockRateLimits]]:
    """Three worker processes' view of the same database."""
    made = [KnockRateLimits(runtime.engine, 1.0) for _ in range(3)]
    yield made
    for each in made:
        await each.close()


async def take(rate_limits: KnockRateLimits, limit: Limit = LIMIT, came_back: bool = False) -> float:
    """When the call may go. It goes a little later on a busy machine."""
    return await rate_limits.take(limit, came_back=came_back)


def most_within_a_second(times: list[float]) -> int:
    return max(sum(start <= each < start + 1 for each in times) for start in times)


async def persist(rate_limits: KnockRateLimits, limit: Limit = LIMIT) -> tuple[float, int]:
    """Come back whenever told to, as Temporal does; when the call may go, and how often it was sent away."""
    refusals = 0
    while True:
        try:
            return await take(rate_limits, limit, came_back=refusals > 0), refusals
        except NotYet as error:
            refusals += 1
            await asyncio.sleep(error.retry_after)


async def test_a_burst_over_several_processes_keeps_the_rate_and_finishes_in_time(
    processes: list[KnockRateLimits],
) -> None:
    went = await asyncio.gather(*(persist(processes[n % 3]) for n in range(350)))
    times = [at for at, _ in went]
    most = LIMIT.rate / CATCHING_UP + 2 * len(processes) + 3
    assert most_within_a_second(times) <= most, "the rate of who was held up, and the slots kept at hand"
    assert max(refusals for _, refusals in went) <= 20, "who is sent away is told when to come back"
    first_horizon = sum(refusals == 0 for _, refusals in went)
    assert 50 <= first_horizon <= 250, "100 a second, and some of the next one"


async def test_far_below_the_limit_nothing_is_waited_for(
    runtime: Runtime, processes: list[KnockRateLimits]
) -> None:
    """While another transaction holds the clock, a call still goes at once with the slot at hand."""
    rate_limits = processes[0]
    await take(rate_limits)
    await eventually(lambda: rate_limits._queues[LIMIT]._slots)
    async with runtime.engine.begin() as connection:
        await connection.execute(text("SELECT * FROM rate_limits FOR UPDATE"))
        await asyncio.wait_for(take(rate_limits), 60)


async def test_kept_slots_are_replaced_while_nobody_waits(processes: list[KnockRateLimits]) -> None:
    rate_limits = processes[0]
    for _ in range(3):
        await take(rate_limits)
        await eventually(lambda: len(rate_limits._queues[LIMIT]._slots) == 2)


async def test_a_process_that_was_held_up_does_not_send_at_once_what_it_missed(
    processes: list[KnockRateLimits],
) -> None:
    waiting = [asyncio.create_task(take(processes[0])) for _ in range(60)]
    await eventually(lambda: sum(each.done() for each in waiting) >= 10)
    time.sleep(0.3)  # noqa: ASYNC251 (the event loop stands still, as when the machine is busy)
    times = await asyncio.gather(*waiting)
    after = sorted(times)[-45:]
    gaps = [later - earlier for earlier, later in itertools.pairwise(after)]
    assert sum(gaps) / len(gaps) >= 0.009 * 0.9, "no burst after the gap"


async def test_a_pause_holds_for_every_process(processes: list[KnockRateLimits]) -> None:
    await take(processes[0])
    before = time.monotonic()
    await processes[0].pause(LIMIT, 60)
    with pytest.raises(NotYet, match="takes 100 calls a second of users_identify") as refused:
        await take(processes[1])
    passed = time.monotonic() - before
    assert 60 - EARLY - passed <= refused.value.retry_after < 60
    assert refused.value.code == "rate_limited"
    with pytest.raises(NotYet):
        await take(processes[0], came_back=True)
    other = Limit("account", "users_delete", 5)
    await take(processes[0], other)
    await take(processes[0], Limit("other account", "users_identify", 100))


async def test_a_pause_ends(processes: list[KnockRateLimits]) -> None:
    await take(processes[0])
    before = asyncio.get_running_loop().time()
    await processes[0].pause(LIMIT, 0.3)
    assert await take(processes[1]) >= before + 0.3


async def test_who_is_sent_away_gets_the_next_turns(
    runtime: Runtime, processes: list[KnockRateLimits]
) -> None:
    slow = Limit("account", "tenants_delete", 5)
    many = [asyncio.create_task(take(processes[0], slow)) for _ in range(10)]
    await eventually(lambda: sum(each.done() for each in many) >= 4)
    refused = [each.exception() for each in many if each.done() and each.exception()]
    assert len(refused) == 4, "six slots are within the horizon, its two ends among them"
    turns = [each.retry_after for each in refused if isinstance(each, NotYet)]
    assert turns == sorted(turns)
    before = await clock_of(runtime, slow)
    with pytest.raises(NotYet):
        await take(processes[1], slow)
    after = await clock_of(runtime, slow)
    later = (after.next_turn - before.next_turn).total_seconds()
    assert later == pytest.approx(0.2, abs=1e-3), "who is new gets the turn after theirs"
    await asyncio.gather(*many, return_exceptions=True)


async def test_who_comes_back_goes_before_who_is_new(
    runtime: Runtime, processes: list[KnockRateLimits]
) -> None:
    """Others were sent away until 100 s from now: a slot within the horizon is for one of them."""
    slow = Limit("account", "bulk", 0.9)
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO rate_limits (key, next_slot, next_turn) "
                "VALUES (:key, now(), now() + interval '100 s')"
            ),
            {"key": slow.key},
        )
    with pytest.raises(NotYet):
        await take(processes[1], slow)
    await take(processes[1], slow, came_back=True)


async def test_slow_endpoints_have_a_slot_too(runtime: Runtime, processes: list[KnockRateLimits]) -> None:
    slow = Limit("account", "bulk", 0.9)
    await take(processes[0], slow)
    first = await clock_of(runtime, slow)
    await persist(processes[1], slow)
    second = await clock_of(runtime, slow)
    assert (second.next_slot - first.next_slot).total_seconds() >= 1 / 0.9 - 1e-3
    assert HORIZON < 1 / 0.9


async def clock_of(runtime: Runtime, limit: Limit) -> Any:
    """The row of a limit's clock."""
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT * FROM rate_limits WHERE key = :key"), {"key": limit.key}
        )
        return rows.one()


async def test_no_limit(runtime: Runtime) -> None:
    unlimited = KnockRateLimits(runtime.engine, 0)
    await asyncio.gather(*(take(unlimited) for _ in range(1000)))
    async with runtime.engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM rate_limits"))).scalar_one() == 0


async def test_a_failing_database_is_told_and_got_over(
    runtime: Runtime, processes: list[KnockRateLimits]
) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE rate_limits RENAME TO elsewhere"))
    with pytest.raises(Exception, match="rate_limits"):
        await take(processes[0])
    async with runtime.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE elsewhere RENAME TO rate_limits"))
    await take(processes[0])


async def test_a_cancelled_caller_holds_up_nobody(runtime: Runtime, processes: list[KnockRateLimits]) -> None:
    await take(processes[0])
    processes[0]._queues[LIMIT].drop()
    async with runtime.engine.begin() as connection:
        await connection.execute(text("SELECT * FROM rate_limits FOR UPDATE"))
        waiting = asyncio.create_task(take(processes[0]))
        await eventually(lambda: is_locked(runtime))
        waiting.cancel()
        after = asyncio.create_task(take(processes[0]))
    await asyncio.wait_for(after, 60)
    assert waiting.cancelled() or waiting.done()


async def is_locked(runtime: Runtime) -> bool:
    """Whether somebody waits for a clock that another transaction holds."""
    async with runtime.engine.connect() as connection:
        waiting = await connection.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock' "
                "AND query LIKE '%doorbell_take_slots%'"
            )
        )
        return bool(waiting)
