"""The activity `try_event`: the first try of everything that an event needs, at one go.

Nearly always nothing fails, and a local activity costs more than what it does (docs/performance.md). So the
first try of all steps is one: verification, mapping, the actions in their order, the outcome. What fails, and
what comes after it, the workflow does in activities of their own (`app/workflows/process_event.py`). A crash
in between repeats what was not recorded, as with those.
"""

import asyncio
import logging
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from app.activities.map import MapEvent
from app.activities.record import RecordOutcome
from app.activities.run_action import RunAction
from app.activities.verify import VerifyEvent
from app.models.contracts import (
    ActionRef,
    EventOutcome,
    EventRef,
    FirstTry,
    MappedEvent,
    TriedAction,
    TriedStep,
)
from app.models.status import EventStatus
from app.models.types import now
from app.workflows import policies

logger = logging.getLogger(__name__)

ACTION_TIME: float = policies.LOCAL_ACTION["start_to_close_timeout"].total_seconds()
# Kinds of action that are not begun within this many seconds are left to the workflow.
BEGIN_WITHIN = 4.0


class TryEvent:
    """Calls the activities of the steps as they are."""

    def __init__(
        self, verify: VerifyEvent, mapping: MapEvent, actions: RunAction, record: RecordOutcome
    ) -> None:
        self._verify = verify
        self._mapping = mapping
        self._actions = actions
        self._record = record

    @activity.defn
    async def try_event(self, event: EventRef) -> FirstTry:
        first = FirstTry()
        verdict = await self._verify.verify_event(event)
        first.steps.append(TriedStep(name="verify_event", finished_at=now()))
        if verdict.rejected:
            await self._finish(EventOutcome(event_id=event.event_id, status=EventStatus.REJECTED), first)
            return first
        first.mapped = await self._mapping.map_event(event)
        first.steps.append(TriedStep(name="map_event", finished_at=now()))
        outcome = EventOutcome.of(event.event_id, first.mapped)
        if await self._try_actions(first.mapped, outcome, first):
            await self._finish(outcome, first)
        return first

    async def _try_actions(self, mapped: MappedEvent, outcome: EventOutcome, first: FirstTry) -> bool:
        """Try the kinds of action in their order, each once; whether all are done."""
        clock = asyncio.get_running_loop().time
        end = clock() + BEGIN_WITHIN
        for kind in mapped.kinds:
            if clock() > end:
                return False
            tried = await asyncio.gather(*(self._try_action(each, first) for each in kind))
            first.tried.extend(tried)
            if any(each.status is None for each in tried):
                return False
            for each in tried:
                outcome.count(each.action_id, each.status)
        return True

    async def _try_action(self, action: ActionRef, first: FirstTry) -> TriedAction:
        step = TriedStep(name=action.action_type, finished_at=now())
        first.steps.append(step)
        tried = TriedAction(action_id=action.action_id)
        try:
            async with asyncio.timeout(ACTION_TIME):
                tried.status = (await self._actions.run(action)).status
        except Exception as error:  # noqa: BLE001 (whatever it is, the action's own activity meets it again)
            step.failure = _shown(error)
            tried.retry_after = _retry_after(error)
            logger.warning("action_failed", extra={"action_id": str(action.action_id), "error": step.failure})
        step.finished_at = now()
        return tried

    async def _finish(self, outcome: EventOutcome, first: FirstTry) -> None:
        """Record the outcome. When that fails the workflow does, from what was tried."""
        try:
            first.outcome = await self._record.record_outcome(outcome)
        except Exception as error:  # noqa: BLE001 (the step's own activity meets it again)
            logger.warning(
                "outcome_not_recorded", extra={"event_id": str(outcome.event_id), "error": _shown(error)}
            )
            return
        first.mapped, first.tried = None, []
        first.steps.append(TriedStep(name="record_outcome", finished_at=now()))


def _shown(error: Exception) -> str:
    """An error as Temporal may know it: the text of others may repeat a payload."""
    if isinstance(error, ApplicationError):
        return error.message
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def _retry_after(error: Exception) -> float | None:
    delay: Any = error.next_retry_delay if isinstance(error, ApplicationError) else None
    return None if delay is None else delay.total_seconds()
