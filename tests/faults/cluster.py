"""Doorbell as it runs in production: two API processes, two workers, and a Postgres and a Temporal that can
be killed. Everything is a process of its own and is looked at from outside."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
from cryptography.fernet import Fernet
from psycopg.rows import dict_row

from app.database.engine import upgrade
from app.stack import ports
from app.stack.postgres import EmbeddedPostgres
from app.stack.processes import last_lines, spawn
from app.stack.temporal import EmbeddedTemporal
from tests.servers import eventually

ROOT = Path(__file__).parents[2]
ADMIN_TOKEN = "dbl_st_faults-admin-token"
ENVIRONMENT = "development"
DATABASE = "doorbell"


class Process:
    """One API or worker process."""

    def __init__(
        self, name: str, arguments: list[str], environment: dict[str, str], port: int, log: Path
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._arguments, self._environment, self._log = arguments, environment, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = spawn(
                self._arguments,
                output=log,
                environment=self._environment,
                directory=ROOT,
                death_signal=signal.SIGKILL,
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        assert self._process is not None
        self._process.terminate()

    def has_ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    async def is_ready(self, client: httpx.AsyncClient) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended:\n{last_lines(self._log)}"
        try:
            return (await client.get(f"{self.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


class Cluster:
    """The whole of it, in one directory."""

    def __init__(self, directory: Path, *, with_late_clock: bool = False) -> None:
        self._second_api = ["tests.faults.late_clock"] if with_late_clock else ["app.cli", "api"]
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.temporal = EmbeddedTemporal(directory / "temporal", port=0, headless=True)
        self._directory = directory
        # The servers are tied to the thread that starts them: it lives as long as the cluster.
        self._keeper = ThreadPoolExecutor(max_workers=1)
        self.client = httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_connections=200))
        self.apis: list[Process] = []
        self.workers: list[Process] = []

    async def keep(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do something with processes or with Postgres, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._keeper, work, *arguments)

    async def start(self) -> None:
        await self.keep(self._start_servers)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")},
            "PYTHONUNBUFFERED": "1",
            "DOORBELL_DATABASE_URL": self.postgres.url(DATABASE),
            "DOORBELL_TEMPORAL_ADDRESS": self.temporal.address,
            "DOORBELL_SECRET_KEY": Fernet.generate_key().decode(),
            "DOORBELL_ADMIN_TOKEN": ADMIN_TOKEN,
            "DOORBELL_HOST": "127.0.0.1",
            "DOORBELL_CLAIM_LEASE": "PT4S",
            "DOORBELL_RUN_LEASE": "PT8S",
            "DOORBELL_SWEEP_INTERVAL": "PT1S",
        }
        free = ports.find_free("127.0.0.1", 4)
        for number, port in enumerate(free):
            is_api, name = number < 2, f"{'api' if number < 2 else 'worker'}-{number % 2}"
            arguments = (
                [sys.executable, "-m", *(self._second_api if number else ["app.cli", "api"])]
                if is_api
                else [sys.executable, "worker.py", "--environment", ENVIRONMENT]
            )
            variable = "DOORBELL_PORT" if is_api else "DOORBELL_WORKER_HEALTH_PORT"
            process = Process(
                name, arguments, {**environment, variable: str(port)}, port, self._directory / f"{name}.log"
            )
            (self.apis if is_api else self.workers).append(process)
            await self.keep(process.start)
        await self.ready()

    def _start_servers(self) -> None:
        self.temporal.launch()
        self.postgres.start()
        self.postgres.create_database(DATABASE)
        upgrade(self.postgres.url(DATABASE))
        self.temporal.wait_until_ready()

    async def ready(self) -> None:
        """Wait until every process says that it is ready."""
        for process in (*self.apis, *self.workers):
            await eventually(lambda process=process: process.is_ready(self.client))

    async def configure(self, destination: str, **more: Any) -> str:
        """A source with idempotency keys and one trigger; the path that receives its events."""
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        base = f"{self.apis[0].url}/v1"
        answer = await self.client.put(
            f"{base}/environments/{ENVIRONMENT}/destination",
            headers=headers,
            json={"destination": {"url": destination, "api_key": "sk_test_faults", "verify": False}},
        )
        answer.raise_for_status()
        settings = {
            "enforce_verification": False,
            "event_type_path": "body.type",
            "idempotency_key_path": "body.id",
            **more,
        }
        mapping = {
            "event_type": "order.paid",
            "action_type": "workflows_trigger",
            "action_parameters": {
                "key": "paid",
                "recipients": "body.user",
                "data": {"marker": "body.marker"},
            },
        }
        answer = await self.client.put(
            f"{base}/sources/shop",
            params={"environment": ENVIRONMENT},
            headers=headers,
            json={
                "source": {
                    "name": "Shop",
                    "environment_settings": {ENVIRONMENT: {"settings": settings, "mappings": [mapping]}},
                }
            },
        )
        answer.raise_for_status()
        endpoint: str = answer.json()["source"]["environment_settings"][ENVIRONMENT]["settings"]["endpoint"]
        path = httpx.URL(endpoint).path
        for api in self.apis:
            await eventually(lambda api=api: self._knows(api, path))
        return path

    async def _knows(self, api: Process, path: str) -> bool:
        return (await self.client.post(f"{api.url}{path}", content=b"")).status_code == 400

    def query(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Rows, read beside Doorbell."""
        with psycopg.connect(
            self.postgres.url(DATABASE), autocommit=True, row_factory=dict_row, connect_timeout=5
        ) as connection:
            cursor = connection.execute(query.encode(), arguments)
            return cursor.fetchall() if cursor.description else []

    async def stop(self) -> None:
        await self.client.aclose()
        for process in (*self.apis, *self.workers):
            await self.keep(process.kill)
        await self.keep(self.temporal.stop)
        await self.keep(self.postgres.stop)
        self._keeper.shutdown()
