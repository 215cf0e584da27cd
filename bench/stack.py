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

from app.database.engine import upgrade
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
    # Other processes whose CPU time is measured, by pid.
    others: dict[str, int] = field(default_factory=dict)
    # Seconds from the start of each service until it was ready.
    ready_after: dict[str, float] = field(default_factory=dict)
    _closing: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.postgres = EmbeddedPostgres(self.directory / "postgres")
        self.temporal = EmbeddedTemporal(self.directory / "temporal", port=0, ui_port=0, headless=True)
        self.postgres.start()
        self._closing.callback(self.postgres.stop)
        self.temporal.start()
        self._closing.callback(self.temporal.stop)
        self.add_database("bench")
        self._port = ports.find_free("127.0.0.1", 1)[0]
        self._keys = {"DOORBELL_SECRET_KEY": Fernet.generate_key().decode(), "DOORBELL_ADMIN_TOKEN": TOKEN}
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def database_url(self) -> str:
        return self.postgres.url("bench")

    def add_database(self, name: str) -> str:
        """A database with the schema, and nothing in it; its URL."""
        self.postgres.create_database(name)
        upgrade(self.postgres.url(name))
        return self.postgres.url(name)

    @property
    def url(self) -> str:
        """Where the API listens."""
        return f"http://127.0.0.1:{self._port}"

    def start_api(self) -> Service:
        return self.start("api", [sys.executable, "-m", "app.cli", "api"], self._port)

    def start_another_api(self, name: str, **environment: str) -> str:
        """Another API process, on the same database if `environment` names no other; the URL where it
        listens."""
        port = ports.find_free("127.0.0.1", 1)[0]
        arguments = [sys.executable, "-m", "app.cli", "api"]
        self.start(name, arguments, port, DOORBELL_PORT=str(port), **environment)
        return f"http://127.0.0.1:{port}"

    def start_worker(self, name: str = "worker", **environment: str) -> Service:
        port = ports.find_free("127.0.0.1", 1)[0]
        return self.start(
            name,
            [sys.executable, "worker.py", "--environment", ENVIRONMENT],
            port,
            DOORBELL_WORKER_HEALTH_PORT=str(port),
            **environment,
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
        began = time.perf_counter()
        service.start()
        self.services[name] = service
        self._closing.callback(service.stop)
        wait(service.is_ready, f"{name} is ready (see {service.log})")
        self.ready_after[name] = time.perf_counter() - began
        return service

    def stop(self, name: str) -> None:
        """Stop a process that was started, and measure it no more."""
        self.services.pop(name).stop()

    def connect_source(self, url: str | None = None) -> str:
        """A Stripe source with two actions for `invoice.paid`, made through the API at `url`; its ingestion
        URL."""
        with httpx.Client(
            base_url=url or self.url,
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
        pids |= {"temporal": self.temporal.pid, "postgres": self.postgres.pid, **self.others}
        return {name: _cpu_seconds(psutil.Process(pid)) for name, pid in pids.items() if pid}

    def memory_mb(self) -> dict[str, float]:
        """Resident memory of our processes."""
        return {
            name: psutil.Process(service.pid).memory_info().rss / 2**20
            for name, service in self.services.items()
        }

    def own_memory_mb(self) -> dict[str, float]:
        """What of it no other process shares: what ending the process would free."""
        return {
            name: psutil.Process(service.pid).memory_full_info().uss / 2**20
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


@dataclass
class Spent:
    """CPU time by process. The block sets `count`; after it, `each` has the milliseconds for one."""

    count: int = 1
    each: dict[str, float] = field(default_factory=dict)


@contextmanager
def cpu_ms_each(stack: Stack) -> Iterator[Spent]:
    """Milliseconds of CPU, by process, for each of the things that the block does and counts."""
    before, spent = stack.cpu_seconds(), Spent()
    yield spent
    for name, seconds in stack.cpu_seconds().items():
        spent.each[name] = (seconds - before.get(name, 0.0)) * 1000 / max(1, spent.count)


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
