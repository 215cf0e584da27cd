"""The services that all tests share: one real Postgres, one real Temporal server.

Each test that asks for `database_url` gets a database of its own, copied from one that the migrations built,
and each that asks for `environment` gets an environment of its own, so that workflow ids and task queues
never meet.
"""

import gc
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import certifi
import hypothesis
import psycopg
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlmodel.ext.asyncio.session import AsyncSession
from temporalio.client import Client

from app.api.app import create_app
from app.api.receive import RefusalBudget
from app.core.settings import Settings
from app.database.engine import upgrade
from app.events.rate_limits import SourceRateLimits
from app.models.environment import Environment
from app.runtime.resources import Runtime, open_runtime
from app.runtime.temporal import connect, prepare_namespace
from app.stack.postgres import EmbeddedPostgres
from app.stack.temporal import EmbeddedTemporal
from app.worker.main import run_workers
from tests.bench import Api, Bench
from tests.clock import Clock
from tests.connections import Connections, report
from tests.directory.runs.far import MailServer, WebServer, serve_mail
from tests.knock import KnockServer
from tests.node import Node, install
from tests.servers import serve

ADMIN_TOKEN = "dbl_st_test-admin-token"
TESTS = Path(__file__).parent
# Half a minute and more each.
LONG = [
    TESTS / name for name in ("faults/test_faults.py", "directory/test_openapi.py", "stack/test_whole.py")
]


# A busy machine may be slow in making an example, or in running it: no test is about that.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-histories",
        action="store_true",
        help="write the histories and fingerprints that replay tests read",
    )
    parser.addoption(
        "--faults-rounds", type=int, default=1, help="how often each fault of tests/faults is tried"
    )
    parser.addoption(
        "--screenshots", type=Path, help="a directory for pictures of the dashboard's pages, in all looks"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: at the end, one process would wait for the other."""
    items.sort(key=lambda item: item.path not in LONG)


def pytest_configure() -> None:
    """Modules are compiled once, whatever the surroundings say: those of the tests cost 6 s of CPU each
    time."""
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def stack_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="doorbell-tests-", dir=_memory()) as directory:
        yield Path(directory)


def _memory() -> Path | None:
    """Where files are kept in memory, if there is such a place with room for what a run writes. A database is
    500 files: an ext4 that has just removed those of the last one took the kernel 0.4 s for each test."""
    place = Path("/dev/shm")
    return place if place.is_dir() and shutil.disk_usage(place).free > 2**32 else None


@pytest.fixture(scope="session", autouse=True)
def one_authority(stack_dir: Path) -> Iterator[None]:
    """Clients, ours and those of processes under test, trust one authority: nothing here goes outside, and to
    read the 140 of the machine costs each client 40 ms."""
    end = "-----END CERTIFICATE-----\n"
    file = stack_dir / "authority.pem"
    file.write_text(certifi.contents().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(scope="session")
def postgres(stack_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(stack_dir / "postgres", durable=False)
    server.start()
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        # Nothing may depend on the zone of the server: this one has days of 23 and of 25 hours.
        connection.execute("ALTER ROLE CURRENT_USER SET timezone = 'Europe/Berlin'")
        # Plans are those of the statistics that a test makes (ANALYZE), not of those that came in time.
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
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
    with fresh_database(postgres) as url:
        yield url


@contextmanager
def fresh_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database with the schema, for as long as the block runs."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        # Three times as fast as the default strategy, on a server that syncs nothing.
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template STRATEGY file_copy")
        yield postgres.url(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, temporal_server: EmbeddedTemporal) -> Settings:
    """The settings of a process under test: workflows run in the sandbox."""
    return settings_of(database_url, temporal_server)


def settings_of(database_url: str, temporal_server: EmbeddedTemporal) -> Settings:
    """The settings of processes that share a database."""
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
    return await add_environment(runtime)


async def add_environment(runtime: Runtime) -> str:
    """A new environment's slug."""
    slug = f"test-{secrets.token_hex(4)}"
    async with AsyncSession(runtime.engine) as session:
        session.add(Environment(slug=slug, name=slug, order=9))
        await session.commit()
    await runtime.configuration.refresh()
    return slug


@pytest.fixture
def edge_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of what the edge counts by time. Name it before `api`, which starts with it."""
    clock = Clock()
    monkeypatch.setattr("app.api.app.SourceRateLimits", lambda: SourceRateLimits(clock))
    monkeypatch.setattr("app.api.receive.RefusalBudget", lambda: RefusalBudget(clock))
    return clock


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """The real application behind a real HTTP server, and a client that is logged in."""
    async with serve_api(settings) as url, Api(base_url=url, token=ADMIN_TOKEN) as client:
        yield client


@asynccontextmanager
async def serve_api(settings: Settings) -> AsyncIterator[str]:
    """The real application behind a real HTTP server, once it knows its sources; its URL."""
    app = create_app(settings)
    async with serve(app) as url:
        await app.state.runtime.configuration.wait_until_loaded()
        yield url


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
    """Leave without finalising the interpreter, with pytest's own verdict: the Temporal bridge may abort
    there after all work is done (temporalio/sdk-python issue 300) and would turn a green run red."""
    code = getattr(config, "doorbell_exit", None)
    if code is not None and "temporalio" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with serve_mail() as server:
        yield server


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    server = WebServer()
    async with serve(server.app) as url:
        server.url = url
        yield server


@pytest.fixture(scope="session", autouse=True)
def connections() -> Iterator[Connections]:
    connections = Connections()
    with connections.watched():
        yield connections
        gc.collect()
        report(connections.still_open())


@pytest.fixture(autouse=True)
def connections_given_back(connections: Connections) -> Iterator[None]:
    """A test fails that leaves a connection to Postgres behind."""
    yield
    report(connections.lost())


@pytest.fixture
def each_wait_is_an_await(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an event loop that was busy for some milliseconds: psycopg lets others run also where it has
    nothing to wait for."""
    monkeypatch.setattr(psycopg.waiting, "MAX_BUSY_TIME", 0)
