"""Which source and environment a command is about, and where its events are received."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.environments import get_environment
from app.core.errors import ConfigurationError, RequestError
from app.core.secrets import SecretBox
from app.core.settings import Settings
from app.database.engine import close_engine, open_engine
from app.sources.live import Configuration, Endpoint
from app.sources.store import get_configured
from app.stack.installation import find_installation


@dataclass(frozen=True)
class Target:
    """A source in an environment, and the URL where its events are received."""

    endpoint: Endpoint
    url: str = field(repr=False)
    engine: AsyncEngine
    box: SecretBox
    settings: Settings


@asynccontextmanager
async def open_target(settings: Settings, source: str, environment: str) -> AsyncIterator[Target]:
    """Look the source up in the database.

    Raises:
        ConfigurationError: there is no Doorbell, no such source, or it is not configured in the environment.
    """
    found = find_installation(settings)
    engine, box = open_engine(found), SecretBox(found.secret_key)
    try:
        yield await _look_up(found, engine, box, source, environment)
    finally:
        await close_engine(engine)


@contextmanager
def database_reached() -> Iterator[None]:
    """Say that the database is away instead of tracing it.

    Raises:
        ConfigurationError: it is.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raise ConfigurationError(
            f"the database cannot be used ({type(error).__name__}): is `doorbell dev` running here, or is "
            "DOORBELL_DATABASE_URL right?"
        ) from error


async def _look_up(
    settings: Settings, engine: AsyncEngine, box: SecretBox, source: str, environment: str
) -> Target:
    configuration = Configuration(engine, box, settings.config_max_age)
    try:
        with database_reached():
            async with AsyncSession(engine) as session:
                await get_environment(session, environment)
                token = (await get_configured(session, source, environment)).endpoint_token
            await configuration.refresh()
    except RequestError as error:
        raise ConfigurationError(error.message) from error
    endpoint = configuration.by_token(token)
    if endpoint is None:
        raise ConfigurationError(
            f"source {source!r} in {environment!r} has a provider that this Doorbell lacks"
        )
    return Target(endpoint, f"{settings.base_url}/integrations/receive/{token}", engine, box, settings)
