"""Knock's client: towards Knock, what speaks its API, or the embedded directory in this process.

The only module that touches it. Temporal retries, so the client does not; what it raises becomes `Retryable`
or `Permanent` here.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from app.core import exact_json
from app.core.errors import Permanent, Refused, Retryable, capped


@contextmanager
def _as_if_missing(*names: str) -> Iterator[None]:
    """Let what is imported in the block find that these modules are not installed."""
    missing: dict[str, Any] = {name: None for name in names if name not in sys.modules}
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


# Where they are installed httpx imports its command line, with rich and pygments, and Knock's client aiohttp,
# which the embedded directory has no use for: 10 MB.
with _as_if_missing("httpx._main", "httpx_aiohttp"):
    import httpx
    import knockapi
    from knockapi import AsyncKnock
    from knockapi._constants import DEFAULT_CONNECTION_LIMITS
    from knockapi._models import FinalRequestOptions

Result = TypeVar("Result")
Knock = AsyncKnock

# A person waits for the check.
CHECK_TIMEOUT = 10.0
TIMEOUT = httpx.Timeout(20.0, connect=5.0)
RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})
MAXIMUM_RETRY_AFTER = 3600.0
_NO_REQUEST = httpx.Request("POST", "http://directory")
_ANSWERED = httpx.Response(200, request=_NO_REQUEST)

Shortcut = Callable[[str, str, str, dict[str, Any], str | None], Awaitable[dict[str, Any] | None]]


def connect_in_process(app: ASGIApp, environment: str, shortcut: Shortcut | None = None) -> Knock:
    """A client of an application in this process, which is told the environment as the key. `shortcut`: asked
    first."""
    return InProcessKnock(app, environment, shortcut)


class InProcessKnock(Knock):
    """Knock's client, whose calls of usual kind go to the application as they are: making and reading an HTTP
    message for each took a millisecond. Those that the shortcut answers skip routing too. Any other goes the
    client's own way."""

    def __init__(self, app: ASGIApp, environment: str, shortcut: Shortcut | None = None) -> None:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        super().__init__(
            api_key=environment,
            base_url="http://directory",
            max_retries=0,
            http_client=httpx.AsyncClient(transport=transport, timeout=TIMEOUT),
        )
        self._app = app
        self._shortcut = shortcut

    async def request(
        self,
        cast_to: type[Any],
        options: FinalRequestOptions,
        *,
        stream: bool = False,
        stream_cls: type[Any] | None = None,
    ) -> Any:
        headers: Mapping[str, object] = options.headers if isinstance(options.headers, Mapping) else {}
        if options.method.lower() == "get" or stream or options.params or not headers.keys() <= {"Accept"}:
            return await super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
        if self._shortcut is not None:
            method, key = options.method.upper(), options.idempotency_key
            data = await self._shortcut(self.api_key, method, options.url, _given(options) or {}, key)
            if data is not None:
                return self._process_response_data(data=data, cast_to=cast_to, response=_ANSWERED)
        status, sent, body = await self._call(options)
        response = httpx.Response(status, headers=sent, content=body, request=_NO_REQUEST)
        if status >= 400:
            raise self._make_status_error_from_response(response)
        if cast_to is type(None):
            return None
        # An empty answer is none of Knock's; the client gives it as it is.
        answered = exact_json.loads(body) if body else ""
        return self._process_response_data(data=answered, cast_to=cast_to, response=response)

    async def _call(self, options: FinalRequestOptions) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """The application's answer: status, headers and body."""
        given = _given(options)
        body = b"" if given is None else exact_json.dumps(given)
        headers = [
            (b"host", b"directory"),
            (b"authorization", f"Bearer {self.api_key}".encode()),
            (b"content-type", b"application/json"),
        ]
        if options.idempotency_key:
            headers.append((b"idempotency-key", options.idempotency_key.encode()))
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": options.method.upper(),
            "scheme": "http",
            "path": unquote(options.url),
            "raw_path": options.url.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "server": ("directory", 80),
            "client": ("directory", 0),
        }
        answer: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, send)
        start, *parts = answer
        return start["status"], start["headers"], b"".join(each.get("body", b"") for each in parts)


def _given(options: FinalRequestOptions) -> Any:
    """The body of a request, as JSON takes it."""
    given: Any = options.json_data
    return given if options.extra_json is None else {**(given or {}), **options.extra_json}


def connect(url: str, key: str) -> Knock:
    """A client of Knock, or of what speaks its API, at a URL."""
    from httpx_aiohttp import HttpxAiohttpClient

    return Knock(
        api_key=key,
        base_url=url,
        max_retries=0,
        timeout=TIMEOUT,
        http_client=HttpxAiohttpClient(
            timeout=TIMEOUT, limits=DEFAULT_CONNECTION_LIMITS, follow_redirects=True
        ),
    )


async def check_destination(url: str, key: str) -> None:
    """Make a call that changes nothing: list one user.

    Raises:
        Retryable: the destination cannot be reached, or is in trouble.
        Permanent: it refuses the key, or what answers there is not Knock.
    """
    async with connect(url, key) as knock:
        try:
            page = await asyncio.wait_for(attempt(_list_one_user(knock)), CHECK_TIMEOUT)
        except TimeoutError:
            raise Retryable("the destination did not answer in time", code="timeout") from None
    if not isinstance(page, dict) or not isinstance(page.get("entries"), list):
        raise Permanent(capped(f"the destination's answer is not Knock's: {page}"))


async def _list_one_user(knock: Knock) -> object:
    """The answer as JSON: the client's own page type takes it for granted that Knock answers."""
    answer = await knock.users.with_raw_response.list(page_size=1)
    return await answer.json()


async def attempt(call: Awaitable[Result]) -> Result:
    """The call's result, or why there is none, in Doorbell's terms.

    Raises:
        Retryable: connection errors, timeouts, 408, 409, 425, 429 and 5xx.
        Refused: every other status, with the destination's own text.
        Permanent: the request or its answer cannot be read.
    """
    try:
        return await call
    except knockapi.APIConnectionError as error:
        cause = _innermost(error)
        # The aiohttp transport reports a refused connection as a timeout too.
        if isinstance(error, knockapi.APITimeoutError) and not isinstance(cause, ConnectionError):
            raise Retryable("the destination did not answer in time", code="timeout") from error
        raise Retryable(
            f"no connection to the destination: {capped(str(cause) or type(cause).__name__)}",
            code="connection_error",
        ) from error
    except knockapi.APIStatusError as error:
        status, text = error.status_code, _error_text(error)
        if status in RETRYABLE_STATUSES or status >= 500:
            raise Retryable(text, code=f"http_{status}", retry_after=_retry_after(error.response)) from error
        code = error.body.get("code") if isinstance(error.body, dict) else None
        raise Refused(text, status, code) from error
    except (knockapi.APIError, ValueError) as error:
        # A ValueError comes from the client: an id that cannot be in a URL, or an answer that is not JSON.
        raise Permanent(
            capped(f"the request cannot be sent, or its answer cannot be read: {error}")
        ) from error


def _error_text(error: knockapi.APIStatusError) -> str:
    """`422 invalid_params: recipients is required`, or the start of whatever came instead of Knock's body."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        code = body.get("code")
        details = body.get("errors")
        text = f"{error.status_code} {code or 'error'}: {body['message']}"
        return capped(f"{text} {details}" if details else text)
    return capped(f"{error.status_code}: {error.response.text}")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds from the Retry-After header, bounded; dates are rare enough to leave to the backoff."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, MAXIMUM_RETRY_AFTER) if seconds >= 0 else None


def _innermost(error: BaseException) -> BaseException:
    """The error that began it: wrappers say nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
