"""Changes of tables while processes use them: partitions and migrations.

A change that waits for a table's lock makes all later statements on that table wait too. So a reader with an
open transaction, a backup for example, would stop everyone who writes. Therefore a change waits for its locks
for a fraction of a second only. Then it gives up, lets the others go first, and is tried again.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.core.errors import Retryable

Changed = TypeVar("Changed")

# So long writers wait at most for a change that does not get its locks.
LOCK_TIMEOUT_MS = 300
# Seconds between one try and the next: the last number from then on.
PAUSES = (0.2, 0.5, 1.0, 2.0)

_TAKE_TURN = text("SELECT pg_advisory_xact_lock(hashtext(:turn))")
_SLEEP = text("SELECT pg_sleep(:seconds)")
_HOLDERS = text("""
SELECT pid, coalesce(nullif(application_name, ''), usename, 'unknown') AS name,
    round(extract(epoch FROM now() - xact_start)) AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < now() - interval '1 second'
    AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'relation' AND granted)
ORDER BY xact_start LIMIT 3
""")


class Deadline:
    """Until when a change is tried again."""

    def __init__(self, patience: timedelta) -> None:
        self._end = time.monotonic() + patience.total_seconds()

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._end


def change_tables(
    connection: Connection, turn: str, change: Callable[[], Changed], deadline: Deadline
) -> Changed:
    """Run `change` in a transaction of its own, which is tried again until it gets its locks.

    The connection has no transaction under way. Changes with the same `turn` wait for each other.

    Raises:
        Retryable: others used the tables until the deadline; the change was not made.
    """
    tries = 0
    while True:
        try:
            with connection.begin():
                connection.execute(_TAKE_TURN, {"turn": turn})
                connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
                return change()
        except DBAPIError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
                raise
            if deadline.is_over:
                raise Retryable(_reason(connection), code="tables_in_use") from error
        # In Postgres: this runs on event loops too.
        with connection.begin():
            connection.execute(_SLEEP, {"seconds": PAUSES[min(tries, len(PAUSES) - 1)]})
        tries += 1


def _reason(connection: Connection) -> str:
    with connection.begin():
        holders = connection.execute(_HOLDERS).all()
    named = ", ".join(f"process {each.pid} ({each.name}, {each.seconds} s)" for each in holders)
    return (
        f"the tables are in use by open transactions of other programs: {named or 'none open any more'}. "
        "Wait until they have ended, or end one with SELECT pg_terminate_backend(PROCESS), and try again"
    )
