"""The sources: those that are connected, with their last hour, and the catalogue of those that can be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Response

from app.account.tokens import Scope
from app.api.dashboard.connect import find_provider, free_key
from app.api.dashboard.pages import redirect
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit
from app.logs.activity import SourceActivity, recent_activity
from app.models.source import Source
from app.providers.base import Kind, Provider
from app.providers.registry import providers
from app.providers.setup_pages import KINDS
from app.sources.store import ConfiguredSource, find_source, list_sources

router = APIRouter(route_class=PageRoute)


@dataclass(frozen=True)
class Connected:
    """A row of the list."""

    source: Source
    provider: Provider | None
    activity: SourceActivity
    mappings: int


@router.get("/sources")
async def show(visit: ReadVisit, connect: str | None = None) -> Response:
    """The list of sources and the catalogue; with the dialog to `connect` one of a provider."""
    found = await list_sources(visit.session)
    activity = await recent_activity(
        visit.session, visit.environment.slug, [each.source.key for each in found]
    )
    connected = [_connected(each, activity, visit.environment.slug) for each in found]
    dialog: dict[str, Any] = {}
    if connect and visit.may(Scope.WRITE):
        provider = find_provider(connect)
        dialog = {"provider": provider, "suggested": await free_key(visit, provider)}
    return visit.page("sources/list.html", connected=connected, catalogue=catalogue(), dialog=dialog)


@router.get("/sources/{key}")
async def open_source(key: str, visit: ReadVisit) -> Response:
    """A source's page: its first tab."""
    await find_source(visit.session, key)
    tabs = visit.request.app.state.navigation.source_tabs(key)
    return redirect(visit.request, visit.url(tabs[0].path))


def catalogue() -> list[tuple[Kind, str, Sequence[Provider]]]:
    """The kinds of providers with their titles and providers, in order."""
    return [
        (kind, title, [each for each in providers().values() if each.kind == kind])
        for kind, title in KINDS.items()
    ]


def _connected(found: ConfiguredSource, activity: dict[str, SourceActivity], environment: str) -> Connected:
    configured = found.environments.get(environment)
    active = [each for each in configured.mappings if each.active] if configured else []
    provider = providers().get(found.source.provider)
    return Connected(found.source, provider, activity[found.source.key], len(active))
