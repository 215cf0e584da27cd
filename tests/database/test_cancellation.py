"""A task that is cancelled gives its connection back, wherever it is, and as good as new."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus
from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.settings import Settings
from app.database.engine import close_engine, open_engine, with_isolation
from tests.cancelling import cancel_everywhere
from tests.connections import Connections
from tests.servers import eventually

Use = Callable[[AsyncEngine], Coroutine[Any, Any, None]]
SELECT = text("SELECT 1")


async def one_statement(engine: AsyncEngine) -> None:
    async with with_isolation(engine, "AUTOCOMMIT").connect() as connection:
        await connection.execute(SELECT)


async def reading(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(SELECT)


async def transaction(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(SELECT)


async def failed_transaction(engine: AsyncEngine) -> None:
    with pytest.raises(DataError):
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1 / 0"))


async def session(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await (await session.connection()).execute(SELECT)
        await session.commit()
        await (await session.connection()).execute(SELECT)
        await session.close()


async def snapshot(engine: AsyncEngine) -> None:
    async with AsyncSession(with_isolation(engine, "REPEATABLE READ")) as session:
        await (await session.connection()).execute(SELECT)
        await session.commit()


async def session_on_connection(engine: AsyncEngine) -> None:
    async with engine.begin() as connection, AsyncSession(connection) as session:
        await (await session.connection()).execute(SELECT)


async def impatient(engine: AsyncEngine) -> None:
    async with asyncio.timeout(60), engine.connect() as connection:
        await connection.execute(SELECT)


async def second_in_line(engine: AsyncEngine) -> None:
    """The only connection is given back while the task waits for it."""
    taken = asyncio.Event()

    async def first() -> None:
        async with engine.connect() as connection:
            taken.set()
            await connection.execute(SELECT)

    before = asyncio.create_task(first())
    await taken.wait()
    await reading(engine)
    await before


async def in_turns(engine: AsyncEngine) -> None:
    await one_statement(engine)
    await snapshot(engine)
    await transaction(engine)


USES = [
    one_statement,
    reading,
    transaction,
    failed_transaction,
    session,
    snapshot,
    session_on_connection,
    impatient,
    second_in_line,
    in_turns,
]

pytestmark = pytest.mark.usefixtures("each_wait_is_an_await")


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(settings.model_copy(update={"database_pool_size": 1}), plan_once=True)
    yield engine
    await close_engine(engine)


async def isolation(engine: AsyncEngine) -> tuple[bool, IsolationLevel | None]:
    """How the connection of a pool of one works for this engine."""
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        assert driver.info.transaction_status is TransactionStatus.IDLE
        return driver.autocommit, driver.isolation_level


@pytest.mark.parametrize("use", USES)
async def test_of_the_pool(engine: AsyncEngine, connections: Connections, use: Use) -> None:
    async def is_as_new() -> None:
        assert not connections.lost()
        await eventually(lambda: engine.sync_engine.pool.checkedout() == 0)
        autocommit, level = await isolation(engine)
        assert not autocommit
        assert level in (None, IsolationLevel.READ_COMMITTED)

    await use(engine)
    await cancel_everywhere(lambda: use(engine), is_as_new)


@pytest.mark.parametrize("use", [one_statement, snapshot, transaction])
async def test_while_it_is_opened(settings: Settings, connections: Connections, use: Use) -> None:
    async def first_use() -> None:
        engine = open_engine(settings, plan_once=True)
        try:
            await use(engine)
        finally:
            await close_engine(engine)

    async def none_is_left() -> None:
        assert not connections.lost()
        assert not connections.still_open()

    await cancel_everywhere(first_use, none_is_left)


async def test_each_engine_gets_its_level(engine: AsyncEngine) -> None:
    """Whatever the one connection was last used for."""
    statements = with_isolation(engine, "AUTOCOMMIT")
    snapshots = with_isolation(engine, "REPEATABLE READ")
    engines = {
        engine: (False, "read committed"),
        statements: (True, "read committed"),
        snapshots: (False, "repeatable read"),
    }
    for before, after in product(engines, repeat=2):
        for each in (before, after):
            async with each.connect() as connection:
                shown = (await connection.execute(text("SHOW transaction_isolation"))).scalar()
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None
                assert (driver.autocommit, shown) == engines[each]


async def test_that_comes_back_after_its_engine_was_closed(
    settings: Settings, connections: Connections
) -> None:
    """A task that was told to end, but not waited for, may still write."""
    engine = open_engine(settings)
    async with engine.connect() as connection:
        await connection.execute(SELECT)
        await close_engine(engine)
        await connection.execute(SELECT)
    assert not connections.lost()
    assert not connections.still_open()


def test_levels_are_set_in_one_way() -> None:
    """SQLAlchemy's own option leaves a connection behind when a task is cancelled while it sets the level."""
    app = Path(__file__).parents[2] / "app"
    assert not [each for each in app.rglob("*.py") if "isolation_level=" in each.read_text()]
