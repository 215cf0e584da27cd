"""Stage 3 of an event: the dispatcher, in the worker. Claims received events of its environment and starts one
workflow for each (`app/workflows/process_event.py`).

The workflow's id derives from the idempotency tuple and Temporal refuses a second execution, so Temporal itself
is the record of what ran. Claiming is under a lease and starting is idempotent: an event that is claimed twice
runs once.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.exc import SQLAlchemyError
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
from app.event_log import CHANNEL, SUCCESSFUL, EventLog, Finished
from app.listener import Listener
from app.models.contracts import EventOutcome, EventRef
from app.models.source import DEFAULT_IDEMPOTENCY_WINDOW
from app.models.status import EventStatus
from app.models.types import digest_of, first_id_at, now
from app.temporal import ENVIRONMENT, EVENT_TYPE, SOURCE, task_queue
from app.workflows.process_event import ProcessEvent

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

MAXIMUM_BATCH = 50
# An event in flight this long gets its run noted and its lease renewed, and leaves its slot to others.
SETTLED_AFTER = timedelta(seconds=10)
# Claims look at the last two days; the sweep looks everywhere, and for leases that ran out.
CLAIM_SINCE = timedelta(days=2)
LOOK_INTERVAL = 1.0
SWEEP_BATCH = 100
BACKOFF = 2.0
# How often an event tries to join a run of its idempotency key that ends just then, before it is postponed.
MAXIMUM_MEETINGS = 10
MEETING_PAUSE = 0.02
POSTPONED = timedelta(seconds=5)
# Executions after the window, each of which holds a database connection while it talks to Temporal.
MAXIMUM_REPEATS = 4
RPC_TIMEOUT = timedelta(seconds=10)
# Temporal refuses a summary of more than 400 bytes.
MAXIMUM_SUMMARY = 400

# Round robin over the sources that have a backlog, found by jumping through the index; those with fewer events
# in flight come first, and none has more than its share of the slots.
_CLAIM = text("""
WITH RECURSIVE backlog (source_key) AS (
    (SELECT source_key FROM events WHERE environment = :environment AND status = 'received' AND id >= :since
     ORDER BY source_key LIMIT 1)
    UNION ALL
    SELECT (SELECT source_key FROM events WHERE environment = :environment AND status = 'received'
            AND id >= :since AND source_key > backlog.source_key ORDER BY source_key LIMIT 1)
    FROM backlog WHERE backlog.source_key IS NOT NULL
), waiting AS (
    SELECT backlog.source_key, coalesce(busy.in_flight, 0) AS in_flight
    FROM backlog LEFT JOIN unnest(CAST(:busy_sources AS text[]), CAST(:busy_counts AS integer[]))
        AS busy (source_key, in_flight) ON busy.source_key = backlog.source_key
    WHERE backlog.source_key IS NOT NULL
), candidates AS (
    SELECT event.id, waiting.in_flight + row_number() OVER (PARTITION BY waiting.source_key ORDER BY event.id) AS turn
    FROM waiting CROSS JOIN LATERAL (
        SELECT id FROM events
        WHERE environment = :environment AND source_key = waiting.source_key AND status = 'received' AND id >= :since
        ORDER BY id LIMIT least(:limit, greatest(0, :share - waiting.in_flight)) FOR UPDATE SKIP LOCKED
    ) AS event
), claimed AS (
    SELECT id FROM candidates ORDER BY turn, id LIMIT :limit
)
UPDATE events SET status = 'processing', lease_expires_at = now() + :lease
FROM claimed WHERE events.id = claimed.id AND events.id >= :since
RETURNING events.id, source_key, event_type, idempotency_key, received_at, workflow_id, run_id, origin,
    false AS was_claimed
""")

_RECLAIM = text("""
WITH expired AS (
    SELECT id FROM events
    WHERE environment = :environment AND status = 'processing' AND lease_expires_at < now()
    ORDER BY lease_expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE events SET lease_expires_at = now() + :lease
FROM expired WHERE events.id = expired.id
RETURNING events.id, source_key, event_type, idempotency_key, received_at, workflow_id, run_id, origin,
    true AS was_claimed
""")

# A lease that ran out is for the sweep to claim again, which looks at what became of the run.
_STARTED = text("""
UPDATE events SET workflow_id = v.workflow_id, run_id = v.run_id, lease_expires_at = now() + :lease
FROM unnest(CAST(:ids AS uuid[]), CAST(:workflow_ids AS text[]), CAST(:run_ids AS text[]))
    AS v (id, workflow_id, run_id)
WHERE events.id = v.id AND events.id >= :first AND events.id <= :last
  AND events.status = 'processing' AND events.lease_expires_at > now()
RETURNING events.id
""")

_POSTPONE = text(
    "UPDATE events SET lease_expires_at = now() + :pause WHERE id = :id AND status = 'processing'"
)

_STATUS = text("SELECT status FROM events WHERE id = :id")

_ENDED = text("SELECT id FROM events WHERE id = ANY(CAST(:ids AS uuid[])) AND status <> 'processing'")

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:workflow_id, 0))")


@dataclass(frozen=True)
class Leases:
    """How long a claim holds. `claim`: one that is not followed by a start is claimed again. `run`: a started
    event is looked at again, in case its workflow ended without recording an outcome. `sweep`: how often leases
    that ran out are looked for."""

    claim: timedelta = timedelta(seconds=60)
    run: timedelta = timedelta(minutes=15)
    sweep: timedelta = timedelta(seconds=10)


@dataclass(frozen=True)
class Claimed:
    """An event that this dispatcher has claimed. `run_id` is set when its run was noted; `was_claimed`, when an
    earlier claim's lease ran out, so that it may have been started."""

    id: UUID
    source_key: str
    event_type: str | None
    idempotency_key: str | None
    received_at: datetime
    workflow_id: str | None
    run_id: str | None
    origin: str | None = None
    was_claimed: bool = False


@dataclass(frozen=True)
class Run:
    """The run that an event waits for: its own, or the one whose success it shares."""

    event_id: UUID
    workflow_id: str
    run_id: str


@dataclass
class InFlight:
    """A slot in use. `since` is the event loop's time, which no step of the clock moves."""

    source_key: str
    since: float
    run: Run | None = None


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
        leases: Leases | None = None,
    ) -> None:
        self.environment = environment
        self._engine = engine
        self._client = client
        self._configuration = configuration
        self._events = events
        self._maximum_in_flight = maximum_in_flight
        # A source that floods leaves half of the slots to the others, and what it has in flight is what they wait for.
        self._share = max(1, maximum_in_flight // 2)
        self._leases = leases or Leases()
        self._in_flight: dict[UUID, InFlight] = {}
        self._under_way: set[asyncio.Task[Any]] = set()
        self._claiming = asyncio.Lock()
        self._repeating = asyncio.Semaphore(MAXIMUM_REPEATS)
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
        """Dispatch until cancelled. What is being claimed and started then is finished by `drain`."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._repeat(self._dispatch, self._woken))
            both.create_task(self._repeat(self._sweep, self._until_next_sweep))

    async def drain(self) -> None:
        """Wait for the claims and starts under way."""
        while self._under_way:
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _repeat(
        self, work: Callable[[], Awaitable[None]], pause: Callable[[], Awaitable[None]]
    ) -> None:
        """Work and pause in turns, whatever happens: a dispatcher that ends would leave all events waiting."""
        while True:
            try:
                if _clock() >= self._paused_until:
                    await work()
            except (SQLAlchemyError, OSError) as error:
                logger.warning(
                    "dispatcher_waits_for_postgres",
                    extra={"environment": self.environment, "error": type(error).__name__},
                )
                await asyncio.sleep(BACKOFF)
            except Exception:
                logger.exception("dispatcher_failed", extra={"environment": self.environment})
                await asyncio.sleep(BACKOFF)
            await pause()

    async def _woken(self) -> None:
        try:
            async with asyncio.timeout(LOOK_INTERVAL):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _until_next_sweep(self) -> None:
        await asyncio.sleep(self._leases.sweep.total_seconds())

    async def _dispatch(self) -> None:
        """Start what waits, as far as there are slots."""
        if not self._free_slots():
            await self._release_ended()
        await self._fill_slots(now() - CLAIM_SINCE)

    async def _sweep(self) -> None:
        """Look after what nobody tells: runs that take long, leases that ran out, events of long ago."""
        await self._note_long_runs()
        while await self._finish_even_if_cancelled(self._reclaim()):
            continue
        await self._fill_slots(datetime.fromtimestamp(0, UTC))

    async def _fill_slots(self, since: datetime) -> None:
        """Claim and start until nothing waits or no slot is free."""
        while await self._finish_even_if_cancelled(self._claim_waiting(first_id_at(since))):
            continue

    async def _finish_even_if_cancelled(self, claim: Coroutine[Any, Any, int]) -> int:
        """A claim that is committed but not started would wait for its lease to run out."""
        return await asyncio.shield(self._look_after(claim))

    async def _claim_waiting(self, since: UUID) -> int:
        async with self._claiming:
            free = self._free_slots()
            if not free:
                return 0
            busy = Counter(each.source_key for each in self._in_flight.values())
            claimed = await self._claim(
                _CLAIM,
                limit=free,
                since=since,
                share=self._share,
                busy_sources=list(busy),
                busy_counts=list(busy.values()),
            )
            self._start_all(claimed)
            return len(claimed)

    async def _reclaim(self) -> int:
        claimed = await self._claim(_RECLAIM, limit=SWEEP_BATCH)
        await asyncio.gather(*self._start_all(claimed))
        return len(claimed)

    def _free_slots(self) -> int:
        return max(0, min(MAXIMUM_BATCH, self._maximum_in_flight - len(self._in_flight)))

    async def _claim(self, statement: TextClause, **parameters: object) -> list[Claimed]:
        async with self._engine.begin() as connection:
            rows = await connection.execute(
                statement, {"environment": self.environment, "lease": self._leases.claim, **parameters}
            )
            return [Claimed(**row) for row in rows.mappings()]

    def _start_all(self, events: Sequence[Claimed]) -> list[asyncio.Task[None]]:
        for event in events:
            self._in_flight[event.id] = InFlight(event.source_key, _clock())
        return [self._look_after(self._start_safely(event)) for event in events]

    def _look_after(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Do it in a task that `drain` waits for."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _start_safely(self, event: Claimed) -> None:
        """Start one event; when Temporal or Postgres is out, give it back and pause."""
        try:
            run = await self._start(event)
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT:
                # Its own fault: it would be refused each time, and must not hold up the others.
                await self._fail(event, f"Temporal refused it: {error.message}")
            else:
                await self._give_back(event, error)
        except (SQLAlchemyError, OSError) as error:
            await self._give_back(event, error)
        except Exception:
            # One event that cannot be started must not stop the others; its lease brings it back.
            self.release(event.id)
            logger.exception("event_not_started", extra={"event_id": str(event.id)})
        else:
            if run is None:
                self.release(event.id)
            elif slot := self._in_flight.get(event.id):
                slot.run = run

    async def _give_back(self, event: Claimed, error: Exception) -> None:
        """Let it be claimed again, claim nothing for a moment, and say so once."""
        if _clock() >= self._paused_until:
            logger.warning(
                "dispatcher_pauses", extra={"environment": self.environment, "error": type(error).__name__}
            )
        self._paused_until = _clock() + BACKOFF
        self.release(event.id)
        try:
            await self._events.release([event.id])
        except (SQLAlchemyError, OSError):
            logger.warning("event_not_given_back", extra={"event_id": str(event.id)})

    async def _fail(self, event: Claimed, problem: str) -> None:
        logger.error("event_not_startable", extra={"event_id": str(event.id), "error": problem})
        self.release(event.id)
        try:
            await self._events.finish(Finished(event.id, EventStatus.FAILED, now(), error=problem))
        except (SQLAlchemyError, OSError):
            logger.warning("event_not_failed", extra={"event_id": str(event.id)})

    async def _start(self, event: Claimed) -> Run | None:
        """The run that executes the event; None when it needs no slot: it is final, waits for another run, or is
        postponed."""
        endpoint = self._configuration.endpoint(self.environment, event.source_key)
        if event.was_claimed and (own := await self._own_run(event)):
            return await self._adopt(event, own)
        identifier = workflow_id(
            self.environment, event, enforce_idempotency=endpoint.enforce_idempotency if endpoint else True
        )
        window = endpoint.idempotency_window if endpoint else DEFAULT_IDEMPOTENCY_WINDOW
        for meeting in range(MAXIMUM_MEETINGS):
            try:
                return await self._start_workflow(
                    event, identifier, WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
                )
            except WorkflowAlreadyStartedError:
                settled, run = await self._meet(event, identifier, window)
            if settled:
                return run
            await asyncio.sleep(min(MEETING_PAUSE * 2**meeting, 1.0))
        await self._postpone(event)
        return None

    async def _own_run(self, event: Claimed) -> WorkflowExecutionDescription | None:
        """The run that an earlier claim of this event started, whatever the settings were then."""
        known = [(event.workflow_id, event.run_id)] if event.workflow_id else []
        for enforced in (True, False):
            known.append((workflow_id(self.environment, event, enforce_idempotency=enforced), None))
        for identifier, run_id in dict.fromkeys(known):
            description = await self._describe(identifier, run_id)
            if description is not None and await _owner(description) == event.id:
                return description
        return None

    async def _meet(self, event: Claimed, identifier: str, window: timedelta) -> tuple[bool, Run | None]:
        """Settle an event whose workflow id is taken. False: the taker is gone or failed, so start again."""
        description = await self._describe(identifier)
        if description is None:
            return False, None
        owner = await _owner(description)
        if owner == event.id:
            return True, await self._adopt(event, description)
        if description.status is WorkflowExecutionStatus.RUNNING:
            return await self._wait_for(event, description, owner), None
        if description.status is not WorkflowExecutionStatus.COMPLETED:
            return False, None
        if _inside(window, event, description):
            await self._mark_idempotent(event, description, owner)
            return True, None
        async with self._repeating:
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
            static_summary=_capped(f"{event.source_key}: {event.event_type or 'unidentified event'}"),
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
        self, event: Claimed, description: WorkflowExecutionDescription, owner: UUID | None
    ) -> bool:
        """Wait for another event's run, which settles this one when it ends; False when it is ending.

        Whoever records that run's outcome then looks for those that wait for it (`EventLog.finish`). Here the note
        is committed before the outcome is looked at, there the outcome before the notes: one sees the other.
        """
        if not await self._note([Run(event.id, description.id, description.run_id)]):
            # The lease ran out meanwhile: whoever claims it next decides.
            return True
        status = await self._status(owner) if owner else None
        if status in SUCCESSFUL:
            await self._mark_idempotent(event, description, owner)
        return status not in (EventStatus.FAILED, EventStatus.REJECTED)

    async def _status(self, event_id: UUID) -> str | None:
        async with self._engine.connect() as connection:
            status: str | None = await connection.scalar(_STATUS, {"id": event_id})
            return status

    async def _postpone(self, event: Claimed) -> None:
        """Its duplicates start and end faster than it can join one: the sweep tries again."""
        logger.info("event_postponed", extra={"event_id": str(event.id)})
        async with self._engine.begin() as connection:
            await connection.execute(_POSTPONE, {"id": event.id, "pause": POSTPONED})

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

    async def _note_long_runs(self) -> None:
        """Note the runs of events that take long, so that their lease outlives them and their slot is free."""
        settled = [
            each.run
            for each in self._in_flight.values()
            if each.run is not None and _clock() - each.since > SETTLED_AFTER.total_seconds()
        ]
        await self._note(settled)
        for run in settled:
            self.release(run.event_id)

    async def _release_ended(self) -> None:
        """Free the slots of events that another worker process finished."""
        async with self._engine.connect() as connection:
            ended = await connection.scalars(_ENDED, {"ids": list(self._in_flight)})
            for event_id in ended:
                self.release(event_id)

    async def _note(self, runs: Sequence[Run]) -> set[UUID]:
        """Note which run each event waits for, and renew its lease; the events for which that was done."""
        if not runs:
            return set()
        async with self._engine.begin() as connection:
            noted = await connection.scalars(
                _STARTED,
                {
                    "ids": [run.event_id for run in runs],
                    "workflow_ids": [run.workflow_id for run in runs],
                    "run_ids": [run.run_id for run in runs],
                    "lease": self._leases.run,
                    "first": min(run.event_id for run in runs),
                    "last": max(run.event_id for run in runs),
                },
            )
            return set(noted)


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _capped(summary: str) -> str:
    return summary.encode()[:MAXIMUM_SUMMARY].decode(errors="ignore")


async def _owner(description: WorkflowExecutionDescription) -> UUID | None:
    """The event that a workflow was started for."""
    value = (await description.memo()).get("event_id")
    return UUID(value) if value else None


def _inside(window: timedelta, event: Claimed, description: WorkflowExecutionDescription) -> bool:
    """Whether the event came within the window after the successful execution."""
    return description.close_time is not None and event.received_at - description.close_time < window


def _executed_before(window: timedelta, event: Claimed, description: WorkflowExecutionDescription) -> bool:
    return description.status is WorkflowExecutionStatus.COMPLETED and not _inside(window, event, description)
