"""What every process holds while it runs: engine, secrets, configuration, and the tasks that keep them
fresh."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.background import background
from app.core.errors import Permanent
from app.core.secrets import SecretBox
from app.core.settings import Settings
from app.database.engine import close_engine, open_engine
from app.database.listener import Listener
from app.scripting.pool import Scripts
from app.scripting.templates import Templates
from app.sources.live import Configuration

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """One for each process."""

    settings: Settings
    engine: AsyncEngine
    box: SecretBox
    configuration: Configuration
    scripts: Scripts
    templates: Templates


@asynccontextmanager
async def open_runtime(settings: Settings, *, plan_once: bool = False) -> AsyncIterator[Runtime]:
    """Build the runtime and follow configuration changes. Postgres may be away; it is waited for.

    `plan_once`: see `open_engine`.
    """
    engine = open_engine(settings, plan_once=plan_once)
    box = SecretBox(settings.secret_key)
    configuration = Configuration(engine, box, settings.config_max_age)
    listener = Listener(settings)
    scripts, templates = Scripts(settings.script_processes), Templates(settings.script_processes)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(close_engine, engine)
        stack.push_async_callback(scripts.close)
        stack.push_async_callback(templates.close)
        await stack.enter_async_context(
            background(configuration.keep_fresh(listener), listener.run(), _warm_up(configuration, scripts))
        )
        yield Runtime(settings, engine, box, configuration, scripts, templates)


async def _warm_up(configuration: Configuration, scripts: Scripts) -> None:
    """Have the sandbox ready when there is a source with a script."""
    await configuration.wait_until_loaded()
    if any(each.script for each in configuration.endpoints()):
        await scripts.warm_up()


async def save(session: AsyncSession, runtime: Runtime) -> None:
    """Commit, and let this process use the change at once; the others hear of it from Postgres."""
    await session.commit()
    try:
        await runtime.configuration.refresh()
    except (SQLAlchemyError, OSError, Permanent) as error:
        logger.warning("configuration_unreadable", extra={"error": str(error)})
