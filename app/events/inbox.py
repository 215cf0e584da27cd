"""Stage 2 of an event: the durable inbox. Events of many requests go into the event log with one statement.

`accept` returns after the commit and not before. The dispatcher of the event's environment
(`app/worker/events.py`) hears of it by NOTIFY.
"""

import asyncio
import logging
from binascii import b2a_base64
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.batching import Batcher
from app.database.engine import to_json
from app.events.event_log import CHANNEL
from app.events.reception import ReceivedEvent
from app.models.status import EventStatus
from app.runtime import metrics

logger = logging.getLogger(__name__)

# A request of many events waits as so many single ones would.
GROUP_WEIGHT = 100

# Senders give up after 1 to 30 seconds. What takes longer is answered 503, whether it is committed or not.
WRITE_TIMEOUT = timedelta(seconds=10)
# What a row takes besides its body, roughly.
ROW_BYTES = 2048

# An id is written once: a batch whose connection broke before Postgres answered is sent again as it is. All
# rows come as one JSON array: an array for each column costs the driver many times as much.
_INSERT = text("""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS given (
        id uuid, environment text, source_key text, event_type text, idempotency_key text, status text,
        verification_status text, verification_reason text, received_at timestamptz, occurred_at timestamptz,
        finished_at timestamptz, error text, received_through text, batch_id uuid, signing_secret_id uuid,
        traceparent text, body text, headers text, sensitive_headers text, preprocess_output text)
), new_events AS (
    INSERT INTO events (id, environment, source_key, event_type, idempotency_key, status, verification_status,
                        verification_reason, received_at, occurred_at, finished_at, error, received_through,
                        batch_id, signing_secret_id, traceparent)
    SELECT id, environment, source_key, event_type, idempotency_key, status, verification_status,
           verification_reason, received_at, occurred_at, finished_at, error, received_through,
           batch_id, signing_secret_id, traceparent
    FROM given
    ON CONFLICT (id) DO NOTHING
), new_payloads AS (
    INSERT INTO event_payloads (id, body, headers, sensitive_headers, preprocess_output)
    SELECT id, decode(body, 'base64'), headers::json, decode(sensitive_headers, 'base64'),
      preprocess_output::json
    FROM given
    ON CONFLICT (id) DO NOTHING
)
SELECT pg_notify(:channel, environment) FROM unnest(CAST(:awaited AS text[])) AS environment
""")


class Inbox:
    """Writes received events. Bounded: when Postgres does not keep up, `accept` refuses."""

    def __init__(self, engine: AsyncEngine, *, maximum_queued: int, maximum_bytes: int) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._batcher: Batcher[ReceivedEvent, None] = Batcher(
            self._write,
            maximum_batch=500,
            maximum_queued=maximum_queued,
            maximum_bytes=maximum_bytes,
            weigh=lambda event: len(event.body) + ROW_BYTES,
            concurrency=2,
        )
        self._groups: Batcher[Sequence[ReceivedEvent], None] = Batcher(
            self._write_group,
            maximum_batch=1,
            maximum_queued=max(maximum_queued // GROUP_WEIGHT, 1),
            maximum_bytes=maximum_bytes,
            weigh=lambda group: sum(len(event.body) + ROW_BYTES for event in group),
            concurrency=2,
        )
        metrics.watch_queue(
            lambda: self._batcher.queued + self._groups.queued * GROUP_WEIGHT,
            lambda: self._batcher.queued_bytes + self._groups.queued_bytes,
        )

    async def accept(self, event: ReceivedEvent) -> None:
        """Make the event durable.

        Raises:
            QueueFull: Postgres does not keep up.
            sqlalchemy.exc.DBAPIError, TimeoutError: Postgres is out; the event is not accepted, though it may
            be
                in the log when the connection broke at the commit.
        """
        await self._batcher.submit(event)

    async def accept_all(self, events: Sequence[ReceivedEvent]) -> None:
        """Make all of the events durable, or none. Raises as `accept` does."""
        if len(events) == 1:
            await self.accept(events[0])
        elif events:
            await self._groups.submit(events)

    async def _write_group(self, groups: list[Sequence[ReceivedEvent]]) -> Sequence[None]:
        """One statement for each group, whatever its size: a transaction of its own."""
        for group in groups:
            await self._write(list(group))
        return [None] * len(groups)

    async def _write(self, events: list[ReceivedEvent]) -> Sequence[None]:
        async with asyncio.timeout(WRITE_TIMEOUT.total_seconds()):
            try:
                await self._insert(events)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # The pool's connections are of a server that is gone; a new one may be there already.
                logger.info("inbox_reconnects", extra={"events": len(events)})
                await self._insert(events)
        metrics.count_received(events)
        return [None] * len(events)

    async def _insert(self, events: list[ReceivedEvent]) -> None:
        waiting = {each.environment for each in events if each.status is EventStatus.RECEIVED}
        rows = to_json([_row(each) for each in events])
        async with self._engine.connect() as connection:
            await connection.execute(_INSERT, {"rows": rows, "channel": CHANNEL, "awaited": sorted(waiting)})


def _row(event: ReceivedEvent) -> dict[str, object]:
    """The row of an event as JSON takes it. JSON within it is text, so that an escaped U+0000 stays what it
    is."""
    sensitive, preprocess = event.sensitive_headers, event.preprocess_output
    return {
        "id": event.id,
        "environment": event.environment,
        "source_key": event.source_key,
        "event_type": event.event_type,
        "idempotency_key": event.idempotency_key,
        "status": event.status,
        "verification_status": event.verification_status,
        "verification_reason": event.verification_reason,
        "received_at": event.received_at,
        "occurred_at": event.occurred_at,
        "finished_at": None if event.status is EventStatus.RECEIVED else event.received_at,
        "error": event.error,
        "received_through": event.received_through,
        "batch_id": event.batch_id,
        "signing_secret_id": event.signing_secret_id,
        "traceparent": event.traceparent,
        "body": b2a_base64(event.body, newline=False).decode(),
        "headers": to_json(event.headers),
        "sensitive_headers": None if sensitive is None else b2a_base64(sensitive, newline=False).decode(),
        "preprocess_output": None if preprocess is None else to_json(preprocess),
    }
