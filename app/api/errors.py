"""How errors are answered: every refusal and failure in Knock's error body, nothing of the inside in any of
them."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import FieldError, Rejected, RequestError
from app.core.validation import field_errors, invalid_fields, names_another_path
from app.runtime import metrics

logger = logging.getLogger(__name__)

RETRY_AFTER = 5
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class ErrorDetail(BaseModel):
    """One field that is wrong."""

    field: str = Field(
        description="The field, as a path into the request.",
        examples=["source.environment_settings.development.mappings.0.action_type"],
    )
    message: str = Field(description="What is wrong with it.", examples=["is required"])


class ErrorBody(BaseModel):
    """An error. `errors` lists every field that is wrong, and is there with status 422 only."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "resource_missing",
                "message": "There is no source 'stripe'",
                "status": 404,
                "type": "invalid_request_error",
            }
        }
    )

    code: str = Field(description="What went wrong, for programs.")
    message: str = Field(description="What went wrong, for people.")
    status: int = Field(description="The HTTP status.")
    type: str = Field(description="`authentication_error`, `invalid_request_error` or `api_error`.")
    errors: list[ErrorDetail] | None = Field(None, description="Every field that is wrong.")


_DESCRIPTIONS = {
    400: "The request cannot be read.",
    401: "No credential, or one that opens nothing.",
    403: "The credential does not allow this.",
    404: "There is no such thing.",
    409: "It cannot be done as things are.",
    412: "It has changed since you read it; `ETag` is the version of now.",
    413: "The body is too large.",
    431: "The request line and the headers are too large.",
    422: "Fields are wrong; `errors` names all of them.",
    429: "Too many requests; `Retry-After` says when to come back.",
    500: "A fault of Doorbell's own.",
    503: "The database cannot be reached; `Retry-After` says when to come back.",
}
# For `responses=` of routes: what each status means, with the schema of its body.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": description} for status, description in _DESCRIPTIONS.items()
}


# The answer to a person's browser, if there is one for it.
Page = Callable[[Request, RequestError], Response | None]
_PATHS_OF_PROGRAMS = ("/v1/", "/integrations/")


def install(app: FastAPI, page: Page | None = None) -> None:
    """Let the application answer all errors in Knock's error body; unknown paths to browsers with `page`."""
    app.state.error_page = page
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(Rejected, _rejected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    for kind in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(kind, _unavailable)
    app.add_middleware(UnexpectedErrors)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    return error_response(error.status, error.code, error.message, errors=error.errors, headers=error.headers)


async def _rejected(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Rejected)
    metrics.count_rejected(getattr(request.state, "endpoint", None), error.code)
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return error_response(error.status, error.code, error.message, headers=headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    if names_another_path(details):
        return error_response(404, "not_found", f"There is nothing at {request.url.path}")
    if any(each["type"] == "json_invalid" for each in details):
        return error_response(400, "invalid_json", "The body is not JSON")
    # Locations start with `body`, `query` or `path`.
    for each in details:
        each["loc"] = each["loc"][1:] or each["loc"]
    return await _refused(request, invalid_fields(field_errors(details)))


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: paths and methods that do not exist."""
    assert isinstance(error, HTTPException)
    refused = _in_our_words(request, error)
    page: Page | None = getattr(request.app.state, "error_page", None)
    shown = page(request, refused) if page is not None and _is_a_browser(request) else None
    if shown is None:
        return await _refused(request, refused)
    shown.headers.update(refused.headers or {})
    return shown


def _in_our_words(request: Request, error: HTTPException) -> RequestError:
    match error.status_code:
        case 404:
            return RequestError(404, "not_found", f"There is nothing at {request.url.path}")
        case 405:
            allowed = ", ".join(_allowed(request))
            message = f"{request.method} is not possible here; allowed: {allowed}"
            return RequestError(405, "method_not_allowed", message, headers={"Allow": allowed})
    message = _DESCRIPTIONS.get(error.status_code, "The request cannot be served.")
    return RequestError(error.status_code, "invalid_request", message, headers=dict(error.headers or {}))


def _is_a_browser(request: Request) -> bool:
    if request.url.path.startswith(_PATHS_OF_PROGRAMS):
        return False
    return "hx-request" in request.headers or "text/html" in request.headers.get("accept", "")


def _allowed(request: Request) -> list[str]:
    """The methods that a path has. Starlette names those of the first route only that has the path."""
    if request.scope.get("root_path", "") != request.scope.get("app_root_path", ""):
        # Mounted: files.
        return ["GET", "HEAD"]
    routes = request.app.router.routes
    return [
        method
        for method in _METHODS
        if any(each.matches({**request.scope, "method": method})[0] is Match.FULL for each in routes)
    ]


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    logger.warning("database_unavailable", extra={"path": request.url.path, "error": type(error).__name__})
    return error_response(
        503,
        "service_unavailable",
        "The database is not available",
        headers={"retry-after": str(RETRY_AFTER)},
    )


class UnexpectedErrors:
    """Answers 500 to what nobody expected, and logs it once, with its traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            logger.info("client_disconnected", extra={"path": scope["path"], "method": scope["method"]})
            # It goes nowhere, and the server wants one.
            await Response(status_code=400)(scope, receive, send)
        except Exception:
            if started or scope["type"] != "http":
                raise
            logger.exception("request_failed", extra={"path": scope["path"], "method": scope["method"]})
            answer = error_response(500, "internal_error", "Something went wrong; Doorbell's log says what")
            await answer(scope, receive, send)


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An answer with Knock's error body."""
    body: dict[str, Any] = {"code": code, "message": message, "status": status, "type": _type(status)}
    if errors:
        body["errors"] = [{"field": each.field, "message": each.message} for each in errors]
    return JSONResponse(body, status, headers)


def _type(status: int) -> str:
    if status in (401, 403):
        return "authentication_error"
    return "api_error" if status >= 500 else "invalid_request_error"
