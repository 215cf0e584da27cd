"""The services that all tests share: one real Postgres, one real Temporal server.

Each test that asks for `database_url` gets a database of its own, copied from one that the migrations built,
and each that asks for `environment` gets an environment of its own, so that workflow ids and task queues never
meet.
"""

import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlmodel.ext.asyncio.session import AsyncSession
from temporalio.client import Client

from app.api.app import create_app
from app.database import upgrade
from app.models.environment import Environment
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.stack.postgres import EmbeddedPostgres
from app.stack.temporal import EmbeddedTemporal
from app.temporal import connect, prepare_namespace
from tests.knock import KnockServer
from tests.node import Node, install
from tests.servers import serve
from tests.sources import Api, Bench
from worker import run_workers

ADMIN_TOKEN = "dbl_st_test-admin-token"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-histories",
        action="store_true",
        help="write the histories and fingerprints that replay tests read",
    )
    parser.addoption(
        "--faults-rounds", type=int, default=1, help="how often each fault of tests/faults is tried"
    )


@pytest.fixture(scope="session")
def stack_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="doorbell-tests-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def postgres(stack_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(stack_dir / "postgres", durable=False)
    server.start()
    server.create_database("template")
    upgrade(server.url("template"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def temporal_server(stack_dir: Path) -> Iterator[EmbeddedTemporal]:
    server = EmbeddedTemporal(stack_dir / "temporal", port=0, headless=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def node() -> Node:
    """Node.js, with the packages of tests/js."""
    return install()


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database with the schema, dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template")
        yield postgres.url(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, temporal_server: EmbeddedTemporal) -> Settings:
    """The settings of a process under test: workflows run in the sandbox."""
    return Settings(
        _env_file=None,
        database_url=database_url,
        database_pool_size=10,
        temporal_address=temporal_server.address,
        secret_key=SecretStr(Fernet.generate_key().decode()),
        admin_token=SecretStr(ADMIN_TOKEN),
        workflow_sandbox=True,
    )


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    async with open_runtime(settings) as runtime:
        await runtime.configuration.wait_until_loaded()
        yield runtime


@pytest.fixture
async def temporal(runtime: Runtime) -> Client:
    client = await connect(runtime.settings)
    await prepare_namespace(client, runtime.configuration)
    return client


@pytest.fixture
async def environment(runtime: Runtime) -> str:
    """The slug of an environment that no other test uses."""
    slug = f"test-{secrets.token_hex(4)}"
    async with AsyncSession(runtime.engine) as session:
        session.add(Environment(slug=slug, name=slug, order=9))
        await session.commit()
    await runtime.configuration.refresh()
    return slug


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """The real application behind a real HTTP server, and a client that is logged in."""
    async with serve(create_app(settings)) as url, Api(base_url=url, token=ADMIN_TOKEN) as client:
        yield client


@pytest.fixture
async def knock() -> AsyncIterator[KnockServer]:
    """A stand-in for Knock on loopback that answers as it is told."""
    server = KnockServer()
    async with serve(server.app) as url:
        server.url = url
        yield server


@pytest.fixture
async def bench(runtime: Runtime, environment: str, api: Api) -> Bench:
    """Makes sources in the test's environment, sends to them, and looks into the logs."""
    return Bench(runtime, environment, api)


@pytest.fixture
async def worker(runtime: Runtime, temporal: Client, environment: str) -> AsyncIterator[None]:
    """A worker that serves the test's environment."""
    async with run_workers(runtime, temporal, [environment]):
        yield


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.doorbell_exit = int(exitstatus)  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without finalising the interpreter, with pytest's own verdict: the Temporal bridge may abort there
    after all work is done (temporalio/sdk-python issue 300) and would turn a green run red."""
    code = getattr(config, "doorbell_exit", None)
    if code is not None and "temporalio" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
