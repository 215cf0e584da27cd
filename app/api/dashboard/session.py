"""Who visits: the session cookie, what the session may do, and whether a form came from a page of ours.

Every handler of a page takes a `ReadVisit`, `WriteVisit` or `AdminVisit`; that is its authorisation, its CSRF
check and its environment in one.
"""

import hmac
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Depends, Request, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.environments import list_environments, unknown_environment
from app.account.sessions import SESSION_LIFE, LoggedIn, SessionKeys, find_session
from app.account.tokens import Scope
from app.api.dashboard.forms import read_form
from app.api.dashboard.pages import ENVIRONMENT_COOKIE, Visit
from app.api.dependencies import RuntimeDep, SessionDep
from app.core.errors import RequestError
from app.core.settings import Settings
from app.runtime.resources import Runtime

COOKIE = "doorbell_session"
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf_token"
_SAFE = frozenset({"GET", "HEAD"})


class NotLoggedIn(Exception):
    """Nobody is logged in: the login page comes next."""


async def logged_in(request: Request, runtime: Runtime, session: AsyncSession) -> LoggedIn | None:
    """The open session of a request's cookie."""
    cookie = request.cookies.get(COOKIE)
    identifier = SessionKeys(runtime.settings.secret_key).unseal(cookie) if cookie else None
    return None if identifier is None else await find_session(session, runtime.settings, identifier)


def remember(response: Response, settings: Settings, identifier: UUID) -> None:
    """Set the cookie of a session."""
    response.set_cookie(
        COOKIE,
        SessionKeys(settings.secret_key).seal(identifier),
        max_age=int(SESSION_LIFE.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=is_secure(settings),
    )


def is_secure(settings: Settings) -> bool:
    """Whether people reach us over TLS."""
    return settings.base_url.startswith("https://")


def check_origin(request: Request, settings: Settings) -> None:
    """Refuse what another site lets a browser send. Browsers say where a request comes from:
    https://www.w3.org/TR/fetch-metadata/ (to secure addresses and loopback), else the `Origin`.

    Raises:
        RequestError: 403, it comes from elsewhere.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    ours = {request.headers.get("host"), urlsplit(settings.base_url).netloc}
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is not None and urlsplit(origin).netloc in ours
    if not is_ours:
        raise RequestError(403, "cross_site", "This form was sent from another site")


async def check_csrf(request: Request, settings: Settings, opened: LoggedIn) -> None:
    """Refuse a change that no page of this session asked for.

    Raises:
        RequestError: 403, it comes from elsewhere, or without the session's token.
    """
    check_origin(request, settings)
    given = request.headers.get(CSRF_HEADER) or (await read_form(request)).text(CSRF_FIELD)
    if not hmac.compare_digest(given.encode(), opened.csrf_token.encode()):
        raise RequestError(403, "csrf_token_invalid", "This page is too old: load it again, then repeat this")


def _visit(needed: Scope, *, account: bool = False) -> Callable[..., Coroutine[Any, Any, Visit]]:
    async def visit(request: Request, runtime: RuntimeDep, session: SessionDep) -> Visit:
        opened = await logged_in(request, runtime, session)
        if opened is None:
            raise NotLoggedIn
        every = await list_environments(session)
        environments = [each for each in every if opened.access.permits(each.slug)]
        if not environments:
            raise opened.access.refused("there is no such environment any more")
        wanted = request.query_params.get("environment")
        chosen = wanted or request.cookies.get(ENVIRONMENT_COOKIE)
        current = next((each for each in environments if each.slug == chosen), environments[0])
        visit = Visit(request, runtime, session, opened, environments, current)
        # Errors are shown in the layout of the page that they happen on.
        request.state.visit = visit
        if wanted and wanted != current.slug:
            if wanted in {each.slug for each in every}:
                opened.access.require(wanted)
            raise RequestError(404, "resource_missing", unknown_environment(wanted, environments))
        if not visit.may(needed):
            raise RequestError(403, "insufficient_scope", missing_scope(visit, needed))
        if account and opened.access.environments is not None:
            raise opened.access.refused("this concerns the whole account")
        if request.method not in _SAFE:
            await check_csrf(request, runtime.settings, opened)
        return visit

    return visit


def missing_scope(visit: Visit, needed: Scope) -> str:
    """What to say to somebody whose token does not allow something."""
    return (
        f"This needs a service token with scope {needed}; you are logged in with "
        f"{visit.access.name!r}, which has {visit.access.scope}"
    )


ReadVisit = Annotated[Visit, Depends(_visit(Scope.READ))]
WriteVisit = Annotated[Visit, Depends(_visit(Scope.WRITE))]
AdminVisit = Annotated[Visit, Depends(_visit(Scope.ADMIN))]
# For what belongs to the account: tokens that are limited to some environments do not open it.
AccountReadVisit = Annotated[Visit, Depends(_visit(Scope.READ, account=True))]
AccountWriteVisit = Annotated[Visit, Depends(_visit(Scope.WRITE, account=True))]
AccountAdminVisit = Annotated[Visit, Depends(_visit(Scope.ADMIN, account=True))]


@dataclass(frozen=True)
class Visitor:
    """Somebody who need not be logged in."""

    request: Request
    runtime: Runtime
    session: AsyncSession


async def _visitor(request: Request, runtime: RuntimeDep, session: SessionDep) -> Visitor:
    return Visitor(request, runtime, session)


VisitorDep = Annotated[Visitor, Depends(_visitor)]
