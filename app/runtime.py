"""What every process holds while it runs: engine, secrets, configuration, and the tasks that keep them fresh."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.config import Configuration
from app.database import open_engine
from app.listener import Listener
from app.secrets import SecretBox
from app.settings import Settings
from app.timeline import Timelines


@dataclass(frozen=True)
class Runtime:
    """One for each process."""

    settings: Settings
    engine: AsyncEngine
    box: SecretBox
    configuration: Configuration
    timelines: Timelines


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncIterator[Runtime]:
    """Build the runtime and follow configuration changes. Postgres may be away; it is waited for."""
    engine = open_engine(settings)
    box = SecretBox(settings.secret_key)
    configuration = Configuration(engine, box, settings.config_max_age)
    listener = Listener(settings)
    try:
        async with background(configuration.keep_fresh(listener), listener.run()):
            yield Runtime(settings, engine, box, configuration, Timelines(settings, configuration))
    finally:
        await engine.dispose()


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
