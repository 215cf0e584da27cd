"""Logging in, with a service token or by a link that works once, and out."""

import time
from collections import OrderedDict, deque
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.account.sessions import log_in, log_out, use_link
from app.api.dashboard.forms import Form, field_messages, read_form
from app.api.dashboard.pages import redirect, render
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import COOKIE, ReadVisit, VisitorDep, check_origin, logged_in, remember
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields

router = APIRouter(route_class=PageRoute)

MAXIMUM_FAILURES = 10
FAILURE_WINDOW = timedelta(minutes=5)
MAXIMUM_ADDRESSES = 10_000


class Failures:
    """Logins that failed lately, by address, in this process. Who fails too often has to wait."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Let this address try.

        Raises:
            RequestError: 429, it failed too often.
        """
        times = self._times.get(address, deque())
        horizon = time.monotonic() - FAILURE_WINDOW.total_seconds()
        while times and times[0] < horizon:
            times.popleft()
        if len(times) >= MAXIMUM_FAILURES:
            wait = max(1, round(times[0] - horizon))
            message = f"Too many attempts failed: try again in {wait} s"
            raise RequestError(429, "too_many_requests", message, headers={"retry-after": str(wait)})

    def note(self, address: str) -> None:
        """Count a failure."""
        self._times.setdefault(address, deque(maxlen=MAXIMUM_FAILURES)).append(time.monotonic())
        self._times.move_to_end(address)
        if len(self._times) > MAXIMUM_ADDRESSES:
            self._times.popitem(last=False)


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
    address = visitor.request.client.host if visitor.request.client else ""
    try:
        failures.check(address)
        token = _token(form)
        identifier = await log_in(visitor.session, visitor.runtime.settings, token)
    except RequestError as error:
        if error.status == 401:
            failures.note(address)
        return _page(visitor.request, form.text("next"), error)
    response = redirect(visitor.request, _local(form.text("next")))
    remember(response, visitor.runtime.settings, identifier)
    return response


@router.get("/login/{link}")
async def enter_by_link(link: str, visitor: VisitorDep) -> Response:
    """Log in by a link, which works once."""
    try:
        identifier = await use_link(visitor.session, link)
    except RequestError as error:
        if await logged_in(visitor.request, visitor.runtime, visitor.session):
            return redirect(visitor.request, "/")
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
