"""What a process does beside its work is cancelled when it stops: no connection stays open."""

from contextlib import suppress

import psycopg
import pytest

from app.activities.maintenance import MaintenanceActivities
from app.core.settings import Settings
from app.database.listener import Listener
from app.logs.rollup import roll_up
from app.runtime.resources import Runtime, open_runtime
from tests.cancelling import Work, cancel_everywhere
from tests.connections import Connections
from tests.servers import eventually

pytestmark = pytest.mark.usefixtures("each_wait_is_an_await")


class Heard(Exception):
    """The subscriber has heard what it waited for."""


async def test_a_runtime(settings: Settings, connections: Connections) -> None:
    async def run() -> None:
        async with open_runtime(settings) as runtime:
            await runtime.configuration.wait_until_loaded()

    async def all_is_closed() -> None:
        assert not connections.lost()
        assert not connections.still_open()

    await cancel_everywhere(run, all_is_closed)


async def test_a_listener(settings: Settings, connections: Connections) -> None:
    assert settings.database_url is not None
    url = settings.database_url.replace("+psycopg", "")

    async def listen() -> None:
        calls = 0

        def hear() -> None:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise Heard
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("NOTIFY here")

        listener = Listener(settings)
        listener.subscribe("here", hear)
        with suppress(Heard):
            await listener.run()

    async def all_is_closed() -> None:
        assert not connections.lost()

    await cancel_everywhere(listen, all_is_closed)


@pytest.mark.parametrize("name", ["configuration", "statistics", "partitions", "directory"])
async def test_regular_work(runtime: Runtime, connections: Connections, name: str) -> None:
    maintenance = MaintenanceActivities(runtime.engine, runtime.settings)
    work: dict[str, Work] = {
        "configuration": runtime.configuration.refresh,
        "statistics": lambda: roll_up(runtime.engine),
        "partitions": maintenance.maintain_partitions,
        "directory": maintenance.prune_directory,
    }

    async def all_is_back() -> None:
        assert not connections.lost()
        await eventually(lambda: not runtime.engine.sync_engine.pool.checkedout())

    await cancel_everywhere(work[name], all_is_back)
