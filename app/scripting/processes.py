"""Processes of their own for work that a sender can size, which our own process ends when it does not end.

A request and its answer are bytes; what they mean is up to the program and to who calls it
(`app/scripting/pool.py` for scripts, `app/scripting/templates.py` for templates). Processes start with the
first call, know nothing of our settings and hold no secret between calls.
"""

import asyncio
import os
import struct
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from app.scripting.turns import MAXIMUM_WAITING, Busy, FairTurns, Owner

START_DEADLINE = 30.0
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")

Prepare = Callable[[Process], Awaitable[None]]


class ProcessEnded(Exception):
    """The process ended, or was ended, before it answered. `code` is its exit code, `seconds` how long the
    call took."""

    def __init__(self, code: int | None, seconds: float) -> None:
        super().__init__(f"ended with code {code} after {seconds:.1f} s")
        self.code = code
        self.seconds = seconds


class CallTimedOut(ProcessEnded):
    """The process did not answer in time, and was ended."""


class ProcessPool:
    """Processes that run one program: as many calls at once as `count`, and a bounded number that wait."""

    def __init__(
        self,
        program: Sequence[str],
        count: int,
        *,
        prepare: Prepare,
        deadline: float,
        maximum_waiting: int = MAXIMUM_WAITING,
    ) -> None:
        self._program = program
        self._prepare = prepare
        self._deadline = deadline
        self._turns = FairTurns(count, maximum_waiting=maximum_waiting)
        self._idle: list[Process] = []
        self._closed = False

    async def call(self, owner: Owner, request: bytes) -> tuple[bytes, float]:
        """The answer of a process that does nothing else meanwhile, and how many seconds it took.

        Raises:
            Busy: too many calls of this owner wait already, or no process starts.
            ProcessEnded: there is no answer.
        """
        async with self._turns.turn(owner):
            return await self._answer(request)

    async def close(self) -> None:
        """End all processes."""
        self._closed = True
        for process in self._idle:
            await _end(process)
        self._idle.clear()

    async def _answer(self, request: bytes) -> tuple[bytes, float]:
        """The answer of an idle process, or of a new one. One that ended while idle is replaced."""
        while self._idle and self._idle[-1].returncode is not None:
            self._idle.pop()
        process = self._idle.pop() if self._idle else await self._start()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._deadline):
                answer = await exchange(process, request)
        except (EOFError, ConnectionError) as error:
            await _end(process)
            raise ProcessEnded(process.returncode, time.perf_counter() - began) from error
        except TimeoutError as error:
            await _end(process)
            raise CallTimedOut(process.returncode, time.perf_counter() - began) from error
        except BaseException:
            # Nobody waits for the answer any more, and the next call must not get it.
            await _end(process)
            raise
        if self._closed:
            await _end(process)
        else:
            self._idle.append(process)
        return answer, time.perf_counter() - began

    async def _start(self) -> Process:
        """A process that is ready: isolated from our environment, our modules and our terminal.

        Raises:
            Busy: it does not start.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                *self._program,
                stdin=PIPE,
                stdout=PIPE,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,
            )
        except OSError as error:
            raise Busy(f"a process of {self._program[-1]} does not start: {error}") from error
        try:
            async with asyncio.timeout(START_DEADLINE):
                await self._prepare(process)
        except (EOFError, ConnectionError, TimeoutError) as error:
            await _end(process)
            raise Busy(f"a process of {self._program[-1]} does not start") from error
        except BaseException:
            await _end(process)
            raise
        return process


async def exchange(process: Process, request: bytes) -> bytes:
    """Send a message to a process, and read the one that it sends."""
    assert process.stdin is not None
    process.stdin.write(struct.pack(">I", len(request)) + request)
    await process.stdin.drain()
    return await receive(process)


async def receive(process: Process) -> bytes:
    """The next message of a process: four bytes of length, then as many bytes."""
    assert process.stdout is not None
    (length,) = struct.unpack(">I", await process.stdout.readexactly(4))
    return await process.stdout.readexactly(length)


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
