"""The providers that sources can be made of."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, Field

from app.api.errors import RESPONSES
from app.api.management.dependencies import ReadAccess, separated
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Entries, Json, ScriptResponse, example, script_response
from app.core.errors import RequestError
from app.providers.base import Provider
from app.providers.registry import providers

router = APIRouter(prefix="/source_providers", tags=["Source providers"], route_class=ManagementRoute)

Include = Annotated[
    list[
        Literal[
            "branding", "default_action_mappings", "example_payloads", "preprocessing_script", "static_fields"
        ]
    ],
    BeforeValidator(separated),
    Query(description="What to show beside the provider."),
]


class ProviderName(BaseModel):
    """How a provider is called."""

    name: str
    description: str


class ProviderSummary(BaseModel):
    """A provider in the list of providers."""

    model_config = example(
        key="stripe",
        version="1.0.0",
        provider={"name": "Stripe", "description": "Identify customers and notify them."},
    )

    key: str
    version: str
    provider: ProviderName


class ProviderDisplay(ProviderName):
    """How a provider is shown. `branding` is there when `include` has it."""

    categories: list[str]
    website_url: str | None
    webhook_docs_url: str
    webhook_config_deep_link: str | None
    knock_tutorial_url: str | None
    branding: Json | None = None


class DefaultSettings(BaseModel):
    """What a new source starts with. `preprocessing_script` is there when `include` has it."""

    event_type_path: str
    enforce_verification: bool
    idempotency_key_path: str | None
    timestamp_path: str | None
    preprocessing_script: ScriptResponse | None = None


class DefaultActionMapping(BaseModel):
    """A mapping that a new source starts with."""

    event_type: str
    action_type: str
    action_parameters: Json


class ExamplePayload(BaseModel):
    """An event as the provider sends it, unsigned."""

    headers: Json | None
    body: Json | None


class ProviderResponse(BaseModel):
    """A provider. The last three fields are there when `include` has them."""

    model_config = example(
        key="stripe",
        version="1.0.0",
        provider={
            "name": "Stripe",
            "description": "Identify customers and notify them.",
            "categories": ["Billing"],
            "website_url": "https://stripe.com",
            "webhook_docs_url": "https://docs.stripe.com/webhooks",
            "webhook_config_deep_link": None,
            "knock_tutorial_url": None,
        },
        default_settings={
            "event_type_path": "body.type",
            "enforce_verification": True,
            "idempotency_key_path": "body.id",
            "timestamp_path": "body.created",
        },
    )

    key: str
    version: str
    provider: ProviderDisplay
    default_settings: DefaultSettings
    default_action_mappings: list[DefaultActionMapping] | None = None
    example_payloads: dict[str, list[ExamplePayload]] | None = Field(None, description="By event type.")
    static_fields: Json | None = Field(None, description="JSON Schema of what a person must enter.")


@router.get("", summary="List source providers")
async def list_source_providers(access: ReadAccess) -> Entries[ProviderSummary]:
    """All providers by key."""
    return Entries[ProviderSummary](
        entries=[
            ProviderSummary(
                key=each.key,
                version=each.version,
                provider=ProviderName(name=each.name, description=each.description),
            )
            for each in providers().values()
        ]
    )


@router.get(
    "/{key}",
    summary="Get a source provider",
    response_model=ProviderResponse,
    response_model_exclude_unset=True,
    responses={404: RESPONSES[404]},
)
async def read_source_provider(
    key: str,
    access: ReadAccess,
    include: Include = [],  # noqa: B006
) -> ProviderResponse:
    """The provider's settings, mappings and examples that a new source starts with."""
    provider = providers().get(key)
    if provider is None:
        known = ", ".join(providers())
        raise RequestError(404, "resource_missing", f"There is no source provider {key!r}; there are {known}")
    return _response(provider, include)


def _response(provider: Provider, include: list[Any]) -> ProviderResponse:
    display = ProviderDisplay(
        name=provider.name,
        description=provider.description,
        categories=list(provider.categories),
        website_url=provider.website_url,
        webhook_docs_url=provider.webhook_docs_url,
        webhook_config_deep_link=provider.webhook_config_deep_link,
        knock_tutorial_url=provider.knock_tutorial_url,
    )
    settings = DefaultSettings(
        event_type_path=provider.event_type_path,
        enforce_verification=provider.enforce_verification,
        idempotency_key_path=provider.idempotency_key_path,
        timestamp_path=provider.timestamp_path,
    )
    if "branding" in include:
        display.branding = None
    if "preprocessing_script" in include:
        settings.preprocessing_script = script_response(provider.script)
    response = ProviderResponse(
        key=provider.key, version=provider.version, provider=display, default_settings=settings
    )
    if "default_action_mappings" in include:
        response.default_action_mappings = [
            DefaultActionMapping(**vars(each)) for each in provider.default_mappings
        ]
    if "example_payloads" in include:
        response.example_payloads = {
            event_type: [ExamplePayload(headers=dict(each.headers), body=each.body) for each in examples]
            for event_type, examples in provider.examples.items()
        }
    if "static_fields" in include:
        response.static_fields = _static_fields(provider)
    return response


def _static_fields(provider: Provider) -> Json:
    """The signing secret, as JSON Schema."""
    if provider.secret is None:
        return {"type": "object", "properties": {}}
    secret: Json = {"type": "string", "title": provider.secret.label, "description": provider.secret.help}
    if provider.secret.placeholder:
        secret["examples"] = [provider.secret.placeholder]
    return {"type": "object", "properties": {"signing_secret": {**secret, "writeOnly": True}}}
