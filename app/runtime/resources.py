"""What every process holds while it runs: engine, secrets, configuration, and the tasks that keep them
fresh."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.secrets import SecretBox
from app.core.settings import Settings
from app.database.engine import open_engine
from app.database.listener import Listener
from app.logs.timeline import Timelines
from app.scripting.pool import Scripts
from app.sources.live import Configuration


@dataclass(frozen=True)
class Runtime:
    """One for each process."""

    settings: Settings
    engine: AsyncEngine
    box: SecretBox
    configuration: Configuration
    timelines: Timelines
    scripts: Scripts


@asynccontextmanager
async def open_runtime(settings: Settings, *, plan_once: bool = False) -> AsyncIterator[Runtime]:
    """Build the runtime and follow configuration changes. Postgres may be away; it is waited for.

    `plan_once`: see `open_engine`.
    """
    engine = open_engine(settings, plan_once=plan_once)
    box = SecretBox(settings.secret_key)
    configuration = Configuration(engine, box, settings.config_max_age)
    listener = Listener(settings)
    scripts = Scripts(settings.script_processes)
    try:
        async with background(
            configuration.keep_fresh(listener), listener.run(), _warm_up(configuration, scripts)
        ):
            yield Runtime(settings, engine, box, configuration, Timelines(settings, configuration), scripts)
    finally:
        await scripts.close()
        await engine.dispose()


async def _warm_up(configuration: Configuration, scripts: Scripts) -> None:
    """Have the sandbox ready when there is a source with a script."""
    await configuration.wait_until_loaded()
    if any(each.script for each in configuration.endpoints()):
        await scripts.warm_up()


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines beside the block and cancel them at its end."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
