"""Stage 3 of an event: the dispatcher, in the worker. Claims received events of its environment (`app/claims.py`)
and starts one workflow for each (`app/workflows/process_event.py`).

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

from sqlalchemy import text
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

from app import metrics, tracing
from app.claims import Claimed, Claims, Leases, Run, workflow_id
from app.config import Configuration
from app.event_log import CHANNEL, SUCCESSFUL, EventLog, Finished
from app.listener import Listener
from app.models.contracts import EventOutcome, EventRef
from app.models.source import DEFAULT_IDEMPOTENCY_WINDOW
from app.models.status import EventStatus
from app.models.types import first_id_at, now
from app.outages import Outage
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
# Slots are filled again when half of a source's share came free, or so many seconds after the first: events that are
# claimed together go through their stages together, and share statements.
REFILL_AFTER = 0.25
BACKOFF = 2.0
# How often an event tries to join a run of its idempotency key that ends just then, before it is postponed.
MAXIMUM_MEETINGS = 10
MEETING_PAUSE = 0.02
# Executions after the window, each of which holds a database connection while it talks to Temporal.
MAXIMUM_REPEATS = 4
RPC_TIMEOUT = timedelta(seconds=10)
# Temporal refuses a summary of more than 400 bytes.
MAXIMUM_SUMMARY = 400

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:workflow_id, 0))")


@dataclass
class InFlight:
    """A slot in use. `since` is the event loop's time, which no step of the clock moves."""

    source_key: str
    since: float
    run: Run | None = None


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
        self._claims = Claims(environment, engine, self._leases)
        self._in_flight: dict[UUID, InFlight] = {}
        self._under_way: set[asyncio.Task[Any]] = set()
        self._claiming = asyncio.Lock()
        self._repeating = asyncio.Semaphore(MAXIMUM_REPEATS)
        self._wake = asyncio.Event()
        self._came_free = 0
        self._refill: asyncio.TimerHandle | None = None
        self._paused_until = 0.0
        metrics.watch_dispatcher(environment, lambda: len(self._in_flight), maximum_in_flight)

    def listen(self, listener: Listener) -> None:
        """Wake when an event of this environment arrives."""
        listener.subscribe(CHANNEL, self._wake.set, payload=self.environment)

    def release(self, event_id: UUID) -> None:
        """An event needs no attention any more: it is finished, or Temporal retries it."""
        if self._in_flight.pop(event_id, None) is None:
            return
        self._came_free += 1
        if self._came_free > self._share // 2:
            self._wake.set()
        elif self._refill is None:
            self._refill = asyncio.get_running_loop().call_later(REFILL_AFTER, self._wake.set)

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
        outage = Outage(logger, "dispatcher_waits_for_postgres", environment=self.environment)
        while True:
            try:
                if _clock() >= self._paused_until:
                    await work()
                    outage.is_over()
            except (SQLAlchemyError, OSError) as error:
                outage.goes_on(error=type(error).__name__)
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
        self._came_free = 0
        if self._refill is not None:
            self._refill.cancel()
            self._refill = None
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

    async def _finish_even_if_cancelled(self, claim: Coroutine[Any, Any, bool]) -> bool:
        """A claim that is committed but not started would wait for its lease to run out."""
        return await asyncio.shield(self._look_after(claim))

    async def _claim_waiting(self, since: UUID) -> bool:
        """Claim and start as many as there are slots for, up to a batch; whether more may wait and find a slot."""
        async with self._claiming:
            free = self._free_slots()
            if not free:
                return False
            busy = Counter(each.source_key for each in self._in_flight.values())
            claimed = await self._claims.take_waiting(since, limit=free, share=self._share, busy=busy)
            metrics.count_claimed(self.environment, [each.received_at for each in claimed])
            await self._events.load_ahead([each.id for each in claimed])
            self._start_all(claimed)
            return len(claimed) == free

    async def _reclaim(self) -> bool:
        claimed = await self._claims.take_expired()
        await asyncio.gather(*self._start_all(claimed))
        return bool(claimed)

    def _free_slots(self) -> int:
        return max(0, min(MAXIMUM_BATCH, self._maximum_in_flight - len(self._in_flight)))

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
            with tracing.dispatching(event.id, self.environment, event.traceparent):
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
        metrics.count_finished(self.environment, event.source_key, EventStatus.FAILED, event.received_at)
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
        metrics.count_dispatched(self.environment)
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
            await self._claims.note([run])
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
        metrics.count_finished(self.environment, event.source_key, status, event.received_at)
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
        if not await self._claims.note([Run(event.id, description.id, description.run_id)]):
            # The lease ran out meanwhile: whoever claims it next decides.
            return True
        status = await self._claims.status(owner) if owner else None
        if status in SUCCESSFUL:
            await self._mark_idempotent(event, description, owner)
        return status not in (EventStatus.FAILED, EventStatus.REJECTED)

    async def _postpone(self, event: Claimed) -> None:
        """Its duplicates start and end faster than it can join one: the sweep tries again."""
        logger.info("event_postponed", extra={"event_id": str(event.id)})
        await self._claims.postpone(event.id)

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
        metrics.count_idempotent(self.environment, event.source_key, 1)

    async def _note_long_runs(self) -> None:
        """Note the runs of events that take long, so that their lease outlives them and their slot is free."""
        settled = [
            each.run
            for each in self._in_flight.values()
            if each.run is not None and _clock() - each.since > SETTLED_AFTER.total_seconds()
        ]
        await self._claims.note(settled)
        for run in settled:
            self.release(run.event_id)

    async def _release_ended(self) -> None:
        """Free the slots of events that another worker process finished."""
        for event_id in await self._claims.ended(self._in_flight):
            self.release(event_id)


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
