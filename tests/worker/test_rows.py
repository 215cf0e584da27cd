"""The dispatchers of runs and of bulk operations go on, whatever a round of theirs ends with."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from temporalio.client import Client

from app.runtime.resources import Runtime
from app.worker.bulk_operations import BulkDispatcher
from app.worker.runs import RunDispatcher
from tests.servers import eventually


@pytest.fixture
async def narrow(runtime: Runtime) -> AsyncIterator[AsyncEngine]:
    """An engine with one connection, for which nobody waits long."""
    assert runtime.settings.database_url is not None
    engine = create_async_engine(
        runtime.settings.database_url, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    yield engine
    await engine.dispose()


@pytest.mark.parametrize(
    ("kind", "line"),
    [(RunDispatcher, "run_dispatcher_pauses"), (BulkDispatcher, "bulk_dispatcher_waits")],
)
async def test_a_busy_pool_does_not_end_a_dispatcher(
    narrow: AsyncEngine,
    temporal: Client,
    environment: str,
    caplog: pytest.LogCaptureFixture,
    kind: type[RunDispatcher | BulkDispatcher],
    line: str,
) -> None:
    dispatcher = kind(environment, engine=narrow, client=temporal)
    with caplog.at_level(logging.WARNING):
        async with narrow.connect():
            running = asyncio.create_task(dispatcher.run())
            await eventually(lambda: running.done() or line in caplog.messages)
        assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
