"""Partitions of the logs: one a day for each table, made ahead, dropped past retention
(`app/retention/periods.py`).

The tables are partitioned by range of their UUIDv7 primary key, whose first 48 bits are the time, so an id
alone leads to one partition. Rows of a day that has no partition go to the default one, and move out of it
when the day's partition is made. A day with an event that has no final status is kept whole.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import Connection, text

from app.models.types import first_id_at

TABLES = ("events", "event_payloads", "actions")
DAYS_AHEAD = 7
_UNFINISHED = "status IN ('received', 'processing')"
_CLEAR_DEFAULT = f"""
DELETE FROM {{table}}_default WHERE id IN (
    SELECT id FROM {{table}}_default AS kept WHERE id < :before
        AND NOT EXISTS (SELECT FROM events WHERE events.id = kept.{{event_id}} AND {_UNFINISHED})
    ORDER BY id LIMIT :size
)"""
# Serialises processes that maintain partitions at the same time.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('doorbell_partitions'))"


def create_partitions(connection: Connection, today: date) -> list[str]:
    """Make the partitions of today and the coming days where they are missing; their names."""
    connection.execute(text(_LOCK))
    existing = set(_partitions(connection))
    made = []
    for table in TABLES:
        for ahead in range(-1, DAYS_AHEAD + 1):
            day = today + timedelta(days=ahead)
            name = _name(table, day)
            if name not in existing:
                _create(connection, table, name, day)
                made.append(name)
    return made


def drop_partitions(connection: Connection, today: date, retention: Mapping[str, timedelta]) -> list[str]:
    """Drop the partitions whose whole day is past their table's retention; their names."""
    connection.execute(text(_LOCK))
    existing = _partitions(connection)
    dropped = []
    for name in existing:
        day = _day(name)
        if day is None or day >= today - retention[_table(name)]:
            continue
        if not _is_unfinished(connection, day, existing):
            connection.execute(text(f"DROP TABLE {name}"))
            dropped.append(name)
    return dropped


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
    existing = _partitions(connection)
    days = (_day(name) for name in existing if _table(name) == "events")
    return [
        day
        for day in days
        if day is not None and day < today - retention and _is_unfinished(connection, day, existing)
    ]


def _is_unfinished(connection: Connection, day: date, existing: Collection[str]) -> bool:
    name = _name("events", day)
    if name not in existing:
        return False
    found = connection.execute(text(f"SELECT EXISTS (SELECT FROM {name} WHERE {_UNFINISHED})"))
    return bool(found.scalar_one())


def _create(connection: Connection, table: str, name: str, day: date) -> None:
    """Made apart and then attached, so that rows already in the default partition can move over."""
    first, end = (first_id_at(_midnight(day + timedelta(days=extra))) for extra in (0, 1))
    connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"))
    connection.execute(
        text(
            f"WITH moved AS (DELETE FROM {table}_default WHERE id >= :first AND id < :end RETURNING *) "
            f"INSERT INTO {name} SELECT * FROM moved"
        ),
        {"first": first, "end": end},
    )
    connection.execute(
        text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{end}')")
    )


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


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
