"""Whose turn it is in a bounded number of places: fair between environments, and between the sources of each.

The owner that has used the least time is next, so a slow one cannot keep the others waiting. An owner whose
calls are slow has half of the places at most. It may have as many calls waiting as can be served within
`LONGEST_WAIT`.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.core.errors import Retryable

# An environment's slug, and the key of a source or workflow in it.
Owner = tuple[str, str]

MAXIMUM_WAITING = 200
LONGEST_WAIT = 10.0
# Calls that take longer on average are slow.
QUICK = 0.1
# What the newest call weighs in the average.
_WEIGHT = 0.3
# Owners that are remembered although they have nothing to do: their used time still counts.
_REMEMBERED = 1000


class Busy(Retryable):
    """No place now: the owner has too many calls waiting, or the machine has no room for a process."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="scripts_busy")


@dataclass
class _Line:
    """The calls of one owner. `used` is in seconds; `average` is a call's duration."""

    owner: Owner
    used: float
    average: float = 0.0
    running: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.waiting


@dataclass
class _Environment:
    """The calls of all owners of an environment together."""

    used: float
    calls: int = 0


class FairTurns:
    """Gives out places to owners."""

    def __init__(self, places: int, *, maximum_waiting: int = MAXIMUM_WAITING) -> None:
        self._places = places
        self._free = places
        self._maximum_waiting = maximum_waiting
        self._lines: dict[Owner, _Line] = {}
        self._environments: dict[str, _Environment] = {}
        # The used time of the environment and the owner served last: who was idle starts from there.
        self._reached = (0.0, 0.0)

    @asynccontextmanager
    async def turn(self, owner: Owner) -> AsyncIterator[None]:
        """Wait for a place and hold it while the block runs.

        Raises:
            Busy: too many calls of this owner wait already.
        """
        environment, line = self._places_of(owner)
        environment.calls += 1
        try:
            await self._enter(line)
            began = time.monotonic()
            try:
                yield
            finally:
                self._leave(line, time.monotonic() - began)
        finally:
            environment.calls -= 1

    async def _enter(self, line: _Line) -> None:
        if self._free and self._may_run(line):
            self._start(line)
            return
        if len(line.waiting) >= self._maximum_waiting or self._wait(line) > LONGEST_WAIT:
            raise Busy(f"too many calls of {'/'.join(line.owner)} are waiting")
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._leave(line, 0.0)
            else:
                line.waiting.remove(granted)
            raise

    def _wait(self, line: _Line) -> float:
        """Seconds until the owner's own calls that wait are done."""
        return len(line.waiting) * line.average / self._share(line)

    def _leave(self, line: _Line, seconds: float) -> None:
        self._free += 1
        line.running -= 1
        line.used += seconds
        line.average += _WEIGHT * (seconds - line.average)
        self._environments[line.owner[0]].used += seconds
        self._grant()

    def _grant(self) -> None:
        while self._free:
            ready = [each for each in self._lines.values() if each.waiting and self._may_run(each)]
            if not ready:
                return
            following = min(ready, key=self._used)
            self._reached = self._used(following)
            self._start(following)
            following.waiting.popleft().set_result(None)

    def _start(self, line: _Line) -> None:
        self._free -= 1
        line.running += 1

    def _used(self, line: _Line) -> tuple[float, float]:
        return self._environments[line.owner[0]].used, line.used

    def _may_run(self, line: _Line) -> bool:
        return line.running < self._share(line)

    def _share(self, line: _Line) -> int:
        return self._places if line.average < QUICK else max(1, self._places // 2)

    def _places_of(self, owner: Owner) -> tuple[_Environment, _Line]:
        """The environment and the owner. One that was idle has no time to make up for: it starts where the
        others are."""
        if len(self._lines) >= _REMEMBERED:
            self._forget_idle()
        environment = self._environments.setdefault(owner[0], _Environment(0.0))
        line = self._lines.setdefault(owner, _Line(owner, 0.0))
        if not environment.calls:
            environment.used = max(environment.used, self._reached[0])
        if line.is_idle:
            line.used = max(line.used, self._reached[1])
        return environment, line

    def _forget_idle(self) -> None:
        self._lines = {owner: each for owner, each in self._lines.items() if not each.is_idle}
        self._environments = {slug: each for slug, each in self._environments.items() if each.calls}
