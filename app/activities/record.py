"""The activity `record_outcome`: the last stage, into the event log, with one wide line into the process
log."""

import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from temporalio import activity

from app.events.action_log import ActionLog
from app.events.event_log import EventLog, Finished, StoredEvent
from app.models.contracts import EventOutcome
from app.models.status import ActionStatus, EventStatus
from app.models.types import now
from app.runtime import metrics

logger = logging.getLogger(__name__)


class RecordOutcome:
    """Records what became of an event. `on_finished` hears of it."""

    def __init__(self, events: EventLog, actions: ActionLog, on_finished: Callable[[UUID], None]) -> None:
        self._events = events
        self._actions = actions
        self._on_finished = on_finished

    @activity.defn
    async def record_outcome(self, outcome: EventOutcome) -> EventOutcome:
        event = await self._events.load(outcome.event_id)
        if outcome.gave_up:
            metrics.count_gave_up(event.environment, await self._give_up(outcome))
        info = activity.info()
        finished = Finished(
            id=event.id,
            status=outcome.status,
            finished_at=now(),
            error=await self._error(event, outcome),
            workflow_id=info.workflow_id,
            run_id=info.workflow_run_id,
            ran_nothing=outcome.ran_nothing,
            # One that came to its end counted each of its actions.
            actions_ended=not outcome.cancelled and outcome.problem is None,
        )
        await self._events.finish(finished)
        metrics.count_finished(event.environment, event.source_key, outcome.status, event.received_at)
        self._on_finished(event.id)
        _log(event, outcome, finished)
        return outcome

    async def _give_up(self, outcome: EventOutcome) -> Sequence[str]:
        return await self._actions.give_up(outcome.gave_up, outcome.gave_up_by)

    async def _error(self, event: StoredEvent, outcome: EventOutcome) -> str | None:
        """Why the event is as it is, and what its reception noted."""
        problem = await self._problem(event, outcome)
        return None if problem is None else "; ".join(filter(None, (problem, event.error)))

    async def _problem(self, event: StoredEvent, outcome: EventOutcome) -> str | None:
        """Why the event is as it is; of failed actions the first one's cause, in the destination's own
        words."""
        if outcome.status is not EventStatus.FAILED or outcome.cancelled or outcome.problem is not None:
            return _problem(event, outcome)
        failed = [
            f"{each.action_type}: {each.error}"
            for each in await self._actions.of_event(event.id)
            if each.status is ActionStatus.FAILED and each.error
        ]
        return ": ".join([_failures(outcome.failed), *failed[:1]])


def _failures(actions: int) -> str:
    return "1 action failed" if actions == 1 else f"{actions} actions failed"


def _problem(event: StoredEvent, outcome: EventOutcome) -> str | None:
    if outcome.cancelled:
        return "the workflow was cancelled in Temporal"
    if outcome.problem is not None:
        return outcome.problem
    if outcome.status is EventStatus.REJECTED:
        return "the event could not be verified when it was processed; see verification_reason"
    # Why there is no event type, reception has noted.
    if outcome.status is EventStatus.IGNORED and event.event_type is not None:
        return "no active mapping for this event type"
    return None


def _log(event: StoredEvent, outcome: EventOutcome, finished: Finished) -> None:
    logger.info(
        "event",
        extra={
            "event_id": str(event.id),
            "environment": event.environment,
            "source": event.source_key,
            "event_type": event.event_type,
            "status": outcome.status.value,
            "verification": event.verification_status,
            "succeeded": outcome.succeeded,
            "skipped": outcome.skipped,
            "failed": outcome.failed,
            "duration_ms": round((finished.finished_at - event.received_at).total_seconds() * 1000),
            "workflow_id": finished.workflow_id,
            "run_id": finished.run_id,
        },
    )
