"""Connecting a source: its identifier, and which of the provider's default mappings it starts with."""

from typing import Any

from fastapi import APIRouter, Response

from app.api.dashboard.forms import Form, field_messages, read_form
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import WriteVisit
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.models.source import Source
from app.providers.base import Provider
from app.providers.registry import providers
from app.runtime.resources import save
from app.sources.edits import edit_source
from app.sources.store import lock_source

router = APIRouter(route_class=PageRoute)


@router.post("/catalogue/{provider_key}")
async def connect(provider_key: str, visit: WriteVisit) -> Response:
    """Connect a source of this provider; its setup comes next."""
    provider = find_provider(provider_key)
    form = await read_form(visit.request)
    key = form.text("key")
    try:
        await lock_source(visit.session, key)
        if await visit.session.get(Source, key):
            raise invalid_fields(
                [FieldError("key", f"There is a source {key!r} already: choose another one")]
            )
        await edit_source(
            visit.session,
            visit.access,
            key,
            visit.environment.slug,
            {"source": _source(visit, provider, form)},
            None,
            scripts=visit.runtime.scripts,
            box=visit.runtime.box,
        )
    except RequestError as error:
        context: dict[str, Any] = {"values": form, "errors": field_messages(error, within="source")}
        return visit.part("sources/connect_form.html", error.status, provider=provider, **context)
    await save(visit.session, visit.runtime)
    return visit.go(visit.url(f"/sources/{key}/setup"))


def find_provider(key: str) -> Provider:
    """The provider.

    Raises:
        RequestError: 404, there is none with this key.
    """
    provider = providers().get(key)
    if provider is None:
        raise RequestError(404, "resource_missing", f"There is no provider {key!r}")
    return provider


async def free_key(visit: Visit, provider: Provider) -> str:
    """A key for a new source: the provider's, with a number when it is taken."""
    key, number = provider.key, 1
    while await visit.session.get(Source, key):
        number += 1
        key = f"{provider.key}-{number}"
    return key


def _source(visit: Visit, provider: Provider, form: Form) -> dict[str, object]:
    chosen = [
        {
            "event_type": each.event_type,
            "action_type": each.action_type,
            "action_parameters": each.action_parameters,
        }
        for number, each in enumerate(provider.default_mappings)
        if str(number) in form.all("mapping")
    ]
    return {
        "name": form.text("name"),
        "preconfigured_provider": provider.key,
        "environment_settings": {each.slug: {"mappings": chosen} for each in visit.environments},
    }
