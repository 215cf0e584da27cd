"""The connection to Postgres: the engine, sessions, and the migrations."""

from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, IsolationLevel
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.core import exact_json
from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.database.partitions import create_partitions
from app.models.types import now

MIGRATIONS = Path(__file__).parents[2] / "migrations"
# The name of an isolation level among the options of an engine, and in what is known of a connection.
_LEVEL = "doorbell_isolation"


def open_engine(settings: Settings, *, plan_once: bool = False) -> AsyncEngine:
    """The engine of a process. It connects when first used; `close_engine` ends it.

    `plan_once`: Postgres plans a statement when a connection prepares it and not each time. For processes
    whose statements have one good plan whatever their parameters: planning over all partitions costs more
    than running.
    """
    if settings.database_url is None:
        raise ConfigurationError("DOORBELL_DATABASE_URL is not set")
    engine = create_async_engine(
        settings.database_url,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_recycle=1800,
        # The connection used last: statements are prepared on as few as the load needs.
        pool_use_lifo=True,
        # An error of the database is logged, and shown in Temporal: without what was written.
        hide_parameters=True,
        json_serializer=to_json,
        json_deserializer=exact_json.loads,
        connect_args={
            "connect_timeout": 5,
            "application_name": "doorbell",
            # A server that vanished without a word is noticed in seconds, not in the kernel's quarter of an
            # hour.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )
    event.listen(engine.sync_engine, "engine_connect", _set_isolation)
    # A server in a zone with daylight saving time would take a day that is added to a time for 23 or 25
    # hours.
    settings_of_session = ["SET TIME ZONE 'UTC'"]
    if plan_once:
        settings_of_session.append("SET plan_cache_mode = force_generic_plan")

    def prepare(connection: DBAPIConnection, _: object) -> None:
        with closing(connection.cursor()) as cursor:
            for statement in settings_of_session:
                cursor.execute(statement)
        connection.commit()

    event.listen(engine.sync_engine, "connect", prepare)
    return engine


async def close_engine(engine: AsyncEngine) -> None:
    """Close the connections of an engine: those in its pool now, and those that are out when they come back.

    A task that was told to end may still be giving its connection back. The pool that it came from is gone by
    then, and nobody else would close it.
    """
    event.listen(engine.sync_engine, "checkin", _close_returned)
    await engine.dispose()


def _close_returned(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.invalidate()


def with_isolation(engine: AsyncEngine, level: IsolationLevel) -> AsyncEngine:
    """The same pool, for transactions with this isolation level. The engine is one of `open_engine`."""
    return engine.execution_options(**{_LEVEL: level})


def _set_isolation(connection: Connection) -> None:
    """Give a connection that was just taken the isolation level that its engine asks for. It keeps it in the
    pool: whoever takes it next often needs the same.

    Not SQLAlchemy's option `isolation_level`: a task that is cancelled while it sets a level, or sets it
    back, leaves the connection to the garbage collector, and its place in the pool too.
    """
    default = connection.dialect.default_isolation_level
    wanted: Any = connection.get_execution_options().get(_LEVEL, default)
    pooled = connection.connection
    if pooled.info.get(_LEVEL, default) == wanted:
        return
    try:
        connection.dialect.set_isolation_level(pooled, wanted)
    except BaseException:
        # It may be half set: nobody is to use this connection again.
        connection.invalidate()
        raise
    pooled.info[_LEVEL] = wanted


def to_json(value: object) -> str:
    """JSON text as it is stored: compact, keys as they came."""
    return exact_json.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def upgrade(url: str) -> None:
    """Apply all migrations and make the partitions of the coming days. Processes that do so at the same time
    wait for each other."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        _migrate(engine)
    finally:
        engine.dispose()


def _migrate(engine: Engine) -> None:
    # Here: 10 MB that API and workers do without.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('doorbell_migrations'))")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        create_partitions(connection, now().date())
