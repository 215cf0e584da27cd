"""Whether events can be written now. Tried with an event that is rolled back: a lock, a full disk, a missing
partition or a constraint stops it as they stop the events of senders."""

import asyncio

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.events.reception import ReceivedEvent
from app.events.writer import write_events
from app.models.status import EventStatus, VerificationStatus
from app.models.types import new_id, now

TIMEOUT = 2.0
# Longer than changes of tables hold up writers (`app/database/table_changes.py`).
_WAIT_FOR_LOCKS = text("SET LOCAL lock_timeout = '1500ms'")
# Seconds that an answer holds: whoever asks more often causes no more writes.
KEPT = 1.0


class WriteProbe:
    """The last answer, for `KEPT` seconds. Callers at the same time share one."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._trying = asyncio.Lock()
        self._problem: str | None = None
        self._until = 0.0

    async def problem(self) -> str | None:
        """Why no event can be written now, or None."""
        async with self._trying:
            clock = asyncio.get_running_loop().time
            if clock() >= self._until:
                self._problem = await self._try()
                self._until = clock() + KEPT
            return self._problem

    async def _try(self) -> str | None:
        try:
            async with asyncio.timeout(TIMEOUT), self._engine.connect() as connection:
                await connection.execute(_WAIT_FOR_LOCKS)
                await write_events(connection, [_event()])
                await connection.rollback()
        except TimeoutError:
            return f"no event could be written within {TIMEOUT:g} s"
        except DBAPIError as error:
            return f"no event can be written: {type(error.orig).__name__}"
        except (SQLAlchemyError, OSError) as error:
            return f"no event can be written: {type(error).__name__}"
        return None


def _event() -> ReceivedEvent:
    """An event that nobody is told of, and that is never committed."""
    return ReceivedEvent(
        id=new_id(),
        environment="",
        source_key="",
        status=EventStatus.REJECTED,
        verification_status=VerificationStatus.NOT_ENFORCED_UNVERIFIED,
        verification_reason=None,
        received_at=now(),
        body=b"",
        headers={},
        sensitive_headers=None,
    )
