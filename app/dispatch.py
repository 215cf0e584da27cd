"""Stage 3 of an event: the dispatcher, in the worker. Claims received events of its environment and starts one
workflow for each (`app/workflows/process_event.py`).

The workflow's id derives from the idempotency tuple and Temporal refuses a second execution, so Temporal itself
is the record of what ran. Claiming is under a lease and starting is idempotent: an event that is claimed twice
runs once.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from app.config import Configuration
from app.errors import Retryable
from app.event_log import EventLog, Finished
from app.inbox import CHANNEL
from app.listener import Listener
from app.models.contracts import EventOutcome, EventRef
from app.models.source import DEFAULT_IDEMPOTENCY_WINDOW
from app.models.status import EventStatus
from app.models.types import digest_of, first_id_at, now
from app.temporal import ENVIRONMENT, EVENT_TYPE, SOURCE, task_queue
from app.workflows.process_event import ProcessEvent

logger = logging.getLogger(__name__)

MAXIMUM_BATCH = 50
# A claim that is not followed by a start within this time is claimed again.
CLAIM_LEASE = timedelta(seconds=60)
# A started event is looked at again after this time, in case its workflow ended without recording an outcome.
STARTED_LEASE = timedelta(minutes=15)
# An event in flight this long gets its run noted and its lease renewed, and leaves its slot to others.
SETTLED_AFTER = timedelta(seconds=10)
# Claims look at the last two days; the sweep looks everywhere, and for leases that ran out.
CLAIM_SINCE = timedelta(days=2)
SWEEP_INTERVAL = timedelta(seconds=10)
SWEEP_BATCH = 100
BACKOFF = 2.0
# How often an event tries to join a run of its idempotency key that ends just then, before it waits for a while.
MAXIMUM_MEETINGS = 10
RPC_TIMEOUT = timedelta(seconds=10)

# Round robin over the sources that have a backlog, found by jumping through the index; a source with many
# events waiting takes no more than its share.
_CLAIM = text("""
WITH RECURSIVE backlog (source_key) AS (
    (SELECT source_key FROM events WHERE environment = :environment AND status = 'received' AND id >= :since
     ORDER BY source_key LIMIT 1)
    UNION ALL
    SELECT (SELECT source_key FROM events WHERE environment = :environment AND status = 'received'
            AND id >= :since AND source_key > backlog.source_key ORDER BY source_key LIMIT 1)
    FROM backlog WHERE backlog.source_key IS NOT NULL
), candidates AS (
    SELECT event.id, row_number() OVER (PARTITION BY backlog.source_key ORDER BY event.id) AS turn
    FROM backlog CROSS JOIN LATERAL (
        SELECT id FROM events
        WHERE environment = :environment AND source_key = backlog.source_key AND status = 'received' AND id >= :since
        ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    ) AS event
    WHERE backlog.source_key IS NOT NULL
), claimed AS (
    SELECT id FROM candidates ORDER BY turn, id LIMIT :limit
)
UPDATE events SET status = 'processing', lease_expires_at = now() + :lease
FROM claimed WHERE events.id = claimed.id AND events.id >= :since
RETURNING events.id, source_key, event_type, idempotency_key, received_at, workflow_id, run_id, origin
""")

_RECLAIM = text("""
WITH expired AS (
    SELECT id FROM events
    WHERE environment = :environment AND status = 'processing' AND lease_expires_at < now()
    ORDER BY lease_expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE events SET lease_expires_at = now() + :lease
FROM expired WHERE events.id = expired.id
RETURNING events.id, source_key, event_type, idempotency_key, received_at, workflow_id, run_id, origin
""")

# A lease that ran out is for the sweep to claim again, which looks at what became of the run.
_STARTED = text("""
UPDATE events SET workflow_id = v.workflow_id, run_id = v.run_id, lease_expires_at = now() + :lease
FROM unnest(CAST(:ids AS uuid[]), CAST(:workflow_ids AS text[]), CAST(:run_ids AS text[]))
    AS v (id, workflow_id, run_id)
WHERE events.id = v.id AND events.id >= :first AND events.id <= :last
  AND events.status = 'processing' AND events.lease_expires_at > now()
""")

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:workflow_id, 0))")


@dataclass(frozen=True)
class Claimed:
    """An event that this dispatcher has claimed. `run_id` is set when it was started before."""

    id: UUID
    source_key: str
    event_type: str | None
    idempotency_key: str | None
    received_at: datetime
    workflow_id: str | None
    run_id: str | None
    origin: str | None = None


@dataclass(frozen=True)
class Run:
    """The run that an event waits for: its own, or the one whose success it shares."""

    event_id: UUID
    workflow_id: str
    run_id: str


def workflow_id(environment: str, event: Claimed, *, enforce_idempotency: bool) -> str:
    """The id of the workflow that executes an event: the same for all events of one idempotency tuple.

    Rehearsals and replays are asked for by hand: each of them runs.
    """
    prefix = f"event/{environment}/{event.source_key}"
    if event.idempotency_key is None or not enforce_idempotency or event.origin is not None:
        return f"{prefix}/{event.id}"
    return f"{prefix}/{digest_of(event.event_type or '', event.idempotency_key).hex()}"


class Dispatcher:
    """Keeps a bounded number of an environment's events in flight."""

    def __init__(
        self,
        environment: str,
        *,
        engine: AsyncEngine,
        client: Client,
        configuration: Configuration,
        events: EventLog,
        maximum_in_flight: int,
    ) -> None:
        self.environment = environment
        self._engine = engine
        self._client = client
        self._configuration = configuration
        self._events = events
        self._maximum_in_flight = maximum_in_flight
        self._in_flight: dict[UUID, tuple[datetime, Run | None]] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._paused_until = 0.0

    def listen(self, listener: Listener) -> None:
        """Wake when an event of this environment arrives."""
        listener.subscribe(CHANNEL, self._wake.set, payload=self.environment)

    def release(self, event_id: UUID) -> None:
        """An event needs no attention any more: it is finished, or Temporal retries it."""
        if self._in_flight.pop(event_id, None) is not None:
            self._wake.set()

    async def run(self) -> None:
        """Dispatch until cancelled. What is being started then is finished by `drain`."""
        next_sweep = 0.0
        while True:
            try:
                swept = asyncio.get_running_loop().time() >= next_sweep
                if swept:
                    next_sweep = asyncio.get_running_loop().time() + SWEEP_INTERVAL.total_seconds()
                    await self._renew_leases()
                await self._dispatch(sweep=swept)
            except (DBAPIError, OSError) as error:
                logger.warning(
                    "dispatcher_waits_for_postgres",
                    extra={"environment": self.environment, "error": type(error).__name__},
                )
                await asyncio.sleep(BACKOFF)
            await self._sleep()

    async def drain(self) -> None:
        """Wait for the starts under way."""
        await asyncio.gather(*self._starting, return_exceptions=True)

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(SWEEP_INTERVAL.total_seconds() / 10):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _dispatch(self, *, sweep: bool) -> None:
        """Claim and start until nothing waits or no slot is free."""
        if asyncio.get_running_loop().time() < self._paused_until:
            return
        if sweep:
            self._start_all(await self._claim(_RECLAIM, limit=SWEEP_BATCH))
        since = first_id_at(datetime.fromtimestamp(0, now().tzinfo) if sweep else now() - CLAIM_SINCE)
        while (free := min(MAXIMUM_BATCH, self._maximum_in_flight - len(self._in_flight))) > 0:
            claimed = await self._claim(_CLAIM, limit=free, since=since)
            self._start_all(claimed)
            if not claimed:
                return

    async def _claim(self, statement: TextClause, **parameters: object) -> list[Claimed]:
        async with self._engine.begin() as connection:
            rows = await connection.execute(
                statement, {"environment": self.environment, "lease": CLAIM_LEASE, **parameters}
            )
            return [Claimed(**row) for row in rows.mappings()]

    def _start_all(self, events: Sequence[Claimed]) -> None:
        for event in events:
            self._in_flight[event.id] = (now(), None)
            task = asyncio.create_task(self._start_safely(event))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start_safely(self, event: Claimed) -> None:
        """Start one event; when Temporal is out, give it back and pause."""
        try:
            run = await self._start(event)
        except (Retryable, RPCError, DBAPIError, OSError) as error:
            self._in_flight.pop(event.id, None)
            self._pause(error)
            await self._give_back(event)
            return
        except Exception:
            # One event that cannot be started must not stop the others; its lease brings it back.
            self._in_flight.pop(event.id, None)
            logger.exception("event_not_started", extra={"event_id": str(event.id)})
            return
        if event.id in self._in_flight:
            self._in_flight[event.id] = (now(), run)
        if run is None or run.event_id != event.id:
            self.release(event.id)

    def _pause(self, error: Exception) -> None:
        """Claim nothing for a moment, and say so once."""
        clock = asyncio.get_running_loop().time()
        if clock >= self._paused_until:
            logger.warning(
                "dispatcher_pauses", extra={"environment": self.environment, "error": type(error).__name__}
            )
        self._paused_until = clock + BACKOFF

    async def _give_back(self, event: Claimed) -> None:
        try:
            await self._events.release([event.id], CHANNEL)
        except (DBAPIError, OSError):
            logger.warning("event_not_given_back", extra={"event_id": str(event.id)})

    async def _start(self, event: Claimed) -> Run | None:
        """The run that executes the event, or whose success it shares; None when the event is final already."""
        if event.run_id is not None and event.workflow_id is not None:
            description = await self._describe(event.workflow_id, event.run_id)
            if description is not None and await _owner(description) == event.id:
                return await self._adopt(event, description)
        endpoint = self._configuration.endpoint(self.environment, event.source_key)
        identifier = workflow_id(
            self.environment, event, enforce_idempotency=endpoint.enforce_idempotency if endpoint else True
        )
        window = endpoint.idempotency_window if endpoint else DEFAULT_IDEMPOTENCY_WINDOW
        for _ in range(MAXIMUM_MEETINGS):
            try:
                return await self._start_workflow(
                    event, identifier, WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
                )
            except WorkflowAlreadyStartedError:
                settled, run = await self._meet(event, identifier, window)
            if settled:
                return run
        raise Retryable("its duplicates start and end faster than it can join one", code="busy")

    async def _meet(self, event: Claimed, identifier: str, window: timedelta) -> tuple[bool, Run | None]:
        """Settle an event whose workflow id is taken. False: the taker is gone or failed, so start again."""
        description = await self._describe(identifier)
        if description is None:
            return False, None
        owner = await _owner(description)
        if owner == event.id:
            return True, await self._adopt(event, description)
        if description.status is WorkflowExecutionStatus.RUNNING:
            return await self._wait_for(event, description)
        if description.status is not WorkflowExecutionStatus.COMPLETED:
            return False, None
        if _inside(window, event, description):
            await self._mark_idempotent(event, description, owner)
            return True, None
        return await self._start_again(event, identifier, window)

    async def _start_again(
        self, event: Claimed, identifier: str, window: timedelta
    ) -> tuple[bool, Run | None]:
        """Execute again after the window. The lock keeps two dispatchers from doing so one after the other."""
        async with self._engine.begin() as connection:
            await connection.execute(_LOCK, {"workflow_id": identifier})
            description = await self._describe(identifier)
            if description is None or not _executed_before(window, event, description):
                return False, None
            try:
                run = await self._start_workflow(event, identifier, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
            except WorkflowAlreadyStartedError:
                return False, None
            return True, run

    async def _start_workflow(self, event: Claimed, identifier: str, reuse: WorkflowIDReusePolicy) -> Run:
        handle = await self._client.start_workflow(
            ProcessEvent.run,
            EventRef(event_id=event.id, environment=self.environment, source_key=event.source_key),
            id=identifier,
            task_queue=task_queue(self.environment),
            id_reuse_policy=reuse,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            memo={"event_id": str(event.id)},
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(ENVIRONMENT, self.environment),
                    SearchAttributePair(SOURCE, event.source_key),
                    SearchAttributePair(EVENT_TYPE, event.event_type or ""),
                ]
            ),
            static_summary=f"{event.source_key}: {event.event_type or 'unidentified event'}",
            request_eager_start=True,
            rpc_timeout=RPC_TIMEOUT,
        )
        return Run(event.id, identifier, handle.first_execution_run_id or "")

    async def _describe(
        self, identifier: str, run_id: str | None = None
    ) -> WorkflowExecutionDescription | None:
        handle = self._client.get_workflow_handle(identifier, run_id=run_id)
        try:
            return await handle.describe(rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def _adopt(self, event: Claimed, description: WorkflowExecutionDescription) -> Run | None:
        """This event's own workflow. Closed without an outcome in the log: someone ended it, or the log lost it."""
        if description.status is WorkflowExecutionStatus.RUNNING:
            run = Run(event.id, description.id, description.run_id)
            await self._note([run])
            return run
        status, error = await self._outcome(description)
        await self._events.finish(
            Finished(
                id=event.id,
                status=status,
                finished_at=description.close_time or now(),
                error=error,
                workflow_id=description.id,
                run_id=description.run_id,
            )
        )
        return None

    async def _outcome(self, description: WorkflowExecutionDescription) -> tuple[EventStatus, str | None]:
        """What a closed workflow says of its event, when the event log does not."""
        handle = self._client.get_workflow_handle(description.id, run_id=description.run_id)
        try:
            result = await handle.result(follow_runs=False, rpc_timeout=RPC_TIMEOUT)
        except WorkflowFailureError as error:
            if isinstance(error.cause, ApplicationError) and error.cause.type == EventStatus.REJECTED:
                return EventStatus.REJECTED, error.cause.message
            ending = description.status.name.lower() if description.status else "gone"
            return EventStatus.FAILED, f"the workflow was {ending} in Temporal: {error.cause}"
        return EventOutcome.model_validate(result).status, None

    async def _wait_for(
        self, event: Claimed, description: WorkflowExecutionDescription
    ) -> tuple[bool, Run | None]:
        """Tell the running workflow of the duplicate: it settles it when it ends."""
        run = Run(await _owner(description) or event.id, description.id, description.run_id)
        await self._note([Run(event.id, run.workflow_id, run.run_id)])
        handle = self._client.get_workflow_handle(description.id, run_id=description.run_id)
        try:
            await handle.signal(ProcessEvent.duplicate_arrived, event.id, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False, None
            raise
        return True, run

    async def _mark_idempotent(
        self, event: Claimed, description: WorkflowExecutionDescription, owner: UUID | None
    ) -> None:
        await self._events.finish(
            Finished(
                id=event.id,
                status=EventStatus.IDEMPOTENT,
                finished_at=now(),
                workflow_id=description.id,
                run_id=description.run_id,
                duplicate_of=owner,
            )
        )

    async def _renew_leases(self) -> None:
        """Note the runs of events that take long, so that their lease outlives them and their slot is free."""
        settled = [
            (event_id, run)
            for event_id, (since, run) in self._in_flight.items()
            if run is not None and now() - since > SETTLED_AFTER
        ]
        await self._note([run for _, run in settled if run is not None])
        for event_id, _ in settled:
            self.release(event_id)

    async def _note(self, runs: Sequence[Run]) -> None:
        if not runs:
            return
        async with self._engine.begin() as connection:
            await connection.execute(
                _STARTED,
                {
                    "ids": [run.event_id for run in runs],
                    "workflow_ids": [run.workflow_id for run in runs],
                    "run_ids": [run.run_id for run in runs],
                    "lease": STARTED_LEASE,
                    "first": min(run.event_id for run in runs),
                    "last": max(run.event_id for run in runs),
                },
            )


async def _owner(description: WorkflowExecutionDescription) -> UUID | None:
    """The event that a workflow was started for."""
    value = (await description.memo()).get("event_id")
    return UUID(value) if value else None


def _inside(window: timedelta, event: Claimed, description: WorkflowExecutionDescription) -> bool:
    """Whether the event came within the window after the successful execution."""
    return description.close_time is not None and event.received_at - description.close_time < window


def _executed_before(window: timedelta, event: Claimed, description: WorkflowExecutionDescription) -> bool:
    return description.status is WorkflowExecutionStatus.COMPLETED and not _inside(window, event, description)
