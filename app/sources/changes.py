"""What a caller wants a source to be, and everything that is wrong with it, found before anything is changed.

The models check what needs no database, so that one pass names all errors, however deep they are.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.actions.conditions import MappingConditions
from app.actions.parameters import check_parameters
from app.actions.paths import PathError
from app.actions.registry import action_types
from app.actions.spelling import check_path
from app.core import exact_json
from app.core.changes import Change, ReadOnly, Text
from app.core.errors import FieldError
from app.core.validation import field_errors
from app.providers.registry import providers
from app.scripting.pool import Scripts

DEFAULT_PROVIDER = "custom_http"
KEY_PATTERN = r"[a-z0-9][a-z0-9_-]*"
MAXIMUM_MAPPINGS = 1000
MAXIMUM_WINDOW_SECONDS = 30 * 24 * 3600
MAXIMUM_SCRIPT_LENGTH = 64 * 1024
MAXIMUM_RATE = 100_000
MAXIMUM_SECRET_LENGTH = 4096
# Deeper templates than this are not written by people, and are evaluated recursively.
MAXIMUM_PARAMETER_DEPTH = 20


def _path(text: str) -> str:
    try:
        check_path(text)
    except PathError as error:
        raise ValueError(str(error)) from None
    return text


def _http_url(text: str) -> str:
    if urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname:
        raise ValueError(f"{text!r} is not an http or https URL")
    return text


def _alert_url(text: str) -> str:
    """A password in it would be shown to whoever may read the source."""
    if "@" in urlsplit(_http_url(text)).netloc:
        raise ValueError("has a user or a password in it: leave them out, and sign alerts with a secret")
    return text


def _address(text: str) -> str:
    # Here: they bring the parser of all headers of emails, 0.6 MB.
    from email.errors import MessageError
    from email.headerregistry import Address

    try:
        address = Address(addr_spec=text)
    except (MessageError, ValueError, IndexError):
        address = Address()
    if not address.username or not address.domain:
        raise ValueError(f"{text!r} is not an email address")
    return text


def known_action_type(name: str) -> str:
    """The name, when there is such an action type."""
    if name not in action_types():
        raise ValueError(f"{name!r} is not an action type; there are {', '.join(action_types())}")
    return name


def stored_conditions(conditions: MappingConditions | None) -> dict[str, Any] | None:
    """Conditions as a mapping's row has them."""
    return None if conditions is None else conditions.model_dump(exclude_none=True)


PathText = Annotated[str, AfterValidator(_path)]


class MappingChange(Change):
    """A mapping as it shall be. `id`, when given, says which existing one it is."""

    id: str | None = Field(None, description="Which existing mapping this is, from an earlier answer.")
    event_type: Text = Field(description="The event type that runs the action.")
    action_type: Annotated[str, AfterValidator(known_action_type)] = Field(
        description="The action to run.", examples=["workflows_trigger"]
    )
    is_deleted: bool = Field(False, description="Whether to delete the mapping.")
    action_parameters: dict[str, Any] | None = Field(
        None,
        description='The action\'s parameters: a string is a path into the event, `{"value": ...}` a '
        "constant. Null: none yet; events then skip the action.",
        examples=[{"key": "invoice-paid", "recipients": "body.data.object.customer", "data": "body"}],
    )
    active: bool = Field(True, description="Whether the mapping runs.")
    skip_older: bool | None = Field(
        None,
        description="Whether the action is skipped when a later event of the source was applied to the same "
        "user, object or tenant. For payloads that carry the whole thing. Not given, it stays as it is; null "
        "is false.",
    )
    conditions: MappingConditions | None = Field(
        None,
        description="The action runs only if these are met. Not given, they stay as they are; null: always.",
        examples=[{"all": [{"variable": "body.plan", "operator": "equal_to", "argument": "pro"}]}],
    )
    created_at: ReadOnly
    updated_at: ReadOnly

    def columns(self) -> dict[str, Any]:
        """The mapping's columns."""
        columns: dict[str, Any] = {
            "event_type": self.event_type,
            "action_type": self.action_type,
            "action_parameters": self.action_parameters or {},
            "active": self.active,
        }
        if "skip_older" in self.model_fields_set:
            columns["skip_older"] = bool(self.skip_older)
        if "conditions" in self.model_fields_set:
            columns["conditions"] = stored_conditions(self.conditions)
        return columns

    @field_validator("skip_older")
    @classmethod
    def _only_for_state(cls, given: bool | None, info: ValidationInfo) -> bool | None:
        action = action_types().get(info.data.get("action_type", ""))
        if given and action is not None and action.effect is None:
            known = ", ".join(each.name for each in action_types().values() if each.effect is not None)
            raise ValueError(f"is for actions that set something; {action.name} does not: {known} do")
        return given

    @field_validator("action_parameters")
    @classmethod
    def _fit_the_action(cls, given: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if given is None:
            return None
        parameters = given
        action = action_types().get(info.data.get("action_type", ""))
        if action is None or info.data.get("is_deleted"):
            return parameters
        if _is_deep(parameters, MAXIMUM_PARAMETER_DEPTH):
            raise ValueError(f"is nested more than {MAXIMUM_PARAMETER_DEPTH} levels deep")
        if errors := check_parameters(action, parameters, ""):
            raise _invalid([FieldError(each.field.lstrip("."), each.message) for each in errors])
        return parameters


class ScriptChange(Change):
    """A script with a function `main(ctx)`, sync or async, that returns `{verified, ...}`."""

    language: Literal["javascript"]
    source: Annotated[str, StringConstraints(min_length=1, max_length=MAXIMUM_SCRIPT_LENGTH)] = Field(
        description="The source code."
    )


class FailureAlertChange(Change):
    """When failures are told of, and to whom: all of it, what is not given has its default."""

    window_minutes: int = Field(
        15, ge=1, le=24 * 60, description="Over which time failures are counted, and alerts are one at most."
    )
    failed_events: int | None = Field(
        None, ge=1, le=1_000_000, description="Alert when so many events failed in the window."
    )
    failed_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Alert when this share failed of the events received in the window that succeeded or "
        "failed, 10 at least.",
    )
    stuck_after_minutes: int | None = Field(
        None,
        ge=1,
        le=7 * 24 * 60,
        description="Alert when an event is not finished so long after its receipt.",
    )
    webhook_url: Annotated[str, AfterValidator(_alert_url)] | None = Field(
        None, description="Where alerts are posted.", examples=["https://ops.example.com/doorbell"]
    )
    emails: Annotated[list[Annotated[str, AfterValidator(_address)]], Field(max_length=20)] = Field(
        [], description="Whom alerts are mailed.", examples=[["ops@example.com"]]
    )

    @model_validator(mode="after")
    def _alerts_somebody_of_something(self) -> "FailureAlertChange":
        errors = []
        if (self.failed_events, self.failed_share, self.stuck_after_minutes) == (None, None, None):
            message = (
                "is required without a failed share or a time for stuck events: nothing would be told of"
            )
            errors.append(FieldError("failed_events", message))
        if self.webhook_url is None and not self.emails:
            errors.append(FieldError("webhook_url", "is required, or emails: nobody would be told"))
        if errors:
            raise _invalid(errors)
        return self


class SettingsChange(Change):
    """Settings of a source in one environment. Those that are given are changed."""

    event_type_path: PathText | None = Field(
        None, description="Where the event type is.", examples=["body.type"]
    )
    idempotency_key_path: PathText | None = Field(
        None, description="Where the idempotency key is.", examples=["body.id"]
    )
    ordering_key_path: PathText | None = Field(
        None,
        description="Where the ordering key is: events with the same one are executed one after the other. "
        "Null: all side by side.",
        examples=["body.user_id"],
    )
    ordering_hold: int | None = Field(
        None,
        ge=1,
        le=MAXIMUM_WINDOW_SECONDS,
        description="For how many seconds at most an event that is being executed holds up the next one of "
        "its ordering key; null for as long as it takes.",
    )
    timestamp_path: PathText | None = Field(
        None, description="Where the time of the event is.", examples=["body.created"]
    )
    enforce_verification: bool = Field(True, description="Whether events that fail verification are refused.")
    preprocess_script: ScriptChange | None = Field(
        None,
        description="JavaScript that verifies and preprocesses the events; null leaves both to the provider.",
    )
    enforce_idempotency: bool = Field(True, description="Whether repeats of an event run no actions.")
    idempotency_window_seconds: int = Field(
        24 * 3600, ge=1, le=MAXIMUM_WINDOW_SECONDS, description="How long a repeat is recognised."
    )
    start_unmapped: bool = Field(
        True,
        description=(
            "Whether events without a mapping get a workflow run of their own, to be inspected there."
        ),
    )
    handle_identifies: bool | None = Field(
        None,
        description="For customer data platforms. True: an `identify` event identifies its user also "
        "without a mapping that does. False: it never does. Null: as the mappings say.",
    )
    strict_batches: bool = Field(
        False,
        description=(
            "Whether a batch is refused when its signature covers its first event only, as Segment's does."
        ),
    )
    rate_limit_per_second: int | None = Field(
        None,
        ge=1,
        le=MAXIMUM_RATE,
        description=(
            "Events that each API process accepts in a second before it answers 429; null for no limit."
        ),
    )
    failure_alert: FailureAlertChange | None = Field(
        None, description="When failures are told of, and to whom; null for never."
    )
    signing_secret: (
        Annotated[str, StringConstraints(min_length=1, max_length=MAXIMUM_SECRET_LENGTH)] | None
    ) = Field(
        None,
        exclude=True,
        json_schema_extra={"writeOnly": True},
        description="A secret that verifies the source's events: added to those that it has, unless it is "
        "one of them. No answer shows it.",
    )
    endpoint: ReadOnly


class EnvironmentChange(Change):
    """A source's settings and mappings in one environment."""

    settings: SettingsChange | None = Field(None, description="Settings that are given are changed.")
    mappings: Annotated[list[MappingChange], Field(max_length=MAXIMUM_MAPPINGS)] | None = Field(
        None, description="The whole list: mappings that are not in it are removed. Without it, all stay."
    )
    updated_at: ReadOnly


class SourceChange(Change):
    """A source as it shall be. Fields that are not given stay as they are."""

    name: Text = Field(description="The name for people.", examples=["Stripe"])
    description: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        None, description="What the source is."
    )
    custom_image_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None, description="An image that stands for the source."
    )
    preconfigured_provider: str | None = Field(
        None,
        description="The provider whose settings and default mappings a new source starts with. Not given, "
        "it is of `provider`, else `custom_http`, and starts without mappings. Without effect on a source "
        "that exists.",
        examples=["stripe"],
    )
    environment_settings: dict[str, EnvironmentChange] | None = Field(
        None, description="Settings and mappings by environment slug."
    )
    provider: str | None = Field(
        None,
        description="What kind of source it is, as answers say it. A source that exists keeps its own.",
    )
    key: ReadOnly
    created_at: ReadOnly
    updated_at: ReadOnly


class WrappedSourceChange(BaseModel):
    """The request to create or change a source."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "source": {
                    "name": "Stripe",
                    "preconfigured_provider": "stripe",
                    "environment_settings": {
                        "development": {
                            "settings": {"enforce_verification": True},
                            "mappings": [
                                {
                                    "event_type": "invoice.paid",
                                    "action_type": "workflows_trigger",
                                    "action_parameters": {
                                        "key": "invoice-paid",
                                        "recipients": "body.data.object.customer",
                                        "data": "body",
                                    },
                                }
                            ],
                        }
                    },
                }
            }
        }
    )

    source: SourceChange


def check_change(
    body: object, *, environments: Sequence[str], existing_provider: str | None
) -> tuple[SourceChange | None, list[FieldError]]:
    """The change that a request's body asks for, and everything that is wrong with it. `existing_provider` is
    that of the source, if there is one already."""
    errors = []
    change = None
    try:
        change = WrappedSourceChange.model_validate(body).source
    except ValidationError as error:
        errors = field_errors(error.errors())
    errors += _provider_errors(body, existing_provider)
    known = ", ".join(environments)
    for slug, settings in _raw_environments(body):
        field = f"source.environment_settings.{slug}"
        if slug not in environments:
            errors.append(FieldError(field, f"there is no environment {slug!r}; there are {known}"))
        errors += _repeats(
            settings.get("mappings") if isinstance(settings, dict) else None, f"{field}.mappings"
        )
    return change, errors


def given_secrets(body: object) -> dict[str, str]:
    """The signing secrets that a valid change adds, by environment."""
    return {
        slug: environment["settings"]["signing_secret"]
        for slug, environment in _raw_environments(body)
        if ((environment or {}).get("settings") or {}).get("signing_secret")
    }


async def script_errors(scripts: Scripts, body: object) -> list[FieldError]:
    """What keeps the scripts of a change from running, with the line."""
    errors = []
    for slug, environment in _raw_environments(body):
        settings = environment.get("settings") if isinstance(environment, dict) else None
        script = settings.get("preprocess_script") if isinstance(settings, dict) else None
        source = script.get("source") if isinstance(script, dict) else None
        if not isinstance(source, str) or not 0 < len(source) <= MAXIMUM_SCRIPT_LENGTH:
            continue
        if error := await scripts.check(source):
            field = f"source.environment_settings.{slug}.settings.preprocess_script.source"
            errors.append(FieldError(field, str(error)))
    return errors


def _provider_errors(body: object, existing: str | None) -> Iterator[FieldError]:
    source = body.get("source") if isinstance(body, dict) else None
    given = source if isinstance(source, dict) else {}
    kind, start = given.get("provider"), given.get("preconfigured_provider")
    if existing is not None:
        if isinstance(kind, str) and kind != existing:
            message = f"is {existing!r} and cannot be changed: create a source under another key"
            yield FieldError("source.provider", message)
        return
    for name, key in (("preconfigured_provider", start), ("provider", kind)):
        if isinstance(key, str) and key not in providers():
            known = ", ".join(providers())
            yield FieldError(f"source.{name}", f"{key!r} is not a provider; there are {known}")
    if isinstance(kind, str) and isinstance(start, str) and kind != start:
        yield FieldError("source.provider", f"is not the preconfigured_provider {start!r}: give one of them")


def _raw_environments(body: object) -> list[tuple[str, Any]]:
    """The environments' part of a body that may have any shape."""
    source = body.get("source") if isinstance(body, dict) else None
    settings = source.get("environment_settings") if isinstance(source, dict) else None
    return list(settings.items()) if isinstance(settings, dict) else []


def _repeats(mappings: object, field: str) -> Iterator[FieldError]:
    """Mappings that say exactly what one before them says: the action would run twice."""
    seen: dict[bytes, int] = {}
    for position, each in enumerate(mappings if isinstance(mappings, list) else []):
        if not isinstance(each, dict) or each.get("is_deleted") is True:
            continue
        what = [each.get("event_type"), each.get("action_type"), each.get("action_parameters") or {}]
        # Of one that does not name its conditions, those that are stored stay: they may tell it apart.
        what.append(each["conditions"] if "conditions" in each else each.get("id"))
        first = seen.setdefault(canonical(what), position)
        if first != position:
            yield FieldError(f"{field}.{position}", f"is the same as mapping {first}")


def canonical(value: Any) -> bytes:
    """JSON by which two values are compared: the order of keys is no difference, `1` and `true` are."""
    return exact_json.dumps(value, option=orjson.OPT_SORT_KEYS)


def _is_deep(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(item, levels - 1) for item in items)


def _invalid(errors: Sequence[FieldError]) -> ValidationError:
    """An error for each field below the one that is validated."""
    return ValidationError.from_exception_data(
        "parameters",
        [
            InitErrorDetails(
                type=PydanticCustomError("parameter", "{message}", {"message": each.message}),
                loc=(each.field,),
                input=None,
            )
            for each in errors
        ],
    )
