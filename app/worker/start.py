"""How an event's workflow is started, or the event settled without one of its own: the second half of stage
3.

The event log knows what succeeded and is asked first: Temporal may have lost it. The workflow's id derives
from the idempotency tuple and Temporal refuses a second execution, so that concurrent copies are kept apart.
An event whose id is taken is idempotent, waits for the run that has it, or starts after it.
"""

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
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

from app.events.claims import Claimed, Claims, Run, workflow_id
from app.events.event_log import EventLog, Finished
from app.events.successes import Success, Successes
from app.models.contracts import EventOutcome, EventRef
from app.models.source import DEFAULT_IDEMPOTENCY_WINDOW
from app.models.status import EventStatus
from app.models.types import now
from app.runtime import metrics
from app.runtime.temporal import ENVIRONMENT, EVENT_TYPE, SOURCE, task_queue
from app.sources.live import Configuration
from app.workflows.process_event import ProcessEvent

logger = logging.getLogger(__name__)

# How often an event tries to join a run of its idempotency key that ends just then, before it is postponed.
MAXIMUM_MEETINGS = 10
MEETING_PAUSE = 0.02
ENDED = frozenset({EventStatus.SUCCEEDED, EventStatus.IGNORED, EventStatus.FAILED, EventStatus.REJECTED})
# Executions after the window, each of which holds a database connection while it talks to Temporal.
MAXIMUM_REPEATS = 4
RPC_TIMEOUT = timedelta(seconds=10)
# Temporal refuses a summary of more than 400 bytes.
MAXIMUM_SUMMARY = 400

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:workflow_id, 0))")


class EventStarter:
    """Starts the workflows of an environment's events."""

    def __init__(
        self,
        environment: str,
        *,
        engine: AsyncEngine,
        client: Client,
        configuration: Configuration,
        events: EventLog,
        claims: Claims,
    ) -> None:
        self._environment = environment
        self._engine = engine
        self._client = client
        self._configuration = configuration
        self._events = events
        self._claims = claims
        self._successes = Successes(engine)
        self._repeating = asyncio.Semaphore(MAXIMUM_REPEATS)

    async def start(self, event: Claimed) -> Run | None:
        """The run that executes the event; None when it needs no slot: it is final, waits for another run, or
        is postponed."""
        endpoint = self._configuration.endpoint(self._environment, event.source_key)
        if event.was_claimed and (own := await self._own_run(event)):
            return await self._adopt(event, own)
        identifier = workflow_id(
            self._environment, event, enforce_idempotency=endpoint.enforce_idempotency if endpoint else True
        )
        window = endpoint.idempotency_window if endpoint else DEFAULT_IDEMPOTENCY_WINDOW
        if success := await self._successes.of(event, identifier, window):
            await self._mark_idempotent(event, success)
            return None
        if not event.holds_keys:
            if not await self._is_repeat(event, identifier, window):
                await self._claims.queue_again(event)
            return None
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
            known.append((workflow_id(self._environment, event, enforce_idempotency=enforced), None))
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
        if _inside(window, event, description) and not await self._ran_nothing(description):
            await self._mark_idempotent(event, _success(description, owner))
            return True, None
        async with self._repeating:
            return await self._start_again(event, identifier, window)

    async def _is_repeat(self, event: Claimed, identifier: str, window: timedelta) -> bool:
        """Settle an event that does not hold its keys, if it repeats another one: it has nothing to
        execute."""
        description = await self._describe(identifier)
        owner = None if description is None else await _owner(description)
        if description is None or owner == event.id:
            return False
        if description.status is WorkflowExecutionStatus.RUNNING:
            return await self._wait_for(event, description, owner)
        if description.status is not WorkflowExecutionStatus.COMPLETED:
            return False
        if not _inside(window, event, description) or await self._ran_nothing(description):
            return False
        await self._mark_idempotent(event, _success(description, owner))
        return True

    async def _start_again(
        self, event: Claimed, identifier: str, window: timedelta
    ) -> tuple[bool, Run | None]:
        """Execute again, after the window or after an execution in which nothing ran. The lock keeps two
        dispatchers from doing so one after the other."""
        async with self._engine.begin() as connection:
            await connection.execute(_LOCK, {"workflow_id": identifier})
            description = await self._describe(identifier)
            if description is None or description.status is not WorkflowExecutionStatus.COMPLETED:
                return False, None
            if _inside(window, event, description) and not await self._ran_nothing(description):
                return False, None
            try:
                run = await self._start_workflow(event, identifier, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
            except WorkflowAlreadyStartedError:
                return False, None
            return True, run

    async def _start_workflow(self, event: Claimed, identifier: str, reuse: WorkflowIDReusePolicy) -> Run:
        handle = await self._client.start_workflow(
            ProcessEvent.run,
            EventRef(event_id=event.id, environment=self._environment, source_key=event.source_key),
            id=identifier,
            task_queue=task_queue(self._environment),
            id_reuse_policy=reuse,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            memo={"event_id": str(event.id)},
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(ENVIRONMENT, self._environment),
                    SearchAttributePair(SOURCE, event.source_key),
                    SearchAttributePair(EVENT_TYPE, event.event_type or ""),
                ]
            ),
            static_summary=_capped(f"{event.source_key}: {event.event_type or 'unidentified event'}"),
            request_eager_start=True,
            rpc_timeout=RPC_TIMEOUT,
        )
        metrics.count_dispatched(self._environment)
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
        """This event's own workflow. Closed without an outcome in the log: someone ended it, or the log lost
        it."""
        if description.status is WorkflowExecutionStatus.RUNNING:
            run = Run(event.id, description.id, description.run_id)
            await self._claims.note([run])
            return run
        status, error, ran_nothing = await self._outcome(description)
        await self._events.finish(
            Finished(
                id=event.id,
                status=status,
                finished_at=description.close_time or now(),
                error=error,
                workflow_id=description.id,
                run_id=description.run_id,
                ran_nothing=ran_nothing,
            )
        )
        metrics.count_finished(self._environment, event.source_key, status, event.received_at)
        return None

    async def _outcome(
        self, description: WorkflowExecutionDescription
    ) -> tuple[EventStatus, str | None, bool]:
        """What a closed workflow says of its event, when the event log does not: status, error, and whether
        nothing ran."""
        try:
            outcome = await self._result(description)
        except WorkflowFailureError as error:
            if isinstance(error.cause, ApplicationError) and error.cause.type == EventStatus.REJECTED:
                return EventStatus.REJECTED, error.cause.message, False
            ending = description.status.name.lower() if description.status else "gone"
            return EventStatus.FAILED, f"the workflow was {ending} in Temporal: {error.cause}", False
        return outcome.status, None, outcome.ran_nothing

    async def _ran_nothing(self, description: WorkflowExecutionDescription) -> bool:
        """Whether a completed workflow is no success that its duplicates repeat."""
        return (await self._result(description)).ran_nothing

    async def _result(self, description: WorkflowExecutionDescription) -> EventOutcome:
        handle = self._client.get_workflow_handle(description.id, run_id=description.run_id)
        result = await handle.result(follow_runs=False, rpc_timeout=RPC_TIMEOUT)
        return EventOutcome.model_validate(result)

    async def _wait_for(
        self, event: Claimed, description: WorkflowExecutionDescription, owner: UUID | None
    ) -> bool:
        """Wait for another event's run, which settles this one when it ends; False when it is ending.

        Whoever records that run's outcome then looks for those that wait for it (`EventLog.finish`). Here the
        note is committed before the outcome is looked at, there the outcome before the notes: one sees the
        other.
        """
        if not await self._claims.share_run(event, Run(event.id, description.id, description.run_id)):
            # The lease ran out meanwhile: whoever claims it next decides.
            return True
        status = await self._claims.status(owner) if owner else None
        if status not in ENDED:
            return True
        if event.is_ordered:
            # It has let go of its keys: it is claimed once more, at its own place.
            await asyncio.sleep(MEETING_PAUSE)
            await self._claims.queue_again(event)
            return True
        # Of a success the run's result, which is about to be there, tells whether it is one to share.
        return False

    async def _postpone(self, event: Claimed) -> None:
        """Its duplicates start and end faster than it can join one: the sweep tries again."""
        logger.info("event_postponed", extra={"event_id": str(event.id)})
        await self._claims.postpone(event.id)

    async def _mark_idempotent(self, event: Claimed, success: Success) -> None:
        await self._events.finish(
            Finished(
                id=event.id,
                status=EventStatus.IDEMPOTENT,
                finished_at=now(),
                workflow_id=success.workflow_id,
                run_id=success.run_id,
                duplicate_of=success.event_id,
            )
        )
        metrics.count_idempotent(self._environment, event.source_key, 1)


def _success(description: WorkflowExecutionDescription, owner: UUID | None) -> Success:
    return Success(owner, description.id, description.run_id)


def _capped(summary: str) -> str:
    return summary.encode()[:MAXIMUM_SUMMARY].decode(errors="ignore")


async def _owner(description: WorkflowExecutionDescription) -> UUID | None:
    """The event that a workflow was started for."""
    value = (await description.memo()).get("event_id")
    return UUID(value) if value else None


def _inside(window: timedelta, event: Claimed, description: WorkflowExecutionDescription) -> bool:
    """Whether the event came within the window after the successful execution."""
    return description.close_time is not None and event.asked_at - description.close_time < window
