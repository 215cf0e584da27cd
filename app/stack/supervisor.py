"""Keeps the parts of `doorbell dev` running, and stops them all, in order and in time."""

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, Self

from app.core.errors import ConfigurationError
from app.stack.processes import last_lines
from app.stack.terminal import Terminal

# A part that ends this soon after its start crashed; after so many crashes in a row we give up.
QUICK_CRASH = 10.0
MOST_CRASHES = 5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0


class Interrupted(Exception):
    """Ctrl-C, or another request to stop."""


class StackPart(Protocol):
    """A process that is kept running: a service of ours, Postgres, Temporal."""

    @property
    def name(self) -> str: ...
    @property
    def log(self) -> Path: ...
    def start(self, on_tick: Callable[[], None]) -> None: ...
    def poll(self) -> int | None: ...
    def stop(self, patience: float) -> None: ...
    def kill(self) -> None: ...


@dataclass
class _Kept:
    """A part and what is remembered of it."""

    part: StackPart
    patience: float
    started: float = 0.0
    crashes: int = 0
    restart_at: float | None = None


class Supervisor:
    """Parts in the order of their start. Used as a context, in the main thread: it handles the signals
    meanwhile."""

    def __init__(self, terminal: Terminal, *, first_pause: float = FIRST_PAUSE) -> None:
        self._terminal = terminal
        self._first_pause = first_pause
        self._stages: list[list[_Kept]] = []
        self._previous: dict[signal.Signals, Any] = {}
        self._interrupted_at: float | None = None

    def __enter__(self) -> Self:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._previous[each] = signal.signal(each, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def add(self, *parts: StackPart, patience: float) -> None:
        """Answer for parts from now on. Those of one call are stopped together, after those of later calls.

        A part has `patience` seconds to stop by itself.
        """
        self._stages.append([_Kept(part, patience, started=time.monotonic()) for part in parts])

    def check(self) -> None:
        """Raise Interrupted when a stop was asked for."""
        if self._interrupted_at is not None:
            raise Interrupted

    def wait(self, until: Callable[[], bool], *, seconds: float) -> bool:
        """Wait for something while the parts start. Whether it came true in time.

        Raises:
            ConfigurationError: a part ended meanwhile; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not (done := until()) and time.monotonic() < deadline:
            self.check()
            for kept in self._all():
                if (code := kept.part.poll()) is not None:
                    raise _failure(kept.part, f"{kept.part.name} {_ending(code)}")
            time.sleep(0.02)
        return done

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Start again what ends, until Interrupted is raised.

        Raises:
            ConfigurationError: a part ended too often.
        """
        while not until():
            self.check()
            for kept in self._all():
                self._look_after(kept)
            time.sleep(0.1)

    def _look_after(self, kept: _Kept) -> None:
        now = time.monotonic()
        if kept.restart_at is not None:
            if now >= kept.restart_at:
                kept.restart_at, kept.started = None, now
                kept.part.start(self.check)
            return
        code = kept.part.poll()
        if code is None:
            return
        kept.crashes = kept.crashes + 1 if now - kept.started < QUICK_CRASH else 1
        if kept.crashes >= MOST_CRASHES:
            raise _failure(kept.part, f"{kept.part.name} {_ending(code)}, {kept.crashes} times in a row")
        pause = min(self._first_pause * 2 ** (kept.crashes - 1), LONGEST_PAUSE)
        kept.restart_at = now + pause
        self._terminal.say(f"{kept.part.name} {_ending(code)}; starting it again in {pause:g} s", "yellow")

    def _stop(self) -> None:
        with ExitStack() as last_first:
            for each, handler in self._previous.items():
                last_first.callback(signal.signal, each, handler)
            for stage in self._stages:
                last_first.callback(self._stop_stage, stage)

    def _stop_stage(self, stage: Sequence[_Kept]) -> None:
        with ThreadPoolExecutor(max_workers=len(stage)) as pool:
            list(pool.map(lambda kept: kept.part.stop(kept.patience), stage))

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
        elif now - self._interrupted_at > 0.5:  # sooner, it is the same one, passed on by a wrapper
            for kept in self._all():
                with suppress(ProcessLookupError):
                    kept.part.kill()

    def _all(self) -> list[_Kept]:
        return [kept for stage in self._stages for kept in stage]


def _ending(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _failure(part: StackPart, what: str) -> ConfigurationError:
    return ConfigurationError(f"{what}. The end of {part.log}:\n{last_lines(part.log)}")
