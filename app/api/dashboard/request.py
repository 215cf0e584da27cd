"""How pages are answered when something is wrong: the login page, an error page, or a toast, never JSON."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.api.dashboard.pages import NOT_BUILT, NotBuilt, redirect, render, say, secured
from app.api.dashboard.session import NotLoggedIn
from app.core.errors import RequestError
from app.core.validation import field_errors, invalid_fields
from app.database.pages import PageRequest

logger = logging.getLogger(__name__)
PAGE_SIZE = 25
_DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeout)


class PageRoute(APIRoute):
    """A route that answers people: every answer has the security headers, every error is a page or a
    toast."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return secured(await _answer(handle, request))
            except NotBuilt:
                return secured(PlainTextResponse(NOT_BUILT, 503))

        return handler


async def _answer(handle: Callable[[Request], Coroutine[Any, Any, Response]], request: Request) -> Response:
    try:
        return await handle(request)
    except NotLoggedIn:
        return redirect(request, login_url(request))
    except RequestError as error:
        return error_page(request, error)
    except RequestValidationError as error:
        return error_page(request, invalid_fields(field_errors(error.errors())))
    except _DATABASE_ERRORS as error:
        logger.warning(
            "database_unavailable", extra={"path": request.url.path, "error": type(error).__name__}
        )
        unavailable = RequestError(503, "service_unavailable", "The database is not available")
        return error_page(request, unavailable)
    except NotBuilt:
        raise
    except Exception:
        logger.exception("request_failed", extra={"path": request.url.path, "method": request.method})
        message = "Something went wrong; Doorbell's log says what"
        return error_page(request, RequestError(500, "internal_error", message))


def error_page(request: Request, error: RequestError) -> Response:
    """The page, or for htmx the toast, that says what is wrong."""
    if "hx-request" in request.headers:
        # What is on the page stays.
        response = Response(status_code=error.status, headers={"hx-reswap": "none"})
        say(response, error.message, kind="error")
        return response
    visit = getattr(request.state, "visit", None)
    return render(request, "error.html", error.status, visit=visit, error=error)


def unknown_page(request: Request, error: RequestError) -> Response | None:
    """The page for what is no page of the dashboard; None when the dashboard is not built."""
    try:
        return secured(error_page(request, error))
    except NotBuilt:
        return None


def page_request(request: Request, size: int = PAGE_SIZE) -> PageRequest:
    """Which page of a list the address asks for."""
    query = request.query_params
    return PageRequest(size, query.get("after") or None, query.get("before") or None)


def login_url(request: Request) -> str:
    """The login page, which leads back to the page that this request wanted."""
    if request.method != "GET" or "hx-request" in request.headers or request.url.path == "/":
        return "/login"
    query = f"?{request.url.query}" if request.url.query else ""
    return f"/login?next={quote(request.url.path + query)}"
