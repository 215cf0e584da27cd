"""How pages are made: templates, what all of them know, and the headers of every answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import jinja2
import orjson
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.staticfiles import StaticFiles
from starlette.types import Scope as AsgiScope

from app.account.sessions import LoggedIn
from app.account.tokens import Access, Scope
from app.api.dashboard.icons import icon
from app.api.dashboard.json_view import json_line, json_text, json_view
from app.api.dashboard.navigation import Navigation
from app.api.dashboard.wording import FILTERS
from app.models.environment import Environment
from app.runtime.resources import Runtime

ASSETS = "/assets"
BUILT = Path(__file__).parent / "static"
THEMES = ("system", "light", "dark")
FLASH_COOKIE = "doorbell_flash"
THEME_COOKIE = "doorbell_theme"
ENVIRONMENT_COOKIE = "doorbell_environment"
NOT_BUILT = (
    "The dashboard's scripts and styles are not built yet: run `make dashboard`, then restart the API."
)

# No inline script or style, nothing from outside, nobody may frame us.
_SOURCES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "font-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
SECURITY_HEADERS = {
    "content-security-policy": "; ".join(f"{what} {where}" for what, where in _SOURCES.items()),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Forms keep their Origin, and no other site learns a path of ours.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class NotBuilt(Exception):
    """There are no built scripts and styles."""


class Assets(StaticFiles):
    """The built scripts and styles. Their names carry digests of what is in them, so browsers keep them for
    good."""

    def __init__(self, directory: Path = BUILT) -> None:
        super().__init__(directory=directory, check_dir=False)
        manifest = directory / "manifest.json"
        self._names: dict[str, str] = orjson.loads(manifest.read_bytes()) if manifest.exists() else {}

    def url(self, name: str) -> str:
        """The address of a file by its name in `assets/`.

        Raises:
            NotBuilt: nothing was built.
        """
        if not self._names:
            raise NotBuilt
        return f"{ASSETS}/{self._names[name]}"

    async def get_response(self, path: str, scope: AsgiScope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        response.headers["x-content-type-options"] = "nosniff"
        return response


_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(FILTERS)
_templates.globals.update(icon=icon, json_view=json_view, json_text=json_text, json_line=json_line)


@dataclass
class Visit:
    """One request of somebody who is logged in: what handlers of pages are given, and answer with."""

    request: Request
    runtime: Runtime
    session: AsyncSession
    opened: LoggedIn
    environments: Sequence[Environment]
    environment: Environment

    @property
    def access(self) -> Access:
        """What they may do."""
        return self.opened.access

    @property
    def is_partial(self) -> bool:
        """Whether htmx asks, for a part of the page."""
        return "hx-request" in self.request.headers

    def may(self, needed: Scope | str) -> bool:
        """Whether their token has this scope."""
        return self.access.scope.includes(Scope(needed))

    def url(self, path: str, /, **query: Any) -> str:
        """A link within the dashboard, in this environment. What is None or "" is left out."""
        given = {"environment": self.environment.slug, **query}
        return (
            f"{path}?{urlencode({name: value for name, value in given.items() if value not in (None, '')})}"
        )

    def here(self, **query: Any) -> str:
        """This page with some of its query changed; None takes a part away."""
        return self.url(self.request.url.path, **{**self.request.query_params, **query})

    def in_environment(self, slug: str) -> str:
        """This page in another environment, from its beginning."""
        kept = {
            name: value
            for name, value in self.request.query_params.items()
            if name not in ("after", "before", "environment")
        }
        return self.url(self.request.url.path, **{**kept, "environment": slug})

    def page(self, template: str, /, status: int = 200, **context: Any) -> HTMLResponse:
        """A whole page."""
        response = render(self.request, template, status, visit=self, **context)
        if self.request.cookies.get(ENVIRONMENT_COOKIE) != self.environment.slug:
            response.set_cookie(
                ENVIRONMENT_COOKIE, self.environment.slug, max_age=31536000, samesite="lax", httponly=True
            )
        return response

    def part(
        self, template: str, /, status: int = 200, *, toast: str | None = None, **context: Any
    ) -> HTMLResponse:
        """A part of a page, for htmx; with a toast, if there is something to say."""
        response = render(self.request, template, status, visit=self, **context)
        if toast:
            say(response, toast)
        return response

    def go(self, url: str, *, toast: str | None = None) -> Response:
        """Another page, after a change; a toast there says what was done."""
        response = redirect(self.request, url)
        if toast:
            response.set_cookie(FLASH_COOKIE, quote(toast), max_age=30, samesite="lax", httponly=True)
        return response


def render(request: Request, template: str, status: int = 200, /, **context: Any) -> HTMLResponse:
    """A page or a part of one.

    Raises:
        NotBuilt: there are no scripts and styles for it.
    """
    assets: Assets = request.app.state.assets
    navigation: Navigation = request.app.state.navigation
    theme = request.cookies.get(THEME_COOKIE, THEMES[0])
    flash = request.cookies.get(FLASH_COOKIE)
    is_whole = "hx-request" not in request.headers
    html = _templates.get_template(template).render(
        request=request,
        asset=assets.url,
        navigation=navigation,
        theme=theme if theme in THEMES else THEMES[0],
        themes=THEMES,
        flash=unquote(flash) if flash and is_whole else None,
        **context,
    )
    response = HTMLResponse(html, status)
    if flash and is_whole:
        response.delete_cookie(FLASH_COOKIE)
    return response


def template_part(template: str, /, **context: Any) -> Markup:
    """A part of a page by itself, for live streams."""
    return Markup(_templates.get_template(template).render(context))


def say(response: Response, message: str, *, kind: str = "success") -> None:
    """Let a toast say something, when htmx takes the answer."""
    response.headers["hx-trigger"] = json.dumps({"toast": {"message": message, "kind": kind}})


def redirect(request: Request, url: str) -> Response:
    """Another page; also when htmx asks."""
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"hx-redirect": url})
    return RedirectResponse(url, 303)


def secured(response: Response) -> Response:
    """The answer with the headers that every page has."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
