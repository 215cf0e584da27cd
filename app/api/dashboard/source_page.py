"""What the tabs of a source's page share: the source, its provider, and its settings in the environment on
view."""

from dataclasses import dataclass
from typing import Any

from app.api.dashboard.forms import Form
from app.api.dashboard.navigation import Entry
from app.api.dashboard.pages import Visit
from app.api.management.schemas import endpoint_url
from app.core.errors import FieldError
from app.core.validation import invalid_fields
from app.models.source import Mapping, SourceEnvironment
from app.providers.base import Provider
from app.providers.registry import providers
from app.sources.edits import add_signing_secret, edit_source
from app.sources.keys import takes_keys
from app.sources.store import ConfiguredSource, get_source, not_configured
from app.sources.versions import source_version


@dataclass(frozen=True)
class SourcePage:
    """A source in an environment. Templates of its tabs extend `sources/page.html` and are given it as
    `page`."""

    found: ConfiguredSource
    settings: SourceEnvironment
    mappings: list[Mapping]
    provider: Provider | None
    endpoint_url: str
    tabs: list[Entry]

    @property
    def key(self) -> str:
        """The source's key."""
        return self.found.source.key

    @property
    def name(self) -> str:
        """The source's name."""
        return self.found.source.name

    @property
    def version(self) -> str:
        """The version of the source, with which a form says what it was made for."""
        return source_version(self.found)

    @property
    def settings_field(self) -> str:
        """Where the settings of this environment are in a change, as errors name them."""
        return f"source.environment_settings.{self.settings.environment}.settings"

    @property
    def takes_keys(self) -> bool:
        """Whether the source may have keys."""
        return takes_keys(self.provider)

    @property
    def path(self) -> str:
        """Where its pages are."""
        return f"/sources/{self.key}"


async def open_source_page(visit: Visit, key: str) -> SourcePage:
    """The source in the environment on view.

    Raises:
        RequestError: 404, there is no such source, or it is not configured there.
    """
    found = await get_source(visit.session, key)
    configured = found.environments.get(visit.environment.slug)
    if configured is None:
        raise not_configured(key, visit.environment.slug)
    return SourcePage(
        found,
        configured.settings,
        configured.mappings,
        providers().get(found.source.provider),
        endpoint_url(visit.runtime.settings, configured.settings.endpoint_token),
        visit.request.app.state.navigation.source_tabs(key),
    )


async def change_settings(
    visit: Visit,
    page: SourcePage,
    settings: dict[str, Any],
    *,
    if_match: str | None = None,
    **source: Any,
) -> None:
    """Change settings of the source in the environment on view, and fields of the `source` itself.

    Raises:
        RequestError: 412, it is not as `if_match` says; 422, something is wrong with them.
    """
    slug = visit.environment.slug
    change = {"name": page.name, **source, "environment_settings": {slug: {"settings": settings}}}
    await edit_source(
        visit.session,
        visit.access,
        page.key,
        slug,
        {"source": change},
        if_match,
        scripts=visit.runtime.scripts,
        box=visit.runtime.box,
    )


async def add_typed_secret(visit: Visit, page: SourcePage, form: Form) -> None:
    """Add the signing secret that a form holds; the others end after its `expire_others` seconds, if it says
    so.

    Raises:
        RequestError: 422, it is none, or one that cannot be a secret.
    """
    if not form.text("value"):
        raise invalid_fields([FieldError("secret.value", "is required")])
    overlap = form.text("expire_others")
    await add_signing_secret(
        visit.session,
        visit.access,
        visit.runtime.box,
        page.settings,
        form.text("value"),
        expires_at=None,
        expire_others_in_seconds=int(overlap) if overlap.isdigit() else None,
    )
