"""`doorbell dev`: everything on this machine, in one terminal.

Postgres and Temporal from `postgres.py` and `temporal.py`, the API and a worker for each environment as child
processes, all looked after by `supervisor.py`. On an empty database `sample.py` connects a source and rings.
"""

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from pydantic import SecretStr
from rich.table import Table

from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.stack import ports
from app.stack.directories import make_directory
from app.stack.installation import find_installation
from app.stack.keys import Keys, admin_token_path
from app.stack.lock import lock
from app.stack.postgres import DATABASE, EmbeddedPostgres
from app.stack.processes import last_lines
from app.stack.service import Service, stop_leftovers
from app.stack.supervisor import Interrupted, Supervisor
from app.stack.temporal import EmbeddedTemporal
from app.stack.terminal import Terminal

REPOSITORY = Path(__file__).parents[2]
READY_DEADLINE = 60.0

# Together less than the 5 s in which Ctrl-C has stopped everything.
SERVICES_PATIENCE = 3.0
SERVERS_PATIENCE = 1.5

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def run(settings: Settings) -> int:
    """Start everything, look after it until Ctrl-C, stop everything; the exit code."""
    terminal = Terminal()
    try:
        _require_own_servers(settings)
        data_dir = settings.data_dir.resolve()
        # Postgres needs to pass through when it runs as another user; nobody can look inside.
        make_directory(data_dir, 0o711 if os.geteuid() == 0 else 0o700)
        with lock(data_dir), Supervisor(terminal) as supervisor:
            Dev(settings, data_dir, terminal, supervisor).run()
    except Interrupted:
        terminal.say("stopped")
        return 0
    except ConfigurationError as error:
        terminal.say(f"doorbell: {error}", "red")
        return 1
    return 0


class Dev:
    """One run of `doorbell dev`."""

    def __init__(
        self, settings: Settings, data_dir: Path, terminal: Terminal, supervisor: Supervisor
    ) -> None:
        self._began = time.monotonic()
        self._settings = settings
        self._data_dir = data_dir
        self._logs, self._records = data_dir / "logs", data_dir / "processes"
        self._terminal = terminal
        self._supervisor = supervisor
        self._keys = Keys.keep(data_dir, settings)
        self._host = _ANY_ADDRESS.get(settings.host, settings.host)
        self._port = settings.port or ports.find_free(settings.host, 1)[0]
        self._metrics: dict[str, str] = {}
        self._base_url = (settings.public_url or f"http://{self._host}:{self._port}").rstrip("/")
        self._postgres = EmbeddedPostgres(data_dir / "postgres")
        self._temporal = EmbeddedTemporal(
            data_dir / "temporal",
            port=_port(settings.temporal_address, 7233),
            ui_port=_port(settings.temporal_ui_url, 8233),
        )

    def run(self) -> None:
        """Start everything and look after it. Never returns: it raises Interrupted, or ConfigurationError."""
        stop_leftovers(self._records)
        self._start_servers()
        self._start_services()
        if self._is_empty():
            self._ring_sample()
        self._show_summary()
        self._supervisor.watch()

    def _start_servers(self) -> None:
        from app.database.engine import upgrade

        self._terminal.say("starting Postgres and Temporal ...")
        self._supervisor.add(self._postgres, self._temporal, patience=SERVERS_PATIENCE)
        remedy = "Stop that, or set DOORBELL_PORT to use another one"
        # All ports of the stack are checked at once, before anything is started.
        self._temporal.launch(ports.Wanted(self._settings.host, self._port, "the API", remedy))
        self._postgres.start(self._supervisor.check)
        self._postgres.create_database(DATABASE)
        upgrade(self._postgres.url(DATABASE))
        self._temporal.wait_until_ready(self._supervisor.check)

    def _start_services(self) -> None:
        services = [self._api(), *self._workers()]
        make_directory(self._logs)
        make_directory(self._records)
        for service in services:
            self._terminal.introduce(service.name)
        self._spread_metrics(services)
        self._supervisor.add(*services, patience=SERVICES_PATIENCE)
        for service in services:
            service.start()
        waiting = list(services)

        def all_ready() -> bool:
            waiting[:] = [each for each in waiting if not each.is_ready()]
            return not waiting

        if not self._supervisor.wait(all_ready, seconds=READY_DEADLINE):
            late = waiting[0]
            raise ConfigurationError(
                f"{late.name} was not ready within {READY_DEADLINE:g} s. The end of {late.log}:\n"
                f"{last_lines(late.log, since=late.log_start)}"
            )

    def _api(self) -> Service:
        return self._service("api", [sys.executable, "-m", "app.cli", "api"], (self._host, self._port), {})

    def _workers(self) -> list[Service]:
        environments = self._query(
            'SELECT slug FROM environments WHERE deleted_at IS NULL ORDER BY "order", slug'
        )
        health_ports = ports.find_free("127.0.0.1", len(environments))
        return [
            self._service(
                f"worker-{environment}",
                [sys.executable, str(REPOSITORY / "worker.py"), "--environment", environment],
                ("127.0.0.1", port),
                {"DOORBELL_HOST": "127.0.0.1", "DOORBELL_WORKER_HEALTH_PORT": str(port)},
            )
            for environment, port in zip(environments, health_ports, strict=True)
        ]

    def _spread_metrics(self, services: Sequence[Service]) -> None:
        """A port for each: the API has DOORBELL_METRICS_PORT, the workers those that follow."""
        if self._settings.metrics_port is None:
            return
        for number, service in enumerate(services):
            port = self._settings.metrics_port + number
            service.environment = {**service.environment, "DOORBELL_METRICS_PORT": str(port)}
            self._metrics[service.name] = f"http://{self._settings.metrics_host}:{port}/metrics"

    def _service(
        self, name: str, arguments: list[str], address: tuple[str, int], environment: dict[str, str]
    ) -> Service:
        return Service(
            name=name,
            arguments=arguments,
            environment={**self._environment(), **environment},
            log=self._logs / f"{name}.log",
            record=self._records / f"{name}.json",
            address=address,
            on_line=self._terminal.line,
        )

    def _environment(self) -> dict[str, str]:
        """Ours, and what the services need of what runs here."""
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "DOORBELL_DATABASE_URL": self._postgres.url(DATABASE),
            "DOORBELL_TEMPORAL_ADDRESS": self._temporal.address,
            "DOORBELL_TEMPORAL_NAMESPACE": "default",
            "DOORBELL_TEMPORAL_UI_URL": self._temporal.ui_url,
            "DOORBELL_SECRET_KEY": self._keys.secret_key,
            "DOORBELL_ADMIN_TOKEN": self._keys.admin_token,
            "DOORBELL_HOST": self._settings.host,
            "DOORBELL_PORT": str(self._port),
            "DOORBELL_PUBLIC_URL": self._base_url,
            "DOORBELL_GRACEFUL_SHUTDOWN": "PT2S",
            "DOORBELL_SHUTDOWN_NOTICE": "PT0S",
            "DOORBELL_LOG_FORMAT": "console",
        }

    def _is_empty(self) -> bool:
        return self._query("SELECT key FROM sources LIMIT 1") == []

    def _query(self, query: str) -> list[str]:
        with psycopg.connect(self._postgres.url(DATABASE), autocommit=True) as connection:
            return [row[0] for row in connection.execute(query.encode())]

    def _ring_sample(self) -> None:
        """Connect the sample source and ring, while we look after the parts. A failure is said, and all stays
        up."""
        from app.stack.sample import connect_and_ring, show

        self._terminal.say("empty database: connecting a sample Stripe source ...")
        local_url = f"http://{self._host}:{self._port}"
        # Not a `with` block: it would make Ctrl-C wait for the sample.
        pool = ThreadPoolExecutor(max_workers=1)
        sample = pool.submit(connect_and_ring, local_url, self._keys.admin_token)
        pool.shutdown(wait=False)
        self._supervisor.watch(sample.done)
        if error := sample.exception():
            self._terminal.say(f"the sample did not work: {type(error).__name__}: {error}", "yellow")
        else:
            show(sample.result(), self._terminal.console)

    def _show_summary(self) -> None:
        path = admin_token_path(self._data_dir)
        is_set = self._settings.admin_token is not None
        token = "$DOORBELL_ADMIN_TOKEN" if is_set else f"$(cat {shlex.quote(str(path))})"
        rows = {
            "API": self._base_url,
            "API documentation": f"{self._base_url}/docs",
            "Temporal UI": self._temporal.ui_url,
            "Admin token": "as set in DOORBELL_ADMIN_TOKEN" if is_set else str(path),
            "Data and logs": str(self._data_dir),
            **{f"Metrics, {name}": url for name, url in self._metrics.items()},
        }
        table = Table(box=None, show_header=False, padding=(0, 2))
        for name, value in rows.items():
            table.add_row(name, value)
        self._terminal.say(f"\nDoorbell is up ({time.monotonic() - self._began:.1f} s)", "bold green")
        self._terminal.say(table)
        self._terminal.say(f"\n  Dashboard: {self._login_link()}")
        self._terminal.say("  The link logs in once, within 10 minutes; `doorbell login` prints another.")
        self._terminal.say(
            f'\n  Try: curl -s -H "Authorization: Bearer {token}" '
            f"'{self._base_url}/v1/sources?environment=development'"
        )
        self._terminal.say("  Ctrl-C stops everything; the data stays.\n")

    def _login_link(self) -> str:
        """A link that opens the dashboard, logged in."""
        from app.account.sessions import issue_link

        ours = {"admin_token": SecretStr(self._keys.admin_token), "public_url": self._base_url}
        settings = find_installation(self._settings).model_copy(update=ours)
        return asyncio.run(issue_link(settings, self._keys.admin_token))


def _require_own_servers(settings: Settings) -> None:
    """Refuse settings that mean another Temporal than the one that is started here."""
    foreign = {
        "DOORBELL_TEMPORAL_API_KEY": settings.temporal_api_key is not None,
        "DOORBELL_TEMPORAL_TLS": settings.temporal_tls,
        "DOORBELL_TEMPORAL_TLS_SERVER_CA": settings.temporal_tls_server_ca is not None,
        "DOORBELL_TEMPORAL_TLS_CLIENT_CERT": settings.temporal_tls_client_cert is not None,
        "DOORBELL_TEMPORAL_TLS_CLIENT_KEY": settings.temporal_tls_client_key is not None,
        "DOORBELL_TEMPORAL_ADDRESS": not _is_local(settings.temporal_address),
        "DOORBELL_DATABASE_URL": settings.database_url is not None,
    }
    if names := [name for name, is_set in foreign.items() if is_set]:
        raise ConfigurationError(
            "`doorbell dev` runs a Postgres and a Temporal of its own, on this machine. Unset "
            f"{', '.join(names)}, "
            "or run `doorbell api` and `doorbell worker` against those servers"
        )


def _is_local(address: str | None) -> bool:
    return address is None or urlsplit(f"//{address}").hostname in {"127.0.0.1", "localhost"}


def _port(address: str | None, default: int) -> int:
    """The port of `host:port` or of a URL."""
    if address is None:
        return default
    try:
        port = urlsplit(address if "//" in address else f"//{address}").port
    except ValueError:
        port = None
    if port is None:
        raise ConfigurationError(f"{address} names no port, as in 127.0.0.1:{default}")
    return port
