"""Temporal's record of a workflow's run, read as a timeline."""

import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from app.logs.steps import PendingStep, Timeline, TimelineStep
from app.models.contracts import FirstTry

logger = logging.getLogger(__name__)

# People wait for the page; Temporal answers in milliseconds, or is away.
RPC_TIMEOUT = timedelta(seconds=3)
MAXIMUM_STEPS = 500
_LOCAL_ACTIVITY = "core_local_activity"


async def read(client: Client, identifier: str, run_id: str | None) -> Timeline:
    """The timeline of a run. Never fails: when there is none, it says why."""
    try:
        return await _timeline(client.get_workflow_handle(identifier, run_id=run_id))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return Timeline(reason="Temporal has no such run any more: it is past the namespace's retention")
        logger.warning("timeline_unreadable", extra={"error": error.message})
        return Timeline(reason=f"Temporal does not answer: {error.status.name.lower()}")
    except RuntimeError as error:
        # What a lazy client raises when it cannot connect.
        logger.warning("timeline_unreadable", extra={"error": str(error)})
        return Timeline(reason="Temporal cannot be reached")


async def _timeline(handle: WorkflowHandle[Any, Any]) -> Timeline:
    description = await handle.describe(rpc_timeout=RPC_TIMEOUT)
    history = handle.fetch_history_events(rpc_timeout=RPC_TIMEOUT)
    return Timeline(
        status=description.status.name.lower() if description.status else None,
        started_at=description.start_time,
        finished_at=description.close_time,
        steps=await _steps(history),
        pending=list(_pending(description)),
    )


async def _steps(history: AsyncIterator[HistoryEvent]) -> list[TimelineStep]:
    """The steps in the order in which they began; no more than `MAXIMUM_STEPS`."""
    steps: list[TimelineStep] = []
    by_event: dict[int, TimelineStep] = {}
    async for event in history:
        if inner := _first_try(event):
            steps.extend(inner)
        elif (step := _begun(event)) is not None:
            by_event[event.event_id] = step
            steps.append(step)
        else:
            _go_on(event, by_event)
        if len(steps) == MAXIMUM_STEPS:
            break
    return steps


def _begun(event: HistoryEvent) -> TimelineStep | None:
    """The step that a history event begins, or records whole."""
    at = _time(event.event_time)
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            name = event.workflow_execution_started_event_attributes.workflow_type.name
            return TimelineStep("workflow", name, "started", started_at=at)
        case EventType.EVENT_TYPE_MARKER_RECORDED:
            return _local_activity(event)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            name = event.activity_task_scheduled_event_attributes.activity_type.name
            return TimelineStep("activity", name, "scheduled", scheduled_at=at)
        case EventType.EVENT_TYPE_TIMER_STARTED:
            wait = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
            return TimelineStep("timer", f"waits {wait.total_seconds():g} s", "started", started_at=at)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            name = event.workflow_execution_signaled_event_attributes.signal_name
            return TimelineStep("signal", name, "completed", started_at=at, finished_at=at)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            return TimelineStep("workflow", "closes", "completed", finished_at=at)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            failure = event.workflow_execution_failed_event_attributes.failure
            return TimelineStep("workflow", "closes", "failed", finished_at=at, failure=_message(failure))
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
            reason = event.workflow_execution_terminated_event_attributes.reason
            return TimelineStep("workflow", "closes", "terminated", finished_at=at, failure=reason or None)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
            return TimelineStep("workflow", "closes", "cancelled", finished_at=at)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
            return TimelineStep("workflow", "closes", "timed_out", finished_at=at)
        case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failure = event.workflow_task_failed_event_attributes.failure
            return TimelineStep(
                "workflow", "workflow task", "failed", finished_at=at, failure=_message(failure)
            )
    return None


def _first_try(event: HistoryEvent) -> list[TimelineStep]:
    """The steps that `try_event` took, when the event is its marker; one that failed as a whole is a step
    itself."""
    marker = event.marker_recorded_event_attributes
    if marker.marker_name != _LOCAL_ACTIVITY or marker.HasField("failure"):
        return []
    recorded = orjson.loads(marker.details["data"].payloads[0].data)
    if recorded["activity_type"] != "try_event":
        return []
    first = FirstTry.model_validate_json(marker.details["result"].payloads[0].data)
    return [
        TimelineStep(
            "local_activity",
            each.name,
            "failed" if each.failure else "completed",
            attempt=1,
            finished_at=each.finished_at,
            failure=each.failure,
        )
        for each in first.steps
    ]


def _local_activity(event: HistoryEvent) -> TimelineStep | None:
    """What Temporal's SDKs record of a local activity: a marker with its name, attempt and end as JSON."""
    marker = event.marker_recorded_event_attributes
    if marker.marker_name != _LOCAL_ACTIVITY or not marker.details["data"].payloads:
        return None
    recorded = orjson.loads(marker.details["data"].payloads[0].data)
    failed = marker.HasField("failure")
    return TimelineStep(
        "local_activity",
        recorded["activity_type"],
        "failed" if failed else "completed",
        attempt=recorded["attempt"],
        finished_at=_time(Timestamp(**recorded["complete_time"])),
        failure=_message(marker.failure) if failed else None,
    )


def _go_on(event: HistoryEvent, steps: dict[int, TimelineStep]) -> None:
    """Note in a step that was begun what a later history event says of it."""
    at = _time(event.event_time)
    match event.event_type:
        case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            step = steps[started.scheduled_event_id]
            step.status, step.started_at, step.attempt = "started", at, started.attempt
            step.failure = _message(started.last_failure) if started.HasField("last_failure") else None
        case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            step = steps[event.activity_task_completed_event_attributes.scheduled_event_id]
            step.status, step.finished_at = "completed", at
        case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
            failed = event.activity_task_failed_event_attributes
            step = steps[failed.scheduled_event_id]
            step.status, step.finished_at, step.failure = "failed", at, _message(failed.failure)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
            timed_out = event.activity_task_timed_out_event_attributes
            step = steps[timed_out.scheduled_event_id]
            step.status, step.finished_at, step.failure = "timed_out", at, _message(timed_out.failure)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
            step = steps[event.activity_task_canceled_event_attributes.scheduled_event_id]
            step.status, step.finished_at = "cancelled", at
        case EventType.EVENT_TYPE_TIMER_FIRED:
            step = steps[event.timer_fired_event_attributes.started_event_id]
            step.status, step.finished_at = "completed", at
        case EventType.EVENT_TYPE_TIMER_CANCELED:
            step = steps[event.timer_canceled_event_attributes.started_event_id]
            step.status, step.finished_at = "cancelled", at


def _pending(description: WorkflowExecutionDescription) -> Iterator[PendingStep]:
    for each in description.raw_description.pending_activities:
        yield PendingStep(
            name=each.activity_type.name,
            state=PendingActivityState.Name(each.state).removeprefix("PENDING_ACTIVITY_STATE_").lower(),
            attempt=each.attempt,
            scheduled_at=_time(each.scheduled_time),
            last_started_at=_time(each.last_started_time),
            next_attempt_at=_time(each.next_attempt_schedule_time),
            last_failure=_message(each.last_failure) if each.HasField("last_failure") else None,
        )


def _message(failure: Failure) -> str | None:
    """The failure and what caused it, outermost first."""
    parts: list[str] = []
    current: Failure | None = failure
    while current is not None:
        if current.message:
            parts.append(current.message)
        current = current.cause if current.HasField("cause") else None
    return ": ".join(parts) or None


def _time(stamp: Timestamp) -> datetime | None:
    """Aware, in UTC; None for a time that is not set."""
    return stamp.ToDatetime(UTC) if stamp.seconds or stamp.nanos else None
