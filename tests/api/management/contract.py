"""The contract of Knock's Management API for sources: what answers must look like, field by field.

Fields that Knock documents as required are required here; fields beyond the contract may be there.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _timestamp(value: object) -> datetime:
    """ISO 8601 in UTC, written with Z."""
    if not isinstance(value, str) or not value.endswith("Z"):
        raise ValueError(f"{value!r} is not a timestamp in UTC")
    return datetime.fromisoformat(value)


Timestamp = Annotated[datetime, BeforeValidator(_timestamp)]
Json = dict[str, Any]
ActionType = Literal[
    "workflows_trigger",
    "workflows_cancel",
    "users_identify",
    "users_merge",
    "users_delete",
    "objects_set",
    "objects_delete",
    "objects_subscribe",
    "objects_unsubscribe",
    "tenants_set",
    "tenants_delete",
    "audiences_add_member",
    "audiences_remove_member",
]


class Contract(BaseModel):
    """Types as they are in JSON: no number stands for a string, no string for a boolean."""

    model_config = ConfigDict(strict=True, extra="allow")


class PageInfo(Contract):
    after: str | None = None
    before: str | None = None
    page_size: int


class Environment(Contract):
    name: str
    slug: str
    order: int
    owner: Literal["system", "user"]
    created_at: Timestamp
    updated_at: Timestamp
    label_color: str | None = None
    hide_pii_data: bool = False
    last_commit_at: Timestamp | None = None
    deleted_at: Timestamp | None = None


class Environments(Contract):
    entries: list[Environment]
    page_info: PageInfo


class Script(Contract):
    language: Literal["javascript"]
    source: str


class Settings(Contract):
    endpoint: str
    enforce_verification: bool
    event_type_path: str | None = None
    idempotency_key_path: str | None = None
    timestamp_path: str | None = None
    preprocess_script: Script | None = None
    enforce_idempotency: bool | None = None
    handle_identifies: bool | None = None


class Mapping(Contract):
    event_type: str
    action_type: ActionType
    active: bool
    is_deleted: bool
    created_at: Timestamp
    updated_at: Timestamp
    action_parameters: Json | None = None


class EnvironmentSettings(Contract):
    settings: Settings
    mappings: list[Mapping]
    updated_at: Timestamp


class Source(Contract):
    key: str
    name: str
    environment_settings: dict[str, EnvironmentSettings]
    created_at: Timestamp
    updated_at: Timestamp
    description: str | None = None
    custom_image_url: str | None = None


class WrappedSource(Contract):
    source: Source


class SourceSummary(Contract):
    key: str
    name: str
    description: str | None = None
    custom_image_url: str | None = None
    environment_settings: dict[str, EnvironmentSettings] | None = None


class Sources(Contract):
    entries: list[SourceSummary]


class SourceEvent(Contract):
    event: str
    last_received_at: Timestamp | None


class SourceEvents(Contract):
    entries: list[SourceEvent]


class LogAction(Contract):
    id: str
    action_type: ActionType
    action_status: str | None = None
    action_parameters: Json | None = None
    action_payload: Json | None = None
    action_result: Json | None = None
    inserted_at: Timestamp | None = None


class Log(Contract):
    id: str
    event: str
    data: Json | None = None
    preprocess_output: Json | None = None
    source: str | None = None
    verification_status: str | None = None
    inserted_at: Timestamp | None = None
    actions: list[LogAction] = []


class Logs(Contract):
    entries: list[Log]
    page_info: PageInfo


class RequiringCommit(Contract):
    resource_key: str
    action_type: Literal["workflows_trigger"]
    event_type: str
    active: bool
    is_deleted: bool
    status: Literal["deleted", "updated"]


class SourceStatus(Contract):
    events_count: int
    last_event_received: Timestamp | None
    mappings_count: int
    mappings_requiring_commit: list[RequiringCommit]


class FieldError(Contract):
    field: str
    message: str


class Rehearsal(Contract):
    log_id: str | None
    status: Literal["ok", "error"]
    action_logs_count: int
    successful_action_logs_count: int
    failed_action_logs_count: int
    errors: list[FieldError] | None = None


class ProviderName(Contract):
    name: str
    description: str


class ProviderSummary(Contract):
    key: str
    version: str
    provider: ProviderName


class Providers(Contract):
    entries: list[ProviderSummary]


class Branding(Contract):
    icon_image: str
    wordmark_images: dict[Literal["light", "dark"], str]


class ProviderDisplay(ProviderName):
    categories: list[
        Literal["Billing", "Infrastructure", "Analytics", "CRM", "Ecommerce", "Communications", "Identity"]
    ]
    website_url: str | None
    webhook_docs_url: str
    webhook_config_deep_link: str | None = None
    knock_tutorial_url: str | None = None
    branding: Branding | None = None


class DefaultSettings(Contract):
    event_type_path: str
    enforce_verification: bool
    idempotency_key_path: str | None = None
    timestamp_path: str | None = None
    preprocessing_script: Script | None = None


class DefaultMapping(Contract):
    event_type: str
    action_type: ActionType
    action_parameters: Json


class ExamplePayload(Contract):
    headers: Json | None = None
    body: Json | None = None


class Provider(Contract):
    key: str
    version: str
    provider: ProviderDisplay
    default_settings: DefaultSettings
    default_action_mappings: list[DefaultMapping] = []
    example_payloads: dict[str, list[ExamplePayload]] | None = None
    static_fields: Json = {}


class AccountFeatures(Contract):
    data_retention_days: int | None = None


class Whoami(Contract):
    account_name: str
    account_slug: str
    account_features: AccountFeatures
    type: Literal["service_token", "oauth_context"]
    service_token_name: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    user_email: str | None = None


class ApiKey(Contract):
    api_key: str


class Error(Contract):
    """The body of every refusal."""

    code: str
    message: str
    status: int
    type: Literal["authentication_error", "invalid_request_error", "api_error"]
    errors: list[FieldError] = []


# Method and path template of the operations, without the variables.
OPERATIONS: dict[tuple[str, str], type[Contract]] = {
    ("POST", "/v1/api_keys/exchange"): ApiKey,
    ("GET", "/v1/environments"): Environments,
    ("GET", "/v1/environments/{environment_slug}"): Environment,
    ("GET", "/v1/source_providers"): Providers,
    ("GET", "/v1/source_providers/{key}"): Provider,
    ("GET", "/v1/sources"): Sources,
    ("GET", "/v1/sources/{key}"): Source,
    ("PUT", "/v1/sources/{key}"): WrappedSource,
    ("GET", "/v1/sources/{key}/events"): SourceEvents,
    ("GET", "/v1/sources/{key}/logs"): Logs,
    ("POST", "/v1/sources/{key}/rehearse"): Rehearsal,
    ("GET", "/v1/sources/{key}/status"): SourceStatus,
    ("GET", "/v1/whoami"): Whoami,
}
