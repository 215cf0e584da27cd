"""The connection to Postgres: the engine, sessions, and the migrations."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, IsolationLevel
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.core import exact_json
from app.core.errors import CommandError, ConfigurationError
from app.core.settings import Settings
from app.database.partitions import create_partitions
from app.database.table_changes import Deadline, change_tables
from app.models.types import now

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parents[2] / "migrations"
# How long a migration is tried again while others use its tables.
PATIENCE = timedelta(minutes=5)
# Processes that migrate at the same time wait for each other.
_TURN = "doorbell_migrations"
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


def upgrade(url: str, patience: timedelta = PATIENCE) -> None:
    """Apply all migrations and make the partitions of the coming days. Processes that do so at the same time
    wait for each other.

    Each migration is a transaction of its own, and is tried again for `patience` while others use its tables.

    Raises:
        Retryable: they used them for longer; the migrations that were applied until then stay.
        CommandError: the database is newer than this version.
    """
    with _connection_for_migrations(url) as connection:
        step = partial(_step_up, connection)
        while change_tables(connection, _TURN, step, Deadline(patience)):
            pass
        create_partitions(connection, now().date(), patience)


def downgrade(url: str, revision: str, patience: timedelta = PATIENCE) -> None:
    """Take back the migrations after `revision`, the newest first. Each is a transaction, as in `upgrade`.

    Raises:
        Retryable: others used the tables for longer than `patience`; what was taken back until then stays.
        CommandError: there is no such revision, or one of the migrations cannot be taken back; nothing was
            changed.
    """
    with _connection_for_migrations(url) as connection:
        step = partial(_step_down, connection, revision)
        while change_tables(connection, _TURN, step, Deadline(patience)):
            pass


@contextmanager
def _connection_for_migrations(url: str) -> Iterator[Connection]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _step_up(connection: Connection) -> bool:
    """Apply the next migration, or all of them to a new database; whether there may be more."""
    # Here: 10 MB that API and workers do without.
    from alembic import command

    config = _alembic(connection)
    revisions = _revisions(config)
    current = _current(connection, list(revisions))
    if current == list(revisions)[-1]:
        return False
    command.upgrade(config, "+1" if current else "head")
    return True


def _step_down(connection: Connection, target: str) -> bool:
    """Take the newest migration back; whether there may be more until `target`."""
    from alembic import command

    config = _alembic(connection)
    revisions = _revisions(config)
    known = list(revisions)
    current = _current(connection, known)
    if target not in known and target != "base":
        raise CommandError(f"there is no revision {target!r}: they go from {known[0]} to {known[-1]}")
    kept = known.index(target) + 1 if target in known else 0
    undone = known[kept : known.index(current) + 1] if current else []
    for revision in undone:
        if reason := revisions[revision]:
            raise CommandError(f"revision {revision} cannot be taken back: {reason}. Nothing was changed")
    if not undone:
        return False
    command.downgrade(config, "-1")
    return True


def _alembic(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _revisions(config: "Config") -> dict[str, str | None]:
    """All revisions, the oldest first, each with the reason why it cannot be taken back, if there is one."""
    from alembic.script import ScriptDirectory

    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    return {each.revision: getattr(each.module, "CANNOT_BE_UNDONE", None) for each in reversed(scripts)}


def _current(connection: Connection, known: Sequence[str]) -> str | None:
    """The revision of the database; None for a new one."""
    from alembic.runtime.migration import MigrationContext

    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise CommandError(
            f"the database is at revision {current}, and this version of Doorbell ends with {known[-1]}. Run "
            f"the newer version, or with it `doorbell db downgrade {known[-1]}`"
        )
    return current
