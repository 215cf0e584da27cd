"""Stage 4 of an event: the workflow that verifies it, maps it, runs its actions and records the outcome.

Deterministic, and it sees ids and verdicts only. Its activities are in `app/activities`: `verify_event`,
`map_event`, one for each action type under the type's own name, `record_outcome`. Each runs first as a local
activity, and as a regular one when that fails.
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
        MappedEvent,
        Verdict,
    )
    from app.models.status import ActionStatus, EventStatus
    from app.workflows import policies
    from app.workflows.steps import permanent_problem, raised, run_step


@workflow.defn(name="ProcessEvent")
class ProcessEvent:
    """One execution of one event. It fails when the event is rejected or an action failed, so that Temporal lets
    the next event with the same idempotency key execute."""

    @workflow.run
    async def run(self, event: EventRef) -> EventOutcome:
        try:
            outcome = await self._process(event)
        except BaseException as error:
            cancelled, problem = is_cancelled_exception(error), permanent_problem(error)
            if not cancelled and problem is None:
                raise
            outcome = EventOutcome(
                event_id=event.event_id, status=EventStatus.FAILED, cancelled=cancelled, problem=problem
            )
        await run_step("record_outcome", outcome, EventOutcome)
        if outcome.status in (EventStatus.FAILED, EventStatus.REJECTED):
            raise ApplicationError(_why(outcome), type=outcome.status.value, non_retryable=True)
        return outcome

    async def _process(self, event: EventRef) -> EventOutcome:
        verdict = await run_step("verify_event", event, Verdict)
        if verdict.rejected:
            return EventOutcome(event_id=event.event_id, status=EventStatus.REJECTED)
        mapped = await run_step("map_event", event, MappedEvent)
        if not mapped.mapped:
            return EventOutcome(event_id=event.event_id, status=EventStatus.IGNORED)
        outcome = EventOutcome(
            event_id=event.event_id,
            status=EventStatus.SUCCEEDED,
            skipped=mapped.skipped,
            failed=mapped.failed,
        )
        for kind in mapped.kinds:
            for action, result in zip(kind, await asyncio.gather(*map(_run_action, kind)), strict=True):
                _count(outcome, action, result)
        if outcome.failed:
            outcome.status = EventStatus.FAILED
        return outcome


async def _run_action(action: ActionRef) -> ActionOutcome | None:
    """The outcome of an action, or None when Temporal gave up on it."""
    outcome: ActionOutcome
    try:
        outcome = await workflow.execute_local_activity(
            action.action_type, action, result_type=ActionOutcome, **policies.LOCAL_ACTION
        )
        return outcome
    except FailureError as error:
        if is_cancelled_exception(error):
            raise
        await workflow.sleep(_backoff(error))
    try:
        outcome = await workflow.execute_activity(
            action.action_type,
            action,
            result_type=ActionOutcome,
            schedule_to_close_timeout=timedelta(seconds=action.give_up_after),
            **policies.ACTION,
        )
        return outcome
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return None


def _backoff(error: FailureError) -> timedelta:
    """The wait that the destination asked for, or the usual one."""
    cause = raised(error)
    asked = cause.next_retry_delay if isinstance(cause, ApplicationError) else None
    return asked or policies.ACTION_FIRST_BACKOFF


def _count(outcome: EventOutcome, action: ActionRef, result: ActionOutcome | None) -> None:
    if result is None:
        outcome.gave_up.append(action.action_id)
        outcome.failed += 1
    elif result.status is ActionStatus.SUCCEEDED:
        outcome.succeeded += 1
    else:
        outcome.failed += 1


def _why(outcome: EventOutcome) -> str:
    if outcome.cancelled:
        return "cancelled in Temporal"
    if outcome.problem is not None:
        return outcome.problem
    if outcome.status is EventStatus.REJECTED:
        return "verification failed"
    return f"{outcome.failed} of {outcome.failed + outcome.succeeded + outcome.skipped} actions failed"
