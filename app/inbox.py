"""Stage 2 of an event: the durable inbox. Events of many requests go into the event log with one statement.

`accept` returns after the commit and not before. The dispatcher of the event's environment (`app/dispatch.py`)
hears of it by NOTIFY.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.batching import Batcher
from app.database import to_json
from app.event_log import CHANNEL
from app.models.status import EventStatus
from app.reception import ReceivedEvent

logger = logging.getLogger(__name__)

# A request of many events waits as so many single ones would.
GROUP_WEIGHT = 100

# Senders give up after 1 to 30 seconds. What takes longer is answered 503, whether it is committed or not.
WRITE_TIMEOUT = timedelta(seconds=10)
# What a row takes besides its body, roughly.
ROW_BYTES = 2048

# An id is written once: a batch whose connection broke before Postgres answered is sent again as it is.
_INSERT = text("""
WITH new_events AS (
    INSERT INTO events (id, environment, source_key, event_type, idempotency_key, status, verification_status,
                        verification_reason, received_at, occurred_at, finished_at, error, received_through,
                        batch_id)
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:environments AS text[]), CAST(:source_keys AS text[]),
        CAST(:event_types AS text[]), CAST(:idempotency_keys AS text[]), CAST(:statuses AS text[]),
        CAST(:verification_statuses AS text[]), CAST(:verification_reasons AS text[]),
        CAST(:received_ats AS timestamptz[]), CAST(:occurred_ats AS timestamptz[]),
        CAST(:finished_ats AS timestamptz[]), CAST(:errors AS text[]), CAST(:received_through AS text[]),
        CAST(:batch_ids AS uuid[]))
    ON CONFLICT (id) DO NOTHING
), new_payloads AS (
    INSERT INTO event_payloads (id, body, headers, sensitive_headers, preprocess_output)
    SELECT id, body, headers::json, sensitive_headers, preprocess_output::json FROM unnest(
        CAST(:ids AS uuid[]), CAST(:bodies AS bytea[]), CAST(:headers AS text[]),
        CAST(:sensitive_headers AS bytea[]), CAST(:preprocess_outputs AS text[])
    ) AS payload (id, body, headers, sensitive_headers, preprocess_output)
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

    async def accept(self, event: ReceivedEvent) -> None:
        """Make the event durable.

        Raises:
            QueueFull: Postgres does not keep up.
            sqlalchemy.exc.DBAPIError, TimeoutError: Postgres is out; the event is not accepted, though it may be
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
        return [None] * len(events)

    async def _insert(self, events: list[ReceivedEvent]) -> None:
        waiting = {each.environment for each in events if each.status is EventStatus.RECEIVED}
        async with self._engine.connect() as connection:
            await connection.execute(
                _INSERT,
                {
                    "ids": [each.id for each in events],
                    "environments": [each.environment for each in events],
                    "source_keys": [each.source_key for each in events],
                    "event_types": [each.event_type for each in events],
                    "idempotency_keys": [each.idempotency_key for each in events],
                    "statuses": [each.status.value for each in events],
                    "verification_statuses": [str(each.verification_status) for each in events],
                    "verification_reasons": [each.verification_reason for each in events],
                    "received_ats": [each.received_at for each in events],
                    "occurred_ats": [each.occurred_at for each in events],
                    "finished_ats": [
                        None if each.status is EventStatus.RECEIVED else each.received_at for each in events
                    ],
                    "errors": [each.error for each in events],
                    "received_through": [each.received_through.value for each in events],
                    "batch_ids": [each.batch_id for each in events],
                    "bodies": [each.body for each in events],
                    "headers": [to_json(each.headers) for each in events],
                    "sensitive_headers": [each.sensitive_headers for each in events],
                    "preprocess_outputs": [
                        None if each.preprocess_output is None else to_json(each.preprocess_output)
                        for each in events
                    ],
                    "channel": CHANNEL,
                    "awaited": sorted(waiting),
                },
            )
