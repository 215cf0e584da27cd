"""Logging in, with a service token or by a link that works once, and out."""

import time
from collections import OrderedDict, deque
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from app.account.sessions import check_link, log_in, log_out, use_link
from app.api.dashboard.forms import Form, field_messages, read_form
from app.api.dashboard.pages import redirect, render
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import (
    COOKIE,
    ReadVisit,
    Visitor,
    VisitorDep,
    check_origin,
    logged_in,
    remember,
)
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields

router = APIRouter(route_class=PageRoute)

MAXIMUM_FAILURES = 10
MAXIMUM_FAILURES_TOGETHER = 200
FAILURE_WINDOW = timedelta(minutes=5)
MAXIMUM_ADDRESSES = 10_000


class Failures:
    """Logins that failed lately, by address and all together, in this process. Who fails too often has to
    wait; the right token gets in at any time, because nobody guesses 192 bits."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque(maxlen=MAXIMUM_FAILURES_TOGETHER)

    def note(self, address: str) -> None:
        """Count a failure.

        Raises:
            RequestError: 429, this address, or all of them together, failed too often.
        """
        times = self._times.setdefault(address, deque(maxlen=MAXIMUM_FAILURES))
        self._times.move_to_end(address)
        if len(self._times) > MAXIMUM_ADDRESSES:
            self._times.popitem(last=False)
        moment = time.monotonic()
        horizon = moment - FAILURE_WINDOW.total_seconds()
        for each in (times, self._all):
            if len(each) == each.maxlen and each[0] > horizon:
                wait = max(1, round(each[0] - horizon))
                message = f"Too many attempts failed: try again in {wait} s"
                raise RequestError(429, "too_many_requests", message, headers={"retry-after": str(wait)})
        times.append(moment)
        self._all.append(moment)


@router.get("/login")
async def show(visitor: VisitorDep, next: Annotated[str, Query()] = "/") -> Response:
    """The login page; who is logged in already goes on."""
    if await logged_in(visitor.request, visitor.runtime, visitor.session):
        return redirect(visitor.request, _local(next))
    return _page(visitor.request, next)


@router.post("/login")
async def enter(visitor: VisitorDep) -> Response:
    """Log in with a service token."""
    check_origin(visitor.request, visitor.runtime.settings)
    form = await read_form(visitor.request)
    failures: Failures = visitor.request.app.state.login_failures
    # Of the sender, or of what a trusted proxy says (DOORBELL_TRUSTED_PROXIES).
    address = visitor.request.client.host if visitor.request.client else ""
    try:
        identifier = await _log_in(visitor, _token(form), failures, address)
    except RequestError as error:
        return _page(visitor.request, form.text("next"), error)
    response = redirect(visitor.request, _local(form.text("next")))
    remember(response, visitor.runtime.settings, identifier)
    return response


async def _log_in(visitor: Visitor, token: str, failures: Failures, address: str) -> UUID:
    try:
        return await log_in(visitor.session, visitor.runtime.settings, token)
    except RequestError:
        failures.note(address)
        raise


@router.get("/login/{link}")
async def ask_to_enter_by_link(link: str, visitor: VisitorDep) -> Response:
    """A button that logs in by a link. A preview of a message that reads the link does not use it up."""
    try:
        await check_link(visitor.session, link)
    except RequestError as error:
        if await logged_in(visitor.request, visitor.runtime, visitor.session):
            return redirect(visitor.request, "/")
        return _page(visitor.request, "/", error)
    return render(visitor.request, "login_link.html", link=link)


@router.post("/login/{link}")
async def enter_by_link(link: str, visitor: VisitorDep) -> Response:
    """Log in by a link, which works once."""
    check_origin(visitor.request, visitor.runtime.settings)
    try:
        identifier = await use_link(visitor.session, link)
    except RequestError as error:
        return _page(visitor.request, "/", error)
    response = redirect(visitor.request, "/")
    remember(response, visitor.runtime.settings, identifier)
    return response


@router.post("/logout")
async def leave(visit: ReadVisit) -> Response:
    """Log out: the session is over, also for whoever copied its cookie."""
    await log_out(visit.session, visit.opened.id)
    response = redirect(visit.request, "/login")
    response.delete_cookie(COOKIE)
    return response


def _token(form: Form) -> str:
    token = form.text("token")
    if not token:
        raise invalid_fields([FieldError("token", "is required")])
    return token


def _page(request: Request, back: str, error: RequestError | None = None) -> Response:
    errors = field_messages(error) if error else {}
    status = error.status if error else 200
    response = render(request, "login.html", status, back=_local(back), errors=errors)
    response.headers.update(error.headers if error else {})
    return response


def _local(path: str) -> str:
    """The path, if it leads into this dashboard, else the start."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_local else "/"
