"""Stage 4 of an event: the workflow that verifies it, maps it, runs its actions and records the outcome.

Deterministic, and it sees ids and verdicts only. Its activities are in `app/activities`: `verify_event`,
`map_event`, one for each action type under the type's own name, `record_outcome`. `try_event` tries all of
them once, in one local activity. What that leaves is done in activities of their own: each first as a local
one, and as a regular one when that fails.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import (
        ActionOutcome,
        ActionRef,
        EventOutcome,
        EventRef,
        FirstTry,
        MappedEvent,
        TriedAction,
        VerificationResult,
    )
    from app.models.status import ActionStatus, EventStatus
    from app.workflows import policies
    from app.workflows.steps import permanent_problem, raised, run_step


@workflow.defn(name="ProcessEvent")
class ProcessEvent:
    """One execution of one event. It fails when the event is rejected or an action failed, so that Temporal
    lets the next event with the same idempotency key execute.

    While actions are tried again, people may ask to try now, or to give up."""

    def __init__(self) -> None:
        self._asked = AskedByPeople()

    @workflow.signal
    def try_now(self) -> None:
        """Try what waits for its next attempt at once."""
        self._asked.tries += 1
        self._asked.interrupt()

    @workflow.signal
    def give_up(self, by: str) -> None:
        """Try nothing any more. `by`: who asked for it."""
        self._asked.gave_up_by = by
        self._asked.interrupt()

    @workflow.run
    async def run(self, event: EventRef) -> EventOutcome:
        try:
            first = await _try_once(event)
            outcome = first.outcome or await _process(event, first, self._asked)
        except BaseException as error:
            cancelled, problem = is_cancelled_exception(error), permanent_problem(error)
            if not cancelled and problem is None:
                raise
            first = FirstTry()
            outcome = EventOutcome(
                event_id=event.event_id, status=EventStatus.FAILED, cancelled=cancelled, problem=problem
            )
        if first.outcome is None:
            await run_step("record_outcome", outcome, EventOutcome)
        if outcome.status in (EventStatus.FAILED, EventStatus.REJECTED):
            raise ApplicationError(_why(outcome), type=outcome.status.value, non_retryable=True)
        return outcome


class AskedByPeople:
    """What people asked for while actions are tried again. Without it, the commands are those of a wait and
    an activity."""

    def __init__(self) -> None:
        self.tries = 0
        self.gave_up_by: str | None = None
        self.retries: set[workflow.ActivityHandle[ActionOutcome]] = set()

    def interrupt(self) -> None:
        """End the waits between attempts. An attempt that is under way ends by itself, and is not heard."""
        for each in self.retries:
            each.cancel()

    def has_changed(self, tries: int) -> bool:
        """Whether something was asked for since there were so many tries."""
        return self.tries != tries or self.gave_up_by is not None

    async def wait(self, duration: timedelta) -> None:
        """Wait so long, or until something is asked for."""
        tries = self.tries
        try:
            await workflow.wait_condition(lambda: self.has_changed(tries), timeout=duration)
        except TimeoutError:
            return


async def _try_once(event: EventRef) -> FirstTry:
    """The first try of all steps; nothing is known of one that failed as a whole."""
    try:
        first: FirstTry = await workflow.execute_local_activity(
            "try_event", event, result_type=FirstTry, **policies.FIRST_TRY
        )
        return first
    except FailureError as error:
        if is_cancelled_exception(error) or permanent_problem(error):
            raise
        return FirstTry()


async def _process(event: EventRef, first: FirstTry, asked: AskedByPeople) -> EventOutcome:
    """What the first try left to do."""
    mapped = first.mapped
    if mapped is None:
        verdict = await run_step("verify_event", event, VerificationResult)
        if verdict.rejected:
            return EventOutcome(event_id=event.event_id, status=EventStatus.REJECTED)
        mapped = await run_step("map_event", event, MappedEvent)
    outcome = EventOutcome.of(event.event_id, mapped)
    tried = {each.action_id: each for each in first.tried}
    for kind in mapped.kinds:
        results = await asyncio.gather(
            *(_finish_action(each, tried.get(each.action_id), asked) for each in kind)
        )
        for action, status in zip(kind, results, strict=True):
            outcome.count(action.action_id, status)
    outcome.gave_up_by = asked.gave_up_by if outcome.gave_up else None
    return outcome


async def _finish_action(
    action: ActionRef, tried: TriedAction | None, asked: AskedByPeople
) -> ActionStatus | None:
    """How an action ends, or None when Temporal or a person gives up on it."""
    if tried is None:
        return await _run_action(action, asked)
    if tried.status is not None:
        return tried.status
    after = None if tried.retry_after is None else timedelta(seconds=tried.retry_after)
    return await _retry_action(action, after, asked)


async def _run_action(action: ActionRef, asked: AskedByPeople) -> ActionStatus | None:
    if asked.gave_up_by is not None:
        return None
    try:
        outcome: ActionOutcome = await workflow.execute_local_activity(
            action.action_type, action, result_type=ActionOutcome, **policies.LOCAL_ACTION
        )
        return outcome.status
    except FailureError as error:
        if is_cancelled_exception(error):
            raise
        after = _asked_delay(error)
    return await _retry_action(action, after, asked)


async def _retry_action(
    action: ActionRef, after: timedelta | None, asked: AskedByPeople
) -> ActionStatus | None:
    """The tries after the first, the next one when the destination asked for it, or after the usual time, or
    when a person asks for it."""
    await asked.wait(after or policies.ACTION_FIRST_BACKOFF)
    end = workflow.now() + timedelta(seconds=action.give_up_after)
    while asked.gave_up_by is None and workflow.now() < end:
        tries = asked.tries
        retry = workflow.start_activity(
            action.action_type,
            action,
            result_type=ActionOutcome,
            schedule_to_close_timeout=end - workflow.now(),
            **policies.ACTION,
        )
        asked.retries.add(retry)
        try:
            outcome: ActionOutcome = await retry
            return outcome.status
        except ActivityError as error:
            if not is_cancelled_exception(error):
                return None
            if not asked.has_changed(tries):
                raise
        finally:
            asked.retries.discard(retry)
    return None


def _asked_delay(error: FailureError) -> timedelta | None:
    """The wait that the destination asked for."""
    cause = raised(error)
    return cause.next_retry_delay if isinstance(cause, ApplicationError) else None


def _why(outcome: EventOutcome) -> str:
    if outcome.cancelled:
        return "cancelled in Temporal"
    if outcome.problem is not None:
        return outcome.problem
    if outcome.status is EventStatus.REJECTED:
        return "verification failed"
    return f"{outcome.failed} of {outcome.failed + outcome.succeeded + outcome.skipped} actions failed"
