"""The processes that are measured: as in production, on an embedded Postgres and Temporal of their own."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg
from cryptography.fernet import Fernet

from app.database import upgrade
from app.stack import ports
from app.stack.postgres import EmbeddedPostgres
from app.stack.service import Service
from app.stack.temporal import EmbeddedTemporal
from bench.load import SECRET

ROOT = Path(__file__).parents[1]
ENVIRONMENT = "production"
TOKEN = "dbl_st_bench-only"
DEADLINE = 120.0
MAPPINGS = [
    {
        "event_type": "invoice.paid",
        "action_type": "users_identify",
        "action_parameters": {
            "id": "body.data.object.customer",
            "email": "body.data.object.customer_email",
            "name": "body.data.object.customer_name",
        },
    },
    {
        "event_type": "invoice.paid",
        "action_type": "workflows_trigger",
        "action_parameters": {"key": "paid", "recipients": "body.data.object.customer", "data": "body"},
    },
]


@dataclass
class Stack:
    """What runs, and what it has cost so far."""

    directory: Path
    postgres: EmbeddedPostgres = field(init=False)
    temporal: EmbeddedTemporal = field(init=False)
    services: dict[str, Service] = field(default_factory=dict)
    _closing: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.postgres = EmbeddedPostgres(self.directory / "postgres")
        self.temporal = EmbeddedTemporal(self.directory / "temporal", port=0, ui_port=0, headless=True)
        self.postgres.start()
        self._closing.callback(self.postgres.stop)
        self.temporal.start()
        self._closing.callback(self.temporal.stop)
        self.postgres.create_database("bench")
        upgrade(self.database_url)
        self._port = ports.find_free("127.0.0.1", 1)[0]
        self._keys = {"DOORBELL_SECRET_KEY": Fernet.generate_key().decode(), "DOORBELL_ADMIN_TOKEN": TOKEN}
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def database_url(self) -> str:
        return self.postgres.url("bench")

    @property
    def url(self) -> str:
        """Where the API listens."""
        return f"http://127.0.0.1:{self._port}"

    def start_api(self) -> Service:
        return self.start("api", [sys.executable, "-m", "app.cli", "api"], self._port)

    def start_worker(self, name: str = "worker") -> Service:
        port = ports.find_free("127.0.0.1", 1)[0]
        return self.start(
            name,
            [sys.executable, "worker.py", "--environment", ENVIRONMENT],
            port,
            DOORBELL_WORKER_HEALTH_PORT=str(port),
        )

    def start(self, name: str, arguments: list[str], port: int, **environment: str) -> Service:
        """Start a process and wait until it is ready."""
        service = Service(
            name=name,
            arguments=arguments,
            environment={
                **os.environ,
                "DOORBELL_DATABASE_URL": self.database_url,
                "DOORBELL_TEMPORAL_ADDRESS": self.temporal.address,
                "DOORBELL_HOST": "127.0.0.1",
                "DOORBELL_PORT": str(self._port),
                **self._keys,
                **environment,
            },
            log=self.directory / f"{name}.log",
            record=self.directory / f"{name}.json",
            address=("127.0.0.1", port),
            on_line=lambda _name, _line: None,
        )
        service.start()
        self.services[name] = service
        self._closing.callback(service.stop)
        wait(service.is_ready, f"{name} is ready (see {service.log})")
        return service

    def connect_source(self) -> str:
        """A Stripe source with two actions for `invoice.paid`; its ingestion URL."""
        with httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {TOKEN}"},
            params={"environment": ENVIRONMENT},
        ) as client:
            body = {
                "name": "Stripe",
                "preconfigured_provider": "stripe",
                "environment_settings": {ENVIRONMENT: {"mappings": MAPPINGS}},
            }
            answer = client.put("/v1/sources/stripe", json={"source": body}).raise_for_status().json()
            secret = {"secret": {"value": SECRET}}
            client.post("/v1/sources/stripe/secrets", json=secret).raise_for_status()
        endpoint: str = answer["source"]["environment_settings"][ENVIRONMENT]["settings"]["endpoint"]
        return endpoint

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def clear_logs(self) -> None:
        """Forget all events."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("TRUNCATE events, event_payloads, actions")

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call it before the servers stop."""
        self._closing.callback(callback)

    def cpu_seconds(self) -> dict[str, float]:
        """The CPU time of each process so far, Postgres's children with it."""
        pids = {name: service.pid for name, service in self.services.items()}
        pids |= {"temporal": self.temporal.pid, "postgres": self.postgres.pid}
        return {name: _cpu_seconds(psutil.Process(pid)) for name, pid in pids.items() if pid}

    def memory_mb(self) -> dict[str, float]:
        """Resident memory of our processes."""
        return {
            name: psutil.Process(service.pid).memory_info().rss / 2**20
            for name, service in self.services.items()
        }


def _cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


@contextmanager
def cpu_ms_each(stack: Stack, count: Callable[[], int]) -> Iterator[dict[str, float]]:
    """Filled at the end of the block: milliseconds of CPU for each of what `count` counts, by process."""
    before, first = stack.cpu_seconds(), count()
    spent: dict[str, float] = {}
    yield spent
    done = max(1, count() - first)
    spent.update(
        {
            name: (seconds - before.get(name, 0.0)) * 1000 / done
            for name, seconds in stack.cpu_seconds().items()
        }
    )


def wait(until: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait until it is so.

    Raises:
        TimeoutError: it was not in time.
    """
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in {seconds:g} s: {what}")
        time.sleep(0.05)
