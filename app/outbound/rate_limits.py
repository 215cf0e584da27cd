"""How often a second actions call a destination's endpoint, all worker processes of its account together.

Knock takes so many calls a second at each endpoint. A call takes a slot first: slots are given out one after
the other from a clock in Postgres (`doorbell_take_slots` in the migrations), to all that ask in this process
in one statement. Each process keeps a few slots at hand and replaces them behind the calls' backs, so that
far below the limit a call waits for nothing. A call whose slot is further away than the horizon is sent away
with the time of its turn. When the destination says 429 all the same, the clock is put forward. Used by
`app/activities/run_action.py`; `docs/knock.md` tells operators.
"""

import asyncio
import logging
from collections import deque
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.errors import Retryable
from app.database.engine import with_isolation

logger = logging.getLogger(__name__)

# Seconds ahead that slots are given out: callers wait for them in memory, within a local activity's time.
HORIZON = 1.0
# Whoever is sent away comes back half a horizon before its turn, so that the way back costs no slot.
EARLY = HORIZON / 2
SOONEST = 0.05
# Slots kept at hand, as a share of a second's. They may be used at once, on top of the clock's even pace:
# five processes with theirs stay within Knock's limit at the default factor. At slow endpoints there is room
# for none.
KEPT = 0.02

# A process that was held up keeps this much of the distance between its slots while it catches up, instead of
# sending at once what it missed. With the default factor that is Knock's own rate.
CATCHING_UP = 0.9

_TAKE = text("SELECT * FROM doorbell_take_slots(:key, :due, :fresh, :spare, :spacing, :horizon)")

_PAUSE = text("""
UPDATE rate_limits SET next_slot = greatest(next_slot, clock_timestamp() + :seconds * interval '1 second')
WHERE key = :key
""")


class Limit(NamedTuple):
    """An endpoint of an account, and the calls a second that it takes."""

    account: str
    endpoint: str
    rate: float

    @property
    def key(self) -> str:
        """The row of its clock."""
        return f"{self.account}/{self.endpoint}"


class NotYet(Retryable):
    """It is not the call's turn. Nothing was sent. `retry_after` says when to come back."""

    retry_after: float

    def __init__(self, limit: Limit, retry_after: float) -> None:
        message = (
            f"waits for its turn: the destination takes {limit.rate:g} calls a second of {limit.endpoint}"
        )
        super().__init__(message, code="rate_limited", retry_after=retry_after)


class KnockRateLimits:
    """One for each worker process. `factor` times the limits is what it uses; 0 is no limit."""

    def __init__(self, engine: AsyncEngine, factor: float) -> None:
        self._engine = with_isolation(engine, "AUTOCOMMIT")
        self._factor = factor
        self._queues: dict[Limit, _Queue] = {}

    async def take(self, limit: Limit, *, came_back: bool) -> float:
        """Return when a call may go: the time of the event loop that it got. `came_back`: it was sent away
        before, or failed, and goes before new ones.

        Raises:
            NotYet: its slot is too far away.
        """
        if not self._factor:
            return asyncio.get_running_loop().time()
        queue = self._queues.get(limit)
        if queue is None:
            queue = self._queues[limit] = _Queue(self._engine, limit, self._factor)
        return await queue.depart(await queue.take(came_back))

    async def pause(self, limit: Limit, seconds: float) -> None:
        """Let no call go for some seconds: the destination asked for it."""
        if queue := self._queues.get(limit):
            queue.drop()
        async with self._engine.connect() as connection:
            await connection.execute(_PAUSE, {"key": limit.key, "seconds": seconds})

    async def close(self) -> None:
        """Stop asking for slots."""
        await asyncio.gather(*(each.close() for each in self._queues.values()))


class _Queue:
    """Who waits for slots of one limit in this process, and the slots at hand, as times of the event loop."""

    def __init__(self, engine: AsyncEngine, limit: Limit, factor: float) -> None:
        self._engine = engine
        self._limit = limit
        self._spacing = 1 / (limit.rate * factor)
        self._keep = int(limit.rate * factor * KEPT)
        self._slots: deque[float] = deque()
        self._due: deque[asyncio.Future[float]] = deque()
        self._fresh: deque[asyncio.Future[float]] = deque()
        self._asking: asyncio.Task[None] | None = None
        self._last_slot = self._last_departure = 0.0

    async def depart(self, slot: float) -> float:
        """Wait for the slot, longer when the one before went late; the time of departure."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(slot - clock())
        distance = max(0.0, slot - self._last_slot) * CATCHING_UP
        departure = max(clock(), min(self._last_departure + distance, slot + HORIZON))
        self._last_slot, self._last_departure = max(slot, self._last_slot), departure
        await asyncio.sleep(departure - clock())
        return departure

    async def take(self, came_back: bool) -> float:
        """The time of the next slot."""
        if self._slots and not self._due and not self._fresh:
            slot = self._slots.popleft()
            self._ask()
            return slot
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        (self._due if came_back else self._fresh).append(future)
        self._ask()
        return await future

    def drop(self) -> None:
        """Forget the slots at hand."""
        self._slots.clear()

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _ask(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        """Ask for as many slots as are waited for and missing, until nobody waits."""
        while True:
            due, fresh = _waiting(self._due), _waiting(self._fresh)
            spare = self._keep - len(self._slots)
            if not (due or fresh or spare > 0):
                return
            try:
                granted = await self._request(len(due), len(fresh), max(spare, 0))
            except Exception as error:  # noqa: BLE001 (handed to whoever waits)
                _refuse([*due, *fresh], error)
                if not due and not fresh:
                    logger.warning("rate_limits_unreachable", extra={"error": type(error).__name__})
                    return
                continue
            self._hand_out(due, fresh, granted)
            if not self._due and not self._fresh:
                return

    async def _request(self, due: int, fresh: int, spare: int) -> Any:
        async with self._engine.connect() as connection:
            result = await connection.execute(
                _TAKE,
                {
                    "key": self._limit.key,
                    "due": due,
                    "fresh": fresh,
                    "spare": spare,
                    "spacing": self._spacing,
                    "horizon": HORIZON,
                },
            )
            return result.one()

    def _hand_out(
        self, due: list["asyncio.Future[float]"], fresh: list["asyncio.Future[float]"], granted: Any
    ) -> None:
        slot = asyncio.get_running_loop().time() + granted.first_slot
        for future in [*due[: granted.due_granted], *fresh[: granted.fresh_granted]]:
            if not future.done():
                future.set_result(slot)
            slot += self._spacing
        self._slots.extend(slot + number * self._spacing for number in range(granted.spare_granted))
        turn = granted.first_turn
        for future in [*due[granted.due_granted :], *fresh[granted.fresh_granted :]]:
            _refuse([future], NotYet(self._limit, max(SOONEST, turn - EARLY)))
            turn += self._spacing


def _waiting(queue: "deque[asyncio.Future[float]]") -> list["asyncio.Future[float]"]:
    """Take all out of the queue who still wait."""
    waiting = [each for each in queue if not each.done()]
    queue.clear()
    return waiting


def _refuse(waiting: list["asyncio.Future[float]"], error: Exception) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(error)
