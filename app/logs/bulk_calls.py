"""How far the events of one bulk call are, told from the event log itself."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core import exact_json
from app.directory.bulk_operations import BulkProgress
from app.models.types import first_id_at, now, time_of
from app.sources.live import Endpoint

# The events of a call get their ids within this time after the call's own.
LONGEST_CALL = timedelta(minutes=1)

# The error of the entry that a call without items has in the log: its progress can be asked for, too.
WITHOUT_ITEMS = "the call has no items: nothing ran"

_EVENTS = text("""
SELECT e.status, e.event_type, e.finished_at, e.error,
       CASE WHEN e.status IN ('failed', 'rejected') THEN p.body END AS body
FROM events e LEFT JOIN event_payloads p ON p.id = e.id AND p.id >= :first AND p.id < :last
WHERE e.environment = :environment AND e.source_key = :source_key AND e.id >= :first AND e.id < :last
  AND e.batch_id = :batch_id
""")


async def progress(
    engine: AsyncEngine, endpoint: Endpoint, batch_id: UUID, names: Mapping[str, str]
) -> BulkProgress | None:
    """The bulk operation that the events of a call are, None when this source has no such call. `names` are
    those of operations by event type."""
    if batch_id > first_id_at(now() + LONGEST_CALL):
        # Made up: there is no id of a time to come, and not every id is one of a time.
        return None
    asked_at = time_of(batch_id)
    async with engine.connect() as connection:
        rows = await connection.execute(
            _EVENTS,
            {
                "environment": endpoint.environment,
                "source_key": endpoint.source_key,
                "first": first_id_at(asked_at),
                "last": first_id_at(asked_at + LONGEST_CALL),
                "batch_id": batch_id,
            },
        )
        events = rows.all()
    if not events:
        return None
    name = names.get(events[0].event_type, "")
    events = [each for each in events if each.error != WITHOUT_ITEMS]
    finished = [each for each in events if each.finished_at is not None]
    failed = [each for each in finished if each.status in ("failed", "rejected")]
    done = len(finished) == len(events)
    last = max((each.finished_at for each in finished), default=asked_at)
    return BulkProgress(
        id=batch_id,
        name=name,
        status="completed" if done else "processing" if finished else "queued",
        estimated_total_rows=len(events),
        processed_rows=len(finished),
        success_count=len(finished) - len(failed),
        error_count=len(failed),
        error_items=[_item(exact_json.loads(each.body)) for each in failed if each.body is not None],
        inserted_at=asked_at,
        updated_at=last,
        started_at=asked_at if finished else None,
        completed_at=last if done else None,
        failed_at=None,
    )


def _item(body: dict[str, Any]) -> dict[str, Any]:
    """What failed, as Knock names it."""
    identifier = body.get("user_id") or body.get("object_id") or body.get("tenant_id")
    return {"id": identifier, "collection": body.get("collection")}
