"""What the Management API answers: Knock's shapes, and the fields that Doorbell adds to them.

Fields that answers leave out when they were not asked for (`include`) are not set, and routes exclude what is
not set.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.account.tokens import Access
from app.core.settings import Settings
from app.database.pages import Page
from app.models.environment import Environment
from app.models.source import Mapping
from app.models.types import in_utc
from app.sources.store import Configured, ConfiguredSource, shown_alert

Item = TypeVar("Item")
Shown = TypeVar("Shown", bound=BaseModel)

# In UTC, so that it is written with Z.
Timestamp = Annotated[datetime, AfterValidator(in_utc)]
Json = dict[str, Any]


def example(**fields: Any) -> ConfigDict:
    """An example for the documentation."""
    return ConfigDict(json_schema_extra={"example": fields})


class WrappedRequest(BaseModel):
    """A body with what it is about under one key. What stands beside it is refused: it would count for
    nothing."""

    model_config = ConfigDict(extra="forbid")


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
    "skip_older": False,
    "conditions": None,
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
    skip_older: bool = Field(
        description="Whether it is skipped when a later event was applied (Doorbell's own field)."
    )
    conditions: Json | None = Field(
        description="It runs only when these are met; null: always (Doorbell's own field)."
    )
    is_deleted: bool = Field(description="Always false: deleted mappings are gone at once.")
    created_at: Timestamp
    updated_at: Timestamp


class ScriptResponse(BaseModel):
    """A script that runs before events are mapped."""

    language: Literal["javascript"]
    source: str


class FailureAlertResponse(BaseModel):
    """When failures of a source are told of, and to whom."""

    window_minutes: int = Field(
        description="Over which time failures are counted; alerts are one at most in it."
    )
    failed_events: int | None = Field(description="How many failed events are told of.")
    failed_share: float | None = Field(description="Which share of failed events is told of.")
    stuck_after_minutes: int | None = Field(description="When an event that is not finished is told of.")
    webhook_url: str | None
    emails: list[str]


class SettingsResponse(BaseModel):
    """A source's settings in one environment."""

    endpoint: str = Field(description="The URL that receives events.")
    event_type_path: str | None = Field(description="Where the event type is.")
    idempotency_key_path: str | None = Field(description="Where the idempotency key is.")
    ordering_key_path: str | None = Field(
        description="Where the ordering key is; null: events are not ordered (Doorbell's own field)."
    )
    ordering_hold: int | None = Field(
        description="For how many seconds at most an event holds up the next one of its ordering key "
        "(Doorbell's own field)."
    )
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
        description=(
            "Whether a batch is refused when its signature covers its first event only (Doorbell's own "
            "field)."
        )
    )
    rate_limit_per_second: int | None = Field(
        description="Events that each API process accepts in a second (Doorbell's own field)."
    )
    failure_alert: FailureAlertResponse | None = Field(
        description="When failures are told of, and to whom (Doorbell's own field)."
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
                "ordering_key_path": "preprocess.ordering_keys",
                "ordering_hold": None,
                "timestamp_path": "body.created",
                "enforce_verification": True,
                "preprocess_script": None,
                "enforce_idempotency": True,
                "idempotency_window_seconds": 86400,
                "start_unmapped": True,
                "handle_identifies": None,
                "strict_batches": False,
                "rate_limit_per_second": None,
                "failure_alert": None,
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
    warnings: list[str] = Field(
        [], description="Paths of mappings that had no value in any stored event of their type."
    )


class SourceSummary(BaseModel):
    """A source in the list of sources."""

    model_config = example(
        key="stripe",
        name="Stripe",
        description=None,
        custom_image_url=None,
        provider="stripe",
        created_at="2026-01-01T00:00:00Z",
        updated_at="2026-01-01T00:00:00Z",
    )

    key: str
    name: str
    description: str | None
    custom_image_url: str | None
    provider: str = Field(description="What kind of source it is (Doorbell's own field).")
    created_at: Timestamp
    updated_at: Timestamp
    environment_settings: dict[str, EnvironmentSettingsResponse] | None = Field(
        None, description="Only there when `include` has it."
    )


def endpoint_url(settings: Settings, token: str) -> str:
    """The URL that receives events for a token."""
    return f"{settings.base_url}/integrations/receive/{token}"


def source_response(found: ConfiguredSource, settings: Settings, access: Access) -> SourceResponse:
    """The source with its settings in the environments that the caller may see."""
    shown = _environment_settings(found, settings)
    return SourceResponse(
        **found.source.model_dump(),
        environment_settings={slug: each for slug, each in shown.items() if access.permits(slug)},
    )


def source_summary(
    found: ConfiguredSource, settings: Settings, environments: Sequence[str] | None
) -> SourceSummary:
    """The source with its settings in these environments, or without settings for None."""
    summary = SourceSummary(**found.source.model_dump())
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
        ordering_key_path=row.ordering_key_path,
        ordering_hold=row.ordering_hold,
        timestamp_path=row.timestamp_path,
        enforce_verification=row.enforce_verification,
        preprocess_script=script_response(row.preprocess_script),
        enforce_idempotency=row.enforce_idempotency,
        idempotency_window_seconds=int(row.idempotency_window.total_seconds()),
        start_unmapped=row.start_unmapped,
        handle_identifies=row.handle_identifies,
        strict_batches=row.strict_batches,
        rate_limit_per_second=row.rate_limit_per_second,
        failure_alert=None
        if (alert := shown_alert(row.failure_alert)) is None
        else FailureAlertResponse(**alert),
    )


def mapping_response(mapping: Mapping) -> MappingResponse:
    shown = mapping.model_dump(exclude={"source_environment_id"})
    return MappingResponse(
        **{**shown, "action_parameters": mapping.action_parameters or None}, is_deleted=False
    )


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
        description=(
            "`received`: the latest that came. `example`: none came lately; this is what the provider sends."
        )
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
        service_token_environments=None,
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
    service_token_environments: list[str] | None = Field(
        description="The environments that the token is limited to; null is all (Doorbell's own field)."
    )
    user_id: None = None
    user_name: None = None
    user_email: None = None
