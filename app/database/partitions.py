"""Partitions of the logs: one a day for each table, made ahead, dropped past retention
(`app/retention/periods.py`).

The tables are partitioned by range of their UUIDv7 primary key, whose first 48 bits are the time, so an id
alone leads to one partition. Rows of a day that has no partition go to the default one, and move out of it
when the day's partition is made. A day with an event that has no final status is kept whole.

Partitions are made and dropped one by one, each in a transaction that waits for its locks for a fraction of a
second (`app/database/table_changes.py`). Postgres does not detach partitions concurrently from a table that
has a default partition.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from uuid import UUID

from psycopg.errors import QueryCanceled
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.database.table_changes import Deadline, change_tables
from app.models.types import first_id_at, id_time_range

TABLES = ("events", "event_payloads", "actions")
DAYS_AHEAD = 7
# How long a table may be locked to move rows out of its default partition. Senders wait for up to 10 s.
MOVE_WITHIN_MS = 3000
_UNFINISHED = "status IN ('received', 'processing')"
_CLEAR_DEFAULT = f"""
DELETE FROM {{table}}_default WHERE id IN (
    SELECT id FROM {{table}}_default AS kept WHERE id < :before
        AND NOT EXISTS (SELECT FROM events WHERE events.id = kept.{{event_id}} AND {_UNFINISHED})
    ORDER BY id LIMIT :size
)"""
# Processes that maintain partitions at the same time wait for each other.
_TURN = "doorbell_partitions"


def create_partitions(
    connection: Connection, today: date, patience: timedelta = timedelta(seconds=10)
) -> list[str]:
    """Make the partitions of today and the coming days where they are missing; the names of those made.

    The connection has no transaction under way. Today's come first: events arrive for them.

    Raises:
        Retryable: others used the tables for longer than `patience`; what was made until then stays.
    """
    deadline = Deadline(patience)
    with connection.begin():
        existing = set(_partitions(connection))
    made = []
    for ahead in (*range(DAYS_AHEAD + 1), -1):
        day = today + timedelta(days=ahead)
        for table in TABLES:
            name = _name(table, day)
            create = partial(_create, connection, table, day)
            if name not in existing and change_tables(connection, _TURN, create, deadline):
                made.append(name)
    return made


def drop_partitions(
    connection: Connection,
    today: date,
    retention: Mapping[str, timedelta],
    patience: timedelta = timedelta(seconds=10),
) -> list[str]:
    """Drop the partitions whose whole day is past their table's retention; their names.

    The connection has no transaction under way.

    Raises:
        Retryable: others used the tables for longer than `patience`; what was dropped until then is gone.
    """
    deadline = Deadline(patience)
    with connection.begin():
        past = _past_retention(connection, today, retention)
    for name in past:
        drop = partial(connection.execute, text(f"DROP TABLE IF EXISTS {name}"))
        change_tables(connection, _TURN, drop, deadline)
    return past


def clear_default_partitions(
    connection: Connection, today: date, retention: Mapping[str, timedelta], size: int
) -> int:
    """Delete rows past retention of days that had no partition, a batch of each table; how many."""
    cleared = 0
    # Events last: by them is known what is finished.
    for table in ("event_payloads", "actions", "events"):
        deleted = connection.execute(
            text(_CLEAR_DEFAULT.format(table=table, event_id="event_id" if table == "actions" else "id")),
            {"before": first_id_at(_midnight(today - retention[table])), "size": size},
        )
        cleared += deleted.rowcount
    return cleared


def unfinished_days(connection: Connection, today: date, retention: timedelta) -> list[date]:
    """The days past retention that are kept, because an event of theirs has no final status."""
    days = (_day(name) for name in _partitions(connection) if _table(name) == "events")
    return [
        day for day in days if day is not None and day < today - retention and _is_unfinished(connection, day)
    ]


def days_ahead(connection: Connection, today: date) -> dict[str, int]:
    """How many days from today on, in a row, have a partition in each table."""
    existing, ahead = set(_partitions(connection)), dict.fromkeys(TABLES, 0)
    for table in TABLES:
        while _name(table, today + timedelta(days=ahead[table])) in existing:
            ahead[table] += 1
    return ahead


def default_rows(connection: Connection, most: int) -> dict[str, int]:
    """How many rows each table's default partition has; no more than `most` are counted."""
    counts = {}
    for table in TABLES:
        counted = text(f"SELECT count(*) FROM (SELECT FROM {table}_default LIMIT :most) AS bounded")
        counts[table] = int(connection.execute(counted, {"most": most}).scalar_one())
    return counts


def _past_retention(connection: Connection, today: date, retention: Mapping[str, timedelta]) -> list[str]:
    found = []
    for name in _partitions(connection):
        day = _day(name)
        is_past = day is not None and day < today - retention[_table(name)]
        if day is not None and is_past and not _is_unfinished(connection, day):
            found.append(name)
    return found


def _is_unfinished(connection: Connection, day: date) -> bool:
    """Whether an event of the day has no final status, also one that is in the default partition."""
    first, end = _bounds(day)
    found = connection.execute(
        text(f"SELECT EXISTS (SELECT FROM events WHERE id >= '{first}' AND id < '{end}' AND {_UNFINISHED})")
    )
    return bool(found.scalar_one())


def _create(connection: Connection, table: str, day: date) -> bool:
    """Make a day's partition, and move its rows out of the default one; whether it was made.

    Nobody writes meanwhile: a row that came between the move and the attachment would make that fail. The
    parent is locked first, as every statement does, so that no statement plans without the new partition.
    """
    name = _name(table, day)
    if name in _partitions(connection):
        return False
    connection.execute(text(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE"))
    connection.execute(text(f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE"))
    connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"))
    first, end = _bounds(day)
    if not _move(connection, table, day) and (last := _last_in_default(connection, table, day)):
        # They stay where they are, until retention deletes them: the partition begins after the last of them.
        first = id_time_range(last)[1]
        if first >= end:
            connection.execute(text(f"DROP TABLE {name}"))
            return False
    connection.execute(
        text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{end}')")
    )
    return True


def _move(connection: Connection, table: str, day: date) -> bool:
    """Move a day's rows from the default partition to the day's table; False when they are too many for the
    time that writers can wait."""
    first, end = _bounds(day)
    try:
        with connection.begin_nested():
            connection.execute(text(f"SET LOCAL statement_timeout = {MOVE_WITHIN_MS}"))
            connection.execute(
                text(
                    f"WITH moved AS (DELETE FROM {table}_default WHERE id >= :first AND id < :end "
                    f"RETURNING *) INSERT INTO {_name(table, day)} SELECT * FROM moved"
                ),
                {"first": first, "end": end},
            )
            connection.execute(text("SET LOCAL statement_timeout TO DEFAULT"))
    except DBAPIError as error:
        if not isinstance(error.orig, QueryCanceled):
            raise
        return False
    return True


def _last_in_default(connection: Connection, table: str, day: date) -> UUID | None:
    first, end = _bounds(day)
    last = text(f"SELECT id FROM {table}_default WHERE id >= :first AND id < :end ORDER BY id DESC LIMIT 1")
    found: UUID | None = connection.execute(last, {"first": first, "end": end}).scalar()
    return found


def _partitions(connection: Connection) -> list[str]:
    rows = connection.execute(
        text(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent::regclass::text = ANY(:tables) ORDER BY 1"
        ),
        {"tables": list(TABLES)},
    )
    return list(rows.scalars())


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _table(partition: str) -> str:
    return partition.rpartition("_")[0]


def _day(partition: str) -> date | None:
    """The day in a partition's name; None for the default one."""
    suffix = partition.rpartition("_")[2]
    return datetime.strptime(suffix, "%Y%m%d").replace(tzinfo=UTC).date() if suffix.isdigit() else None


def _bounds(day: date) -> tuple[UUID, UUID]:
    """The smallest id of the day and of the next one."""
    return first_id_at(_midnight(day)), first_id_at(_midnight(day + timedelta(days=1)))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
