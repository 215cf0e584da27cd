"""What the Management API answers of the log: events, their actions, and the timeline of an event's
workflow."""

from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from app.api.management.schemas import (
    Json,
    Timestamp,
    example,
)
from app.core.settings import Settings
from app.logs.entries import LogAction, LogEntry
from app.logs.steps import Timeline
from app.models.status import ActionStatus
from app.runtime.temporal_ui import run_url


class LogActionResponse(BaseModel):
    """An action that an event ran."""

    id: UUID
    action_type: str = Field(description="The action.")
    action_status: str = Field(description="`pending`, `success`, `skipped` or `failed`.")
    action_parameters: Json | None = Field(description="The mapping's parameters, as configured.")
    action_payload: Json | None = Field(description="The parameters as evaluated: what was sent.")
    action_result: Json | None = Field(description="What the destination answered.")
    inserted_at: Timestamp | None
    mapping_id: UUID = Field(description="The mapping that it comes from.")
    error: str | None = Field(description="Why it failed or was skipped, or why the last attempt did.")
    left_out: list[Json] | None = Field(
        description="What its call did not carry: the `parameter` or the `property`, the `member` of a list, "
        "and the `reason`."
    )
    attempts: int = Field(description="How often it was tried.")
    next_attempt_at: Timestamp | None = Field(description="When it is tried again, while it is pending.")
    started_at: Timestamp | None
    finished_at: Timestamp | None
    duration_ms: int | None = Field(description="From the first attempt's start to the end.")


class LogResponse(BaseModel):
    """An event as received, and what became of it. Fields from `status` on are Doorbell's own."""

    model_config = example(
        id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        event="invoice.paid",
        data={"id": "evt_123", "type": "invoice.paid"},
        preprocess_output=None,
        source=None,
        verification_status="enforced:verified",
        inserted_at="2026-01-15T12:00:00Z",
        status="succeeded",
        environment="development",
        source_key="stripe",
        headers={"content-type": "application/json"},
        verification_reason=None,
        signing_secret_id="01a20df0-7711-72f9-a988-19f172a42afd",
        idempotency_key="evt_123",
        ordering_keys=["cus_QXg1o8vcGmoR32"],
        waiting_for=None,
        duplicate_of=None,
        replay_of=None,
        replay_id=None,
        occurred_at="2026-01-15T11:59:59Z",
        finished_at="2026-01-15T12:00:00.052Z",
        duration_ms=52,
        error=None,
        workflow_id="event/development/stripe/5f0c",
        run_id="01a20df1-f001-7000-8000-19f172a42afd",
        temporal_url=None,
        erased_at=None,
    )

    id: UUID
    event: str = Field(description="The event type; empty when it could not be identified.")
    data: Json | None = Field(description="The body; null when it is not a JSON object, or was omitted.")
    preprocess_output: Json | None = Field(description="What preprocessing computed.")
    source: str | None = Field(description="Null for events from outside; else `rehearsal` or `replay`.")
    verification_status: str | None = Field(
        description="`enforced:verified`, `enforced:failed`, `not_enforced:verified`, "
        "`not_enforced:failed` or `not_enforced:unverified`."
    )
    inserted_at: Timestamp = Field(description="When it was received.")
    actions: list[LogActionResponse] | None = Field(None, description="Only there when `include` has it.")
    status: str = Field(
        description="`received`, `processing`, `succeeded`, `failed`, `idempotent`, `rejected` or `ignored`."
    )
    environment: str
    source_key: str
    headers: dict[str, str] = Field(description="The headers; those with credentials are `[redacted]`.")
    data_omitted: bool = Field(
        False, description="Whether the page had no room left for the body: ask for it with `id`."
    )
    verification_reason: str | None = Field(description="Why verification failed.")
    signing_secret_id: UUID | None = Field(
        description="Which of the source's signing secrets matched on receipt; null if none did."
    )
    idempotency_key: str | None
    ordering_keys: list[str] | None = Field(
        description="What it is ordered by: events that share a key are executed one after the other."
    )
    waiting_for: UUID | None = Field(
        description="The earlier event of an ordering key whose end it waits for; null: it waits for none."
    )
    duplicate_of: UUID | None = Field(description="The event that an idempotent one repeats.")
    replay_of: UUID | None = Field(description="The event that was run again.")
    replay_id: UUID | None = Field(description="The replay of many events that made this one.")
    occurred_at: Timestamp | None = Field(description="The time that the event itself names.")
    finished_at: Timestamp | None
    duration_ms: int | None = Field(description="From receipt to the end of the last action.")
    error: str | None = Field(description="What went wrong with the event itself.")
    workflow_id: str | None = Field(description="The workflow in Temporal.")
    run_id: str | None = Field(description="Its run.")
    temporal_url: str | None = Field(description="The run in Temporal's UI.")
    erased_at: Timestamp | None = Field(
        description="When what was sent was deleted on request: `data`, `headers`, and the actions' "
        "parameters, payloads, results and errors."
    )


class StepResponse(BaseModel):
    """One thing that the event's workflow did."""

    kind: str = Field(description="`workflow`, `local_activity`, `activity`, `timer` or `signal`.")
    name: str = Field(description="The activity, signal or workflow.")
    status: str = Field(
        description="`scheduled`, `started`, `completed`, `failed`, `timed_out`, `cancelled` or `terminated`."
    )
    attempt: int | None = Field(description="The attempt that ended it, or that is running.")
    scheduled_at: Timestamp | None
    started_at: Timestamp | None
    finished_at: Timestamp | None
    failure: str | None = Field(description="Why it failed, or why the attempt before the last one did.")


class PendingStepResponse(BaseModel):
    """An activity that is running or will be tried again."""

    name: str
    state: str = Field(description="`scheduled`, `started`, `cancel_requested` or `paused`.")
    attempt: int
    scheduled_at: Timestamp | None
    last_started_at: Timestamp | None
    next_attempt_at: Timestamp | None = Field(description="When it is tried again.")
    last_failure: str | None = Field(description="Why the last attempt failed.")


class TimelineResponse(BaseModel):
    """How the event's workflow ran, from Temporal's history."""

    reason: str | None = Field(description="Why there is no timeline, when there is none.")
    status: str | None = Field(description="The run's status in Temporal.")
    started_at: Timestamp | None
    finished_at: Timestamp | None
    steps: list[StepResponse]
    pending: list[PendingStepResponse]


class LogDetailResponse(LogResponse):
    """An entry of the log, whole, with its actions and the timeline of its run."""

    timeline: TimelineResponse


def log_response(entry: LogEntry, settings: Settings, *, with_actions: bool) -> LogResponse:
    event = entry.event
    response = LogResponse(
        **event.model_dump(
            include={
                "id",
                "status",
                "environment",
                "source_key",
                "verification_status",
                "verification_reason",
                "signing_secret_id",
                "idempotency_key",
                "ordering_keys",
                "waiting_for",
                "duplicate_of",
                "replay_of",
                "replay_id",
                "occurred_at",
                "finished_at",
                "error",
                "workflow_id",
                "run_id",
                "erased_at",
            }
        ),
        event=event.event_type or "",
        data=entry.data,
        data_omitted=entry.omitted,
        preprocess_output=entry.preprocess_output,
        source=event.origin,
        inserted_at=event.received_at,
        headers=entry.headers,
        duration_ms=_milliseconds(event.received_at, event.finished_at),
        temporal_url=run_url(settings, event.workflow_id, event.run_id),
    )
    if with_actions:
        response.actions = [_action_response(each, event.received_at) for each in entry.actions]
    return response


def log_detail_response(entry: LogEntry, settings: Settings, timeline: Timeline) -> LogDetailResponse:
    shown = log_response(entry, settings, with_actions=True)
    return LogDetailResponse(**shown.model_dump(), timeline=TimelineResponse(**asdict(timeline)))


def _action_response(action: LogAction, received_at: datetime) -> LogActionResponse:
    return LogActionResponse(
        id=action.id,
        action_type=action.action_type,
        action_status="success" if action.status == ActionStatus.SUCCEEDED else action.status,
        action_parameters=action.parameters,
        action_payload=action.payload,
        action_result=action.result,
        inserted_at=action.started_at or action.finished_at or received_at,
        mapping_id=action.mapping_id,
        error=action.error,
        left_out=action.left_out,
        attempts=action.attempts,
        next_attempt_at=action.next_attempt_at,
        started_at=action.started_at,
        finished_at=action.finished_at,
        duration_ms=_milliseconds(action.started_at, action.finished_at),
    )


def _milliseconds(start: datetime | None, end: datetime | None) -> int | None:
    return round((end - start).total_seconds() * 1000) if start and end else None
