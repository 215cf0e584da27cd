"""Migrations: every one can be taken back, or says why not, and none stops those who read and write."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Self

import psycopg
import pytest
from alembic.script import ScriptDirectory

from app.core.errors import CommandError, Retryable
from app.database.engine import MIGRATIONS, downgrade, upgrade
from app.models.types import new_id

REVISIONS = [each.revision for each in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]
# Its way forward drops and makes indexes of the event log.
CHANGES_EVENTS = "0018"
BEFORE = REVISIONS[REVISIONS.index(CHANGES_EVENTS) - 1]

_SCHEMA = """
SELECT 'column', table_name || '.' || column_name,
    concat(data_type, ' ', is_nullable, ' ', column_default)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', relname, pg_get_indexdef(oid) FROM pg_class
WHERE relkind IN ('i', 'I') AND relnamespace = 'public'::regnamespace AND NOT relispartition
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid)
FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function', proname, pg_get_functiondef(oid)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'sequence', sequencename, '' FROM pg_sequences WHERE schemaname = 'public'
"""
_INSERT = """
INSERT INTO events (id, environment, source_key, status, verification_status, received_at)
VALUES (%s, 'development', 'shop', 'ignored', 'unverified', now())
"""


def schema(url: str) -> set[tuple[str, str, str]]:
    """All that the migrations made: what a revision has, whatever the way to it was."""
    with psycopg.connect(url) as connection:
        return {(kind, name, str(what)) for kind, name, what in connection.execute(_SCHEMA.encode())}


def revision(url: str) -> str:
    with psycopg.connect(url) as connection:
        [(found,)] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(found)


def test_every_migration_can_be_taken_back_and_applied_again(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(_INSERT.encode(), [new_id()])
        connection.execute(
            "INSERT INTO directory_recipients (environment, collection, id, properties, channel_data, "
            "preferences, inserted_at, updated_at) "
            """VALUES ('development', '$users', 'u_1', '{"name": "Ada"}', '{}', '{}', now(), now())"""
        )
    newest = schema(database_url)
    for earlier in REVISIONS[-2::-1]:
        downgrade(database_url, earlier)
        assert revision(database_url) == earlier
    first = schema(database_url)
    upgrade(database_url)
    assert revision(database_url) == REVISIONS[-1]
    assert schema(database_url) == newest

    downgrade(database_url, REVISIONS[0])
    assert schema(database_url) == first
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT properties FROM directory_users").fetchone() == ({"name": "Ada"},)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_going_back_as_far_as_one_that_cannot_be_taken_back_changes_nothing(database_url: str) -> None:
    before = schema(database_url)
    with pytest.raises(CommandError, match=r"0001 cannot be taken back: .* drop the database. Nothing was"):
        downgrade(database_url, "base")
    with pytest.raises(CommandError, match="there is no revision '9999': they go from 0001 to"):
        downgrade(database_url, "9999")
    assert (revision(database_url), schema(database_url)) == (REVISIONS[-1], before)


def test_a_database_of_a_later_version_is_left_as_it_is(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for change in (upgrade, lambda url: downgrade(url, "0001")):
        with pytest.raises(CommandError, match="the database is at revision 9999, and this version"):
            change(database_url)


@contextmanager
def reader(url: str) -> Iterator[None]:
    """A backup, or somebody who forgot to commit."""
    with psycopg.connect(url, application_name="pg_dump") as connection:
        connection.execute("SELECT FROM events LIMIT 1")
        yield


class Writer:
    """Writes to the event log as an API process does, until it is stopped. What waits 5 s fails."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.written = 0
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                connection.execute("SET lock_timeout = '5s'")
                while not self._stop.wait(0.02):
                    connection.execute(_INSERT.encode(), [new_id()])
                    self.written += 1
        except Exception as error:  # noqa: BLE001 (looked at by the test)
            self.error = error

    def writes(self, number: int) -> None:
        """Wait for so many more rows."""
        wanted, pause = self.written + number, threading.Event()
        for _ in range(3000):
            if self.written >= wanted:
                return
            assert self.error is None
            pause.wait(0.01)
        raise AssertionError(f"{self.written} rows, {wanted} wanted")


def test_a_migration_waits_for_readers_and_writers_do_not_wait_for_it(database_url: str) -> None:
    downgrade(database_url, BEFORE)
    done = threading.Event()

    def migrate() -> None:
        upgrade(database_url)
        done.set()

    with Writer(database_url) as writer:
        with reader(database_url):
            migration = threading.Thread(target=migrate)
            migration.start()
            writer.writes(100)
            assert not done.is_set()
        migration.join(30)
        assert done.is_set()
        writer.writes(1)
    assert writer.error is None
    assert revision(database_url) == REVISIONS[-1]


def test_a_migration_that_gets_no_lock_names_who_holds_it(database_url: str) -> None:
    downgrade(database_url, BEFORE)
    with reader(database_url), Writer(database_url) as writer:
        with pytest.raises(Retryable, match=r"in use by .*: process \d+ \(pg_dump, \d+ s\)"):
            upgrade(database_url, timedelta(seconds=1.5))
        writer.writes(1)
    assert writer.error is None
    assert revision(database_url) == BEFORE
