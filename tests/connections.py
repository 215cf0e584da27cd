"""Connections to Postgres that nobody gives back, found after the test that took them, with the place where
it did.

A connection is lost when the task that took it from a pool has ended, and it is not back; and when it has no
pool that would close it, its task has ended, and it is open. The garbage collector would find those too, but
in the middle of another test.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import greenlet
import pytest
from psycopg import AsyncConnection as Driver
from sqlalchemy import Engine, event
from sqlalchemy.pool import ConnectionPoolEntry, Pool

ROOT = Path(__file__).parent.parent
OURS = (str(ROOT / "app"), str(ROOT / "tests"), str(ROOT / "worker.py"), str(ROOT / "bench"))
DEPTH = 5


@dataclass
class Taken:
    """A connection that somebody has. `place`: lines of ours, the innermost first."""

    place: str
    task: "asyncio.Task[Any] | None"
    pool: Pool | None = None

    @property
    def is_lost(self) -> bool:
        return self.task is None or self.task.done()


class Connections:
    """All that this process has out, and all that are open."""

    def __init__(self) -> None:
        self._out: dict[ConnectionPoolEntry, Taken] = {}
        self._collected: list[Taken] = []
        self._open: WeakKeyDictionary[Driver, Taken] = WeakKeyDictionary()
        # Open ones that no engine will close: never in a pool, or out while their engine was disposed of.
        self._alone: WeakSet[Driver] = WeakSet()

    @contextmanager
    def watched(self) -> Iterator[None]:
        listeners = [
            (Pool, "checkout", self._took),
            (Pool, "checkin", self._gave_back),
            (Pool, "connect", self._pooled),
            (Engine, "engine_disposed", self._disposed),
        ]
        for each in listeners:
            event.listen(*each)
        with pytest.MonkeyPatch.context() as patch:
            opened = Driver.__init__

            def note(connection: Any, *given: Any, **options: Any) -> None:
                opened(connection, *given, **options)
                self._open[connection] = Taken(_place(), _task())
                self._alone.add(connection)

            patch.setattr(Driver, "__init__", note)
            yield
        for each in listeners:
            event.remove(*each)

    def lost(self) -> list[str]:
        """Those that are lost since the last call, and where they were taken."""
        found = [_not_given_back(taken) for taken in self._collected]
        self._collected.clear()
        for entry, taken in list(self._out.items()):
            if taken.is_lost:
                del self._out[entry]
                self._alone.discard(entry.driver_connection)
                found.append(_not_given_back(taken))
        in_use = {entry.driver_connection for entry in self._out}
        for connection in list(self._alone - in_use):
            if connection.closed:
                self._alone.discard(connection)
            elif self._open[connection].is_lost:
                self._alone.discard(connection)
                found.append(f"opened and not closed:\n{self._open[connection].place}")
        return found

    def still_open(self) -> list[str]:
        """All that are open, those in pools too, and where they were opened."""
        return [
            f"opened and never closed:\n{taken.place}"
            for each, taken in self._open.items()
            if not each.closed
        ]

    def _took(self, connection: object, entry: ConnectionPoolEntry, proxy: Any) -> None:
        if entry in self._out:
            # The garbage collector has put its place back into the pool.
            self._collected.append(self._out[entry])
        self._out[entry] = Taken(_place(), _task(), proxy._pool)

    def _gave_back(self, connection: object, entry: ConnectionPoolEntry) -> None:
        self._out.pop(entry, None)

    def _pooled(self, connection: object, entry: ConnectionPoolEntry) -> None:
        self._alone.discard(entry.driver_connection)

    def _disposed(self, engine: Engine) -> None:
        for entry, taken in self._out.items():
            driver = entry.driver_connection
            if driver is not None and taken.pool is not engine.pool and taken.pool._dialect is engine.dialect:
                self._alone.add(driver)
                self._open[driver] = taken


def _not_given_back(taken: Taken) -> str:
    return f"taken from a pool and not given back:\n{taken.place}"


def _task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _place() -> str:
    """Who calls: lines of this repository. SQLAlchemy's greenlets hide them from the interpreter's stack."""
    lines: list[str] = []
    frame: FrameType | None = sys._getframe(2)
    fiber = greenlet.getcurrent()
    while len(lines) < DEPTH:
        while frame is not None and len(lines) < DEPTH:
            if frame.f_code.co_filename.startswith(OURS):
                name = Path(frame.f_code.co_filename).relative_to(ROOT)
                lines.append(f"  {name}:{frame.f_lineno} in {frame.f_code.co_qualname}")
            frame = frame.f_back
        fiber = fiber.parent
        if fiber is None:
            break
        frame = fiber.gr_frame
    return "\n".join(lines) or "  (outside of this repository)"


def report(connections: Sequence[str]) -> None:
    """Fail, if there are any."""
    if connections:
        pytest.fail("\n".join(("connections to Postgres were left behind:", *connections)), pytrace=False)
