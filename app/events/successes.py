"""Which executions succeeded, as the event log knows it.

Temporal's workflow ids keep concurrent copies of an idempotency tuple apart. What became of them the event
log knows too, and keeps when Temporal loses its data: it is asked first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.batching import Batcher
from app.database.engine import with_isolation
from app.events.claims import Claimed
from app.models.types import first_id_at

# From the receipt of an event to its success, at most: retries end after days.
LONGEST_EXECUTION = timedelta(days=7)

# As in Temporal, an execution in which nothing ran is none: its actions, if any, were not evaluated.
_SUCCESSES = text("""
SELECT wanted.id AS wanted, success.id, success.workflow_id, success.run_id
FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:workflow_ids AS text[]),
            CAST(:since AS timestamptz[])) AS wanted (id, idempotency_key, workflow_id, since)
CROSS JOIN LATERAL (
    SELECT events.id, events.workflow_id, events.run_id FROM events
    WHERE events.idempotency_key = wanted.idempotency_key AND events.id >= :first
      AND events.workflow_id = wanted.workflow_id AND events.status = 'succeeded'
      AND events.finished_at > wanted.since AND events.id <> wanted.id
      AND EXISTS (
          SELECT FROM actions
          WHERE actions.id >= CAST(left(CAST(events.id AS text), 13) || '-0000-0000-000000000000' AS uuid)
            AND actions.id <= CAST(left(CAST(events.id AS text), 13) || '-ffff-ffff-ffffffffffff' AS uuid)
            AND actions.event_id = events.id AND actions.idempotency_key IS NOT NULL
            AND actions.status IN ('succeeded', 'skipped')
      )
    ORDER BY events.finished_at DESC LIMIT 1
) AS success
""")


@dataclass(frozen=True)
class Success:
    """An event that was executed with success, and the run that did it."""

    event_id: UUID | None
    workflow_id: str
    run_id: str


@dataclass(frozen=True)
class _Wanted:
    event_id: UUID
    idempotency_key: str
    workflow_id: str
    since: datetime


class Successes:
    """Looks for the successes that events repeat, with one statement for all that ask together."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = with_isolation(engine, "AUTOCOMMIT")
        self._lookups: Batcher[_Wanted, Success | None] = Batcher(self._look)

    async def of(self, event: Claimed, workflow_id: str, window: timedelta) -> Success | None:
        """The success of the event's workflow id within the window before it; None for an event whose id is
        its own, too."""
        if event.idempotency_key is None or workflow_id.endswith(f"/{event.id}"):
            return None
        since = event.asked_at - window
        return await self._lookups.submit(_Wanted(event.id, event.idempotency_key, workflow_id, since))

    async def _look(self, wanted: list[_Wanted]) -> Sequence[Success | None]:
        parameters = {
            "ids": [each.event_id for each in wanted],
            "keys": [each.idempotency_key for each in wanted],
            "workflow_ids": [each.workflow_id for each in wanted],
            "since": [each.since for each in wanted],
            "first": first_id_at(min(each.since for each in wanted) - LONGEST_EXECUTION),
        }
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_SUCCESSES, parameters)).all()
        found = {row.wanted: Success(row.id, row.workflow_id, row.run_id) for row in rows}
        return [found.get(each.event_id) for each in wanted]
