"""What the Management API answers: Knock's shapes, and the fields that Doorbell adds to them.

Fields that answers leave out when they were not asked for (`include`) are not set, and routes exclude what is
not set.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.directory.pages import Page
from app.logs import LogAction, LogEntry
from app.models.environment import Environment
from app.models.source import Mapping
from app.models.status import ActionStatus
from app.settings import Settings
from app.sources import Configured, ConfiguredSource
from app.temporal_ui import run_url
from app.timeline import Timeline

Item = TypeVar("Item")
Shown = TypeVar("Shown", bound=BaseModel)

# In UTC, so that it is written with Z.
Timestamp = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
Json = dict[str, Any]


def example(**fields: Any) -> ConfigDict:
    """An example for the documentation."""
    return ConfigDict(json_schema_extra={"example": fields})


class PageInfo(BaseModel):
    """Where a page is in its list."""

    model_config = example(after=None, before=None, page_size=25)

    after: str | None = Field(description="The cursor of the next page, if there is one.")
    before: str | None = Field(description="The cursor of the page before, if there is one.")
    page_size: int = Field(description="The number of entries fetched per page.")


class Entries(BaseModel, Generic[Shown]):
    """A whole list."""

    entries: list[Shown]


class EntriesPage(BaseModel, Generic[Shown]):
    """A page of a list."""

    entries: list[Shown]
    page_info: PageInfo


def page_of(found: Page[Item], schema: type[Shown], render: Callable[[Item], Shown]) -> EntriesPage[Shown]:
    """A page in Knock's wrapper."""
    info = PageInfo(after=found.after, before=found.before, page_size=found.size)
    return EntriesPage[schema](entries=[render(each) for each in found.items], page_info=info)  # type: ignore[valid-type]


class EnvironmentResponse(BaseModel):
    """An environment."""

    model_config = example(
        slug="development",
        name="Development",
        order=0,
        owner="system",
        label_color=None,
        hide_pii_data=False,
        last_commit_at=None,
        created_at="2026-01-01T00:00:00Z",
        updated_at="2026-01-01T00:00:00Z",
        deleted_at=None,
        is_production=False,
    )

    slug: str = Field(description="Its name in URLs, which never changes.")
    name: str = Field(description="Its name for people.")
    order: int = Field(description="Its place among the environments; the lowest number is the first.")
    owner: Literal["system", "user"] = Field(description="Who made it.")
    label_color: str | None = Field(description="The color of its label.")
    hide_pii_data: bool = Field(description="Whether personal data is hidden.")
    last_commit_at: Timestamp | None = Field(description="Always null: Doorbell has no commits.")
    created_at: Timestamp
    updated_at: Timestamp
    deleted_at: Timestamp | None
    is_production: bool = Field(description="Whether it is production (Doorbell's own field).")


def environment_response(environment: Environment) -> EnvironmentResponse:
    fields = environment.model_dump(exclude={"destination_url", "destination_key"})
    return EnvironmentResponse(**fields, last_commit_at=None)


_MAPPING = {
    "id": "01a20df1-e8fc-72f9-a988-19f172a42afd",
    "event_type": "invoice.paid",
    "action_type": "workflows_trigger",
    "action_parameters": {
        "key": "invoice-paid",
        "recipients": "body.data.object.customer",
        "data": "body",
    },
    "active": True,
    "is_deleted": False,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}


class MappingResponse(BaseModel):
    """A mapping from an event type to an action."""

    model_config = example(**_MAPPING)

    id: UUID = Field(description="Its id (Doorbell's own field).")
    event_type: str = Field(description="The event type that runs the action.")
    action_type: str = Field(description="The action.")
    action_parameters: Json | None = Field(description="The action's parameters: paths and constants.")
    active: bool = Field(description="Whether it runs.")
    is_deleted: bool = Field(description="Always false: deleted mappings are gone at once.")
    created_at: Timestamp
    updated_at: Timestamp


class ScriptResponse(BaseModel):
    """A script that runs before events are mapped."""

    language: Literal["javascript"]
    source: str


class SettingsResponse(BaseModel):
    """A source's settings in one environment."""

    endpoint: str = Field(description="The URL that receives events.")
    event_type_path: str | None = Field(description="Where the event type is.")
    idempotency_key_path: str | None = Field(description="Where the idempotency key is.")
    timestamp_path: str | None = Field(description="Where the time of the event is.")
    enforce_verification: bool = Field(description="Whether events that fail verification are refused.")
    preprocess_script: ScriptResponse | None = Field(description="The script, if there is one.")
    enforce_idempotency: bool = Field(description="Whether repeats of an event run no actions.")
    idempotency_window_seconds: int = Field(
        description="How long a repeat is recognised (Doorbell's own field)."
    )
    start_unmapped: bool = Field(
        description="Whether events without a mapping get a workflow run (Doorbell's own field)."
    )
    handle_identifies: bool | None = Field(
        description="Whether `identify` events identify their user; null: as the mappings say."
    )
    strict_batches: bool = Field(
        description="Whether a batch is refused when its signature covers its first event only (Doorbell's own field)."
    )
    rate_limit_per_second: int | None = Field(
        description="Events that each API process accepts in a second (Doorbell's own field)."
    )


class EnvironmentSettingsResponse(BaseModel):
    """A source in one environment."""

    settings: SettingsResponse
    mappings: list[MappingResponse] = Field(description="Oldest first.")
    updated_at: Timestamp


_SOURCE = {
    "key": "stripe",
    "name": "Stripe",
    "description": None,
    "custom_image_url": None,
    "provider": "stripe",
    "environment_settings": {
        "development": {
            "settings": {
                "endpoint": "http://127.0.0.1:8080/integrations/receive/Zk3v9s1x0q7Jm2b5T8r4Wc6yPq1d0fGh",
                "event_type_path": "body.type",
                "idempotency_key_path": "body.id",
                "timestamp_path": "body.created",
                "enforce_verification": True,
                "preprocess_script": None,
                "enforce_idempotency": True,
                "idempotency_window_seconds": 86400,
                "start_unmapped": True,
                "handle_identifies": None,
                "strict_batches": False,
                "rate_limit_per_second": None,
            },
            "mappings": [_MAPPING],
            "updated_at": "2026-01-01T00:00:00Z",
        }
    },
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}


class SourceResponse(BaseModel):
    """A source, with its configuration in every environment."""

    model_config = example(**_SOURCE)

    key: str = Field(description="Its name in URLs, which never changes.")
    name: str = Field(description="Its name for people.")
    description: str | None
    custom_image_url: str | None
    provider: str = Field(description="What kind of source it is (Doorbell's own field).")
    environment_settings: dict[str, EnvironmentSettingsResponse] = Field(description="By environment slug.")
    created_at: Timestamp
    updated_at: Timestamp


class WrappedSourceResponse(BaseModel):
    """A source under the key `source`."""

    model_config = example(source=_SOURCE)

    source: SourceResponse


class SourceSummary(BaseModel):
    """A source in the list of sources."""

    model_config = example(
        key="stripe", name="Stripe", description=None, custom_image_url=None, provider="stripe"
    )

    key: str
    name: str
    description: str | None
    custom_image_url: str | None
    provider: str = Field(description="What kind of source it is (Doorbell's own field).")
    environment_settings: dict[str, EnvironmentSettingsResponse] | None = Field(
        None, description="Only there when `include` has it."
    )


def endpoint_url(settings: Settings, token: str) -> str:
    """The URL that receives events for a token."""
    return f"{settings.base_url}/integrations/receive/{token}"


def source_response(found: ConfiguredSource, settings: Settings) -> SourceResponse:
    return SourceResponse(
        **found.source.model_dump(), environment_settings=_environment_settings(found, settings)
    )


def source_summary(
    found: ConfiguredSource, settings: Settings, environments: Sequence[str] | None
) -> SourceSummary:
    """The source with its settings in these environments, or without settings for None."""
    summary = SourceSummary(**found.source.model_dump(exclude={"created_at", "updated_at"}))
    if environments is not None:
        shown = _environment_settings(found, settings)
        summary.environment_settings = {slug: shown[slug] for slug in environments if slug in shown}
    return summary


def _environment_settings(
    found: ConfiguredSource, settings: Settings
) -> dict[str, EnvironmentSettingsResponse]:
    return {
        slug: EnvironmentSettingsResponse(
            settings=_settings_response(each, settings),
            mappings=[mapping_response(mapping) for mapping in each.mappings],
            updated_at=each.settings.updated_at,
        )
        for slug, each in found.environments.items()
    }


def script_response(source: str | None) -> ScriptResponse | None:
    return None if source is None else ScriptResponse(language="javascript", source=source)


def _settings_response(configured: Configured, settings: Settings) -> SettingsResponse:
    row = configured.settings
    return SettingsResponse(
        endpoint=endpoint_url(settings, row.endpoint_token),
        event_type_path=row.event_type_path,
        idempotency_key_path=row.idempotency_key_path,
        timestamp_path=row.timestamp_path,
        enforce_verification=row.enforce_verification,
        preprocess_script=script_response(row.preprocess_script),
        enforce_idempotency=row.enforce_idempotency,
        idempotency_window_seconds=int(row.idempotency_window.total_seconds()),
        start_unmapped=row.start_unmapped,
        handle_identifies=row.handle_identifies,
        strict_batches=row.strict_batches,
        rate_limit_per_second=row.rate_limit_per_second,
    )


def mapping_response(mapping: Mapping) -> MappingResponse:
    return MappingResponse(**mapping.model_dump(exclude={"source_environment_id"}), is_deleted=False)


class SourceEventResponse(BaseModel):
    """An event type that a source received."""

    model_config = example(event="invoice.paid", last_received_at="2026-01-15T12:00:00Z")

    event: str = Field(description="The event type.")
    last_received_at: Timestamp | None = Field(description="When it was last received.")


class SourceEventSampleResponse(BaseModel):
    """An event as a mapping reads it: paths start from `body`, `headers` and `preprocess`."""

    model_config = example(
        event="invoice.paid",
        origin="received",
        body={"id": "evt_123", "type": "invoice.paid"},
        headers={"content-type": "application/json"},
        preprocess=None,
        log_id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        received_at="2026-01-15T12:00:00Z",
    )

    event: str = Field(description="The event type.")
    origin: Literal["received", "example"] = Field(
        description="`received`: the latest that came. `example`: none came lately; this is what the provider sends."
    )
    body: Json | None = Field(description="The body; sensitive values are `[redacted]`.")
    headers: dict[str, str] = Field(description="The headers; those with credentials are `[redacted]`.")
    preprocess: Json | None = Field(description="What preprocessing computed.")
    log_id: UUID | None = Field(description="Its entry in the source's log.")
    received_at: Timestamp | None


class SourceStatusResponse(BaseModel):
    """What a source received lately."""

    model_config = example(
        events_count=42,
        last_event_received="2026-01-15T12:00:00Z",
        mappings_count=3,
        mappings_requiring_commit=[],
    )

    events_count: int = Field(description="Events received in the last 30 days.")
    last_event_received: Timestamp | None = Field(description="When the latest event was received.")
    mappings_count: int = Field(description="Mappings of the source in the environment.")
    mappings_requiring_commit: list[Json] = Field(
        description="Always empty: changes of mappings count at once."
    )


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
    attempts: int = Field(description="How often it was tried.")
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
        source_key="stripe",
        headers={"content-type": "application/json"},
        verification_reason=None,
        idempotency_key="evt_123",
        duplicate_of=None,
        replay_of=None,
        occurred_at="2026-01-15T11:59:59Z",
        finished_at="2026-01-15T12:00:00.052Z",
        duration_ms=52,
        error=None,
        workflow_id="event/development/stripe/5f0c",
        run_id="01a20df1-f001-7000-8000-19f172a42afd",
        temporal_url=None,
    )

    id: UUID
    event: str = Field(description="The event type; empty when it could not be identified.")
    data: Json | None = Field(description="The body; null when it is not a JSON object, or was omitted.")
    preprocess_output: Json | None = Field(description="What preprocessing computed.")
    source: str | None = Field(description="Null for events from outside; else `rehearsal` or `replay`.")
    verification_status: str | None = Field(
        description="`enforced:verified`, `enforced:failed`, `not_enforced:verified`, `not_enforced:failed` or "
        "`not_enforced:unverified`."
    )
    inserted_at: Timestamp = Field(description="When it was received.")
    actions: list[LogActionResponse] | None = Field(None, description="Only there when `include` has it.")
    status: str = Field(
        description="`received`, `processing`, `succeeded`, `failed`, `idempotent`, `rejected` or `ignored`."
    )
    source_key: str
    headers: dict[str, str] = Field(description="The headers; those with credentials are `[redacted]`.")
    data_omitted: bool = Field(
        False, description="Whether the page had no room left for the body: ask for it with `id`."
    )
    verification_reason: str | None = Field(description="Why verification failed.")
    idempotency_key: str | None
    duplicate_of: UUID | None = Field(description="The event that an idempotent one repeats.")
    replay_of: UUID | None = Field(description="The event that was run again.")
    occurred_at: Timestamp | None = Field(description="The time that the event itself names.")
    finished_at: Timestamp | None
    duration_ms: int | None = Field(description="From receipt to the end of the last action.")
    error: str | None = Field(description="What went wrong with the event itself.")
    workflow_id: str | None = Field(description="The workflow in Temporal.")
    run_id: str | None = Field(description="Its run.")
    temporal_url: str | None = Field(description="The run in Temporal's UI.")


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
                "source_key",
                "verification_status",
                "verification_reason",
                "idempotency_key",
                "duplicate_of",
                "replay_of",
                "occurred_at",
                "finished_at",
                "error",
                "workflow_id",
                "run_id",
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
        attempts=action.attempts,
        started_at=action.started_at,
        finished_at=action.finished_at,
        duration_ms=_milliseconds(action.started_at, action.finished_at),
    )


def _milliseconds(start: datetime | None, end: datetime | None) -> int | None:
    return round((end - start).total_seconds() * 1000) if start and end else None


class AccountFeatures(BaseModel):
    """What the account can do."""

    data_retention_days: int | None = Field(description="Days that logs are kept.")


class WhoamiResponse(BaseModel):
    """Who calls."""

    model_config = example(
        account_name="Doorbell",
        account_slug="doorbell",
        account_features={"data_retention_days": 30},
        type="service_token",
        service_token_name="ci",
        service_token_scope="write",
        user_id=None,
        user_name=None,
        user_email=None,
    )

    account_name: str
    account_slug: str
    account_features: AccountFeatures
    type: Literal["service_token"]
    service_token_name: str
    service_token_scope: str = Field(description="`read`, `write` or `admin` (Doorbell's own field).")
    user_id: None = None
    user_name: None = None
    user_email: None = None
