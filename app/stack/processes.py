"""Child processes: started so that they die with us, recognised when they did not, stopped in time."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TypeVar

import psutil  # type: ignore[import-untyped]

from app.core.errors import ConfigurationError

Found = TypeVar("Found")

# What to send, and how many seconds to wait for its effect, gentlest first.
Ladder = Sequence[tuple[signal.Signals, float]]

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

# Clocks are adjusted, and start times are computed from them. A process id that was given out again
# within this time to a program of the same name is not a case to care about.
_START_TIME_TOLERANCE = 2.0


def spawn(
    arguments: Sequence[str],
    *,
    output: int | IO[bytes],
    environment: Mapping[str, str],
    directory: Path | None = None,
    user: tuple[int, int] | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that a terminal's Ctrl-C reaches only us.

    On Linux the child gets `death_signal` when we die. The kernel ties that to the thread that calls this,
    not to the process: call it from a thread that lives as long as the child should.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal.value, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return subprocess.Popen(
        list(arguments),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd=directory,
        start_new_session=True,
        preexec_fn=die_with_parent if _libc is not None else None,  # noqa: PLW1509 -- it calls the kernel only
        user=user[0] if user else None,
        group=user[1] if user else None,
        extra_groups=[] if user else None,
    )


def stop(child: "subprocess.Popen[bytes]", ladder: Ladder) -> None:
    """Send the signals of the ladder to a child, one after the other, until it is gone."""
    for each, patience in ladder:
        child.send_signal(each)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return


def stop_stranger(process: psutil.Process, ladder: Ladder) -> None:
    """The same for a process that is not our child."""
    for each, patience in ladder:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(each)
        if wait_until(lambda: has_ended(process), seconds=patience):
            return


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is over, also where nobody collects its exit code, as in a container without an
    init."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def let_end(process: "subprocess.Popen[bytes] | None") -> None:
    """Give a child that was just killed the moment that it needs to let go of its files and ports."""
    if process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)


def wait_until(
    look: Callable[[], Found], *, seconds: float, on_tick: Callable[[], None] = lambda: None
) -> Found:
    """What `look` finds as soon as it is true, or what it last found when the time is over.

    `on_tick` is called between two looks and may raise to end the wait.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        on_tick()
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Record:
    """A file that names a running child and who started it, for whoever comes after a crash."""

    pid: int
    started: float
    parent: int
    parent_started: float

    @classmethod
    def of(cls, pid: int) -> "Record":
        """The record of a child of this process."""
        parent = os.getpid()
        return cls(pid, psutil.Process(pid).create_time(), parent, psutil.Process(parent).create_time())

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The record in a file; None when there is none, or only half of one."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    def child(self) -> "psutil.Process | None":
        """The child, if it still runs."""
        return _running(self.pid, self.started)

    def other_parent(self) -> "psutil.Process | None":
        """The process that started the child, if it still runs."""
        return _running(self.parent, self.parent_started)


def stop_leftover(path: Path, what: str, ladder: Ladder) -> None:
    """Stop the child that a killed parent left behind, going by its record.

    Raises:
        ConfigurationError: it is not left behind: its parent lives.
    """
    record = Record.read(path)
    child = record.child() if record else None
    if record and child:
        if parent := record.other_parent():
            raise ConfigurationError(
                f"{what} in {path.parent} is in use by process {parent.pid}. Stop that one first, "
                "or set DOORBELL_DATA_DIR to another directory"
            )
        stop_stranger(child, ladder)
    path.unlink(missing_ok=True)


def last_lines(path: Path, *, since: int = 0, count: int = 12) -> str:
    """The end of a log file, without what was in it before byte `since`, indented for a message."""
    try:
        with path.open("rb") as file:
            file.seek(since)
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (it said nothing)"


def open_log(path: Path, *, limit: int = 10 * 1024 * 1024) -> IO[bytes]:
    """A log file to append to. One that has grown large is put aside first, and replaces the one before."""
    if path.exists() and path.stat().st_size > limit:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def _running(pid: int, started: float) -> "psutil.Process | None":
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) < _START_TIME_TOLERANCE
    except psutil.NoSuchProcess:
        return None
    return process if is_same and not has_ended(process) else None
