"""One of Doorbell's own processes (the API, a worker) as a child: its output, its readiness, its end."""

import http.client
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO

from app.stack.processes import Ladder, Record, open_log, spawn, stop, stop_leftover


@dataclass
class Service:
    """A child whose lines go to `on_line` and to the log file. It answers /readyz on the given address."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    record: Path
    address: tuple[str, int]
    on_line: Callable[[str, str], None]
    log_start: int = 0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _carrier: Thread | None = field(default=None, repr=False)

    def start(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Start the process, and a thread that carries its output away."""
        log = open_log(self.log)
        self.log_start = log.tell()
        # SIGKILL: without us there is no Postgres either, and whatever was in flight is durable there.
        self._process = spawn(
            self.arguments,
            output=subprocess.PIPE,
            environment=self.environment,
            death_signal=signal.SIGKILL,
        )
        Record.of(self._process.pid).write(self.record)
        assert self._process.stdout is not None
        self._carrier = Thread(target=self._carry, args=(self._process.stdout, log), daemon=True)
        self._carrier.start()

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._process.pid if self._process else None

    def poll(self) -> int | None:
        """The exit code when it ended, else None."""
        return self._process.poll() if self._process else None

    def is_ready(self) -> bool:
        """Whether it says that it is ready."""
        connection = http.client.HTTPConnection(*self.address, timeout=2.5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self, patience: float = 10.0) -> None:
        """Stop it; kill it if that takes longer than `patience` seconds. Returns when its last line is
        written."""
        if self._process:
            stop(self._process, _ladder(patience))
            self.record.unlink(missing_ok=True)
        if self._carrier:
            self._carrier.join(timeout=1)

    def kill(self) -> None:
        """End it at once, with no wait."""
        if self._process:
            self._process.kill()

    def _carry(self, output: IO[bytes], log: IO[bytes]) -> None:
        with output, log:
            for line in output:
                log.write(line)
                log.flush()
                self.on_line(self.name, line.decode(errors="replace").rstrip())


def stop_leftovers(records: Path) -> None:
    """Stop the services that a killed run left behind, where the kernel did not see to it."""
    for path in records.glob("*.json"):
        stop_leftover(path, path.stem, _ladder(patience=3.0))


def _ladder(patience: float) -> Ladder:
    return (signal.SIGTERM, patience), (signal.SIGKILL, 2)
