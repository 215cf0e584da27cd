"""What a workflow is made of: the steps that Doorbell runs, in the shape of Knock's Management API.

Shapes: the workflow and step types of github.com/knocklabs/knock-mgmt-python. What is not run here (batches,
branches, throttles, other channels) is refused by name, so that no workflow runs otherwise than it reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    SecretStr,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.core.changes import Change, ReadOnly, Text
from app.directory.conditions import ConditionGroup
from app.directory.delays import DelaySettings
from app.models.types import now
from app.providers.verification import StandardWebhook, UnusableSecret
from app.scripting.templates import MAXIMUM_TEMPLATE_LENGTH

KEY_PATTERN = r"^[a-z0-9_-]{3,255}$"
MAXIMUM_STEPS = 50
MAXIMUM_URL_LENGTH = 2048
MAXIMUM_PAIRS = 50
# What the sender of a request decides, not its author.
_FORBIDDEN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "webhook-id", "webhook-timestamp"}
    | {"webhook-signature"}
)


@dataclass
class TemplatesOf:
    """The templates of a definition, as the context of its validation: which there are, and what is wrong
    with some of them."""

    sources: list[str] = field(default_factory=list)
    problems: Mapping[str, str] = field(default_factory=dict)


def _template(source: str, info: ValidationInfo) -> str:
    """A template. Whether it can be parsed is found out elsewhere (`app/directory/definitions.py`)."""
    if len(source) > MAXIMUM_TEMPLATE_LENGTH:
        raise ValueError(f"has more than {MAXIMUM_TEMPLATE_LENGTH} characters")
    if isinstance(info.context, TemplatesOf):
        info.context.sources.append(source)
        if (problem := info.context.problems.get(source)) is not None:
            raise ValueError(problem)
    return source


Template = Annotated[str, AfterValidator(_template)]
Description = Annotated[str, StringConstraints(max_length=280)]


def _url(text: str) -> str:
    """Data may decide the path and the query, never where a request goes."""
    scheme, separator, rest = text.partition("://")
    host = rest.partition("/")[0].partition("?")[0]
    if scheme not in ("http", "https") or not separator or not host or "{" in host or "@" in host:
        raise ValueError(
            "must begin with http:// or https:// and a host that is not a template, "
            "for example https://api.example.com/{{ data.id }}"
        )
    try:
        port = urlsplit(f"{scheme}://{host}").port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"{host!r} is not a host")
    return text


def _nothing(given: object) -> None:
    if given not in (None, [], {}):
        raise ValueError("is not supported: leave it out")


def _header_name(text: str) -> str:
    if not text or not all(each.isascii() and (each.isalnum() or each in "!#$%&'*+-.^_`|~") for each in text):
        raise ValueError("is not the name of a header")
    if text.lower() in _FORBIDDEN_HEADERS:
        raise ValueError(f"{text} is set by Doorbell")
    return text


Url = Annotated[
    str, StringConstraints(max_length=MAXIMUM_URL_LENGTH), AfterValidator(_template), AfterValidator(_url)
]
Unsupported = Annotated[None, BeforeValidator(_nothing), Field(None, exclude=True)]


class Header(Change):
    """A header; the value is a template."""

    key: Annotated[str, AfterValidator(_header_name)]
    value: Template


class QueryParameter(Change):
    """A parameter of the query; the value is a template."""

    key: str = Field(min_length=1)
    value: Template


class RequestTemplate(Change):
    """A request: everything in it but method and names is a template."""

    method: Literal["get", "post", "put", "delete", "patch"] = "get"
    url: Url
    headers: list[Header] = Field(default=[], max_length=MAXIMUM_PAIRS)
    query_params: list[QueryParameter] = Field(default=[], max_length=MAXIMUM_PAIRS)
    body: Template | None = None

    @field_validator("method", mode="before")
    @classmethod
    def _in_lower_case(cls, given: object) -> object:
        return given.lower() if isinstance(given, str) else given

    @field_validator("headers", "query_params", mode="before")
    @classmethod
    def _none_is_empty(cls, given: object) -> object:
        return [] if given is None else given


class FetchSettings(RequestTemplate):
    """A request whose answer is merged into the data, under `response_path` if there is one."""

    response_path: Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)*$", max_length=255)] | None = None


class EmailTemplate(Change):
    """An email. Without `text_body` the text is made from the HTML."""

    subject: Template
    html_body: Template
    text_body: Template | None = None
    settings: Unsupported
    visual_blocks: Unsupported


class EmailOverrides(Change):
    """Addresses other than the usual ones. All are templates."""

    from_address: Template | None = None
    from_name: Template | None = None
    to_address: Template | None = None
    cc_address: Template | None = None
    bcc_address: Template | None = None
    reply_to_address: Template | None = None


class ActionButton(Change):
    """A button below an in-app message."""

    label: Template
    action: Template


class InAppTemplate(Change):
    """An in-app message in Markdown."""

    markdown_body: Template
    action_url: Template | None = None
    action_buttons: list[ActionButton] = Field(default=[], max_length=10)


class WorkflowStep(Change):
    """What all steps have."""

    ref: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,255}$")] = Field(
        description="Names the step; no two steps of a workflow share it."
    )
    name: str | None = None
    description: Description | None = None
    conditions: ConditionGroup | None = Field(None, description="The step is skipped unless these are met.")


class DelayStep(WorkflowStep):
    """Waits."""

    type: Literal["delay"]
    settings: DelaySettings


class FetchStep(WorkflowStep):
    """Requests data over HTTP."""

    type: Literal["http_fetch"]
    settings: FetchSettings


class ChannelStep(WorkflowStep):
    """Makes a message for the recipient. The key names the channel in messages; there is nothing to set
    up."""

    type: Literal["channel"]
    channel_key: Text | None = None
    channel_group_key: Unsupported
    send_windows: Unsupported


class EmailStep(ChannelStep):
    """Sends an email through the SMTP server of the settings."""

    channel_type: Literal["email"]
    template: EmailTemplate
    channel_overrides: EmailOverrides | None = None


class WebhookStep(ChannelStep):
    """Sends a request, signed as Standard Webhooks when the workflow has a signing secret."""

    channel_type: Literal["http"]
    template: RequestTemplate


class InAppStep(ChannelStep):
    """Keeps a message for the recipient to read."""

    channel_type: Literal["in_app_feed"]
    template: InAppTemplate
    channel_overrides: Unsupported


_BY_TEMPLATE = {"markdown_body": "in_app_feed", "subject": "email", "url": "http"}
_CHANNEL_TYPES = {"webhook": "http", "in_app": "in_app_feed"}
KINDS = ("delay", "http_fetch", "email", "http", "in_app_feed")
# What Pydantic puts into the path of an error beside the fields.
NOT_FIELDS = frozenset({*KINDS, "Condition", "ConditionGroup"})


def _with_channel_type(value: Any) -> Any:
    """Knock's own files leave the channel's type to the channel; here the template tells it."""
    if not isinstance(value, dict) or value.get("type") != "channel":
        return value
    given = value.get("channel_type")
    if given is None:
        template = value.get("template")
        fields = template if isinstance(template, dict) else {}
        given = next((kind for field, kind in _BY_TEMPLATE.items() if field in fields), None)
    return {**value, "channel_type": _CHANNEL_TYPES.get(str(given), given)}


def _kind(value: Any) -> str | None:
    fields = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    kind = fields.get("channel_type") if fields.get("type") == "channel" else fields.get("type")
    return kind if isinstance(kind, str) and kind in KINDS else None


AnyStep = Annotated[
    Annotated[DelayStep, Tag("delay")]
    | Annotated[FetchStep, Tag("http_fetch")]
    | Annotated[EmailStep, Tag("email")]
    | Annotated[WebhookStep, Tag("http")]
    | Annotated[InAppStep, Tag("in_app_feed")],
    Discriminator(
        _kind,
        custom_error_type="unsupported_step",
        custom_error_message="is not a step that Doorbell runs: type is delay, http_fetch or channel, "
        "and channel_type of a channel is email, http or in_app_feed",
    ),
    BeforeValidator(_with_channel_type),
]


class WorkflowSettings(Change):
    """Accepted as Knock has them. There are no preferences that they could override here."""

    is_commercial: bool = False
    override_preferences: bool = False


class Workflow(Change):
    """A workflow as it shall be."""

    name: Text
    steps: list[AnyStep] = Field(max_length=MAXIMUM_STEPS)
    description: Description | None = None
    categories: list[Text] = Field(default=[], max_length=50)
    conditions: ConditionGroup | None = Field(None, description="The run ends at once unless these are met.")
    settings: WorkflowSettings | None = None
    trigger_frequency: Literal["every_trigger"] = "every_trigger"
    trigger_data_json_schema: Unsupported
    # Doorbell's own. Not part of a version: it is kept apart, encrypted.
    signing_secret: SecretStr | None = Field(
        None,
        exclude=True,
        description=(
            "`whsec_` and base64: signs the webhooks, and is never shown. Left out, it stays; null removes "
            "it."
        ),
    )
    has_signing_secret: ReadOnly
    key: ReadOnly
    environment: ReadOnly
    active: ReadOnly
    valid: ReadOnly
    sha: ReadOnly
    version_id: ReadOnly
    created_at: ReadOnly
    updated_at: ReadOnly
    deleted_at: ReadOnly

    @field_validator("signing_secret")
    @classmethod
    def _signs(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            try:
                StandardWebhook().sign(b"", secret.get_secret_value(), now(), "msg_check")
            except UnusableSecret as error:
                raise ValueError(str(error)) from None
        return secret

    @model_validator(mode="after")
    def _refs_differ(self) -> "Workflow":
        seen: set[str] = set()
        for step in self.steps:
            if step.ref in seen:
                raise ValueError(f"two steps have the ref {step.ref!r}")
            seen.add(step.ref)
        return self


class WrappedWorkflow(Change):
    """A workflow under the key `workflow`."""

    model_config = {
        "json_schema_extra": {
            "example": {
                "workflow": {
                    "name": "Welcome",
                    "steps": [
                        {
                            "ref": "welcome_email",
                            "type": "channel",
                            "channel_type": "email",
                            "template": {
                                "subject": "Hello {{ recipient.name }}",
                                "html_body": "<p>Good to have you.</p>",
                            },
                        }
                    ],
                }
            }
        }
    }

    workflow: Workflow
