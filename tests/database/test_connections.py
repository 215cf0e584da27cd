"""What the tests themselves stand on: a connection that nobody gives back is found, with who took it."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.settings import Settings
from app.database.engine import close_engine, open_engine
from tests.connections import Connections


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(settings)
    yield engine
    await close_engine(engine)


async def take(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


async def give_back_too_late(engine: AsyncEngine) -> psycopg.AsyncConnection[Any]:
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        await engine.dispose()
    assert driver is not None
    return driver


async def open_alone(url: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(url)


async def test_taken_and_not_given_back(engine: AsyncEngine, connections: Connections) -> None:
    taken = await asyncio.create_task(take(engine))
    [found] = connections.lost()
    await taken.close()
    assert re.match(
        r"taken from a pool and not given back:\n  tests/database/test_connections.py:\d+ in take$", found
    )
    assert not connections.lost()


async def test_taken_by_a_task_that_goes_on(engine: AsyncEngine, connections: Connections) -> None:
    async with engine.connect():
        assert not connections.lost()


async def test_given_back_to_a_pool_that_is_gone(engine: AsyncEngine, connections: Connections) -> None:
    driver = await asyncio.create_task(give_back_too_late(engine))
    [found] = connections.lost()
    await driver.close()
    assert "opened and not closed:" in found
    assert "in give_back_too_late" in found


async def test_opened_and_not_closed(settings: Settings, connections: Connections) -> None:
    assert settings.database_url is not None
    driver = await asyncio.create_task(open_alone(settings.database_url.replace("+psycopg", "")))
    [found] = connections.lost()
    await driver.close()
    assert "opened and not closed:" in found
    assert "in open_alone" in found


async def test_kept_in_a_pool(engine: AsyncEngine, connections: Connections) -> None:
    await (await asyncio.create_task(take(engine))).close()
    assert not connections.lost()
    assert "in take" in connections.still_open()[0]
