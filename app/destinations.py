"""Where actions run: Knock, something that speaks its API, or the embedded directory in this process.

The only module that touches Knock's client. One client for each destination, kept for the life of the process.
Temporal retries, so the client does not; what it raises becomes `Retryable` or `Permanent` here.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import httpx
import knockapi
from knockapi import AsyncKnock, DefaultAioHttpClient
from pydantic import BaseModel
from starlette.types import ASGIApp

from app.config import Configuration, Destination
from app.errors import Permanent, Retryable
from app.models.types import digest_of

Result = TypeVar("Result")
Knock = AsyncKnock

# A person waits for the check.
CHECK_TIMEOUT = 10.0
TIMEOUT = httpx.Timeout(20.0, connect=5.0)
RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})
MAXIMUM_RETRY_AFTER = 3600.0
MAXIMUM_ERROR_LENGTH = 2000


class Refused(Permanent):
    """The destination said no. The text is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Destinations:
    """The clients of this process, made when first needed."""

    def __init__(self, configuration: Configuration, directory: ASGIApp) -> None:
        self._configuration = configuration
        self._directory = directory
        self._clients: dict[Destination, Knock] = {}

    def account(self, environment: str) -> str | None:
        """What the far side counts an environment's calls by, its key; None for the directory, which has no limits.

        A digest: it names rows of the database, and says nothing.
        """
        destination = self._configuration.destination(environment)
        if destination.url is None:
            return None
        return digest_of(destination.url, destination.key or "").hex()[:32]

    def client(self, environment: str) -> Knock:
        """The client of an environment's destination, as configured now."""
        destination = self._configuration.destination(environment)
        client = self._clients.get(destination)
        if client is None:
            client = self._clients[destination] = self._connect(destination)
        return client

    def _connect(self, destination: Destination) -> Knock:
        if destination.url is None:
            return connect_in_process(self._directory, destination.environment)
        if not destination.key:
            raise Permanent(f"environment {destination.environment} has a destination URL but no API key")
        return connect(destination.url, destination.key)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()


def connect_in_process(app: ASGIApp, environment: str) -> Knock:
    """A client of an application in this process, which is told the environment as the key."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return Knock(
        api_key=environment,
        base_url="http://directory",
        max_retries=0,
        http_client=httpx.AsyncClient(transport=transport, timeout=TIMEOUT),
    )


def connect(url: str, key: str) -> Knock:
    """A client of Knock, or of what speaks its API, at a URL."""
    return Knock(
        api_key=key,
        base_url=url,
        max_retries=0,
        timeout=TIMEOUT,
        http_client=DefaultAioHttpClient(timeout=TIMEOUT),
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
        raise Permanent(_capped(f"the destination's answer is not Knock's: {page}"))


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
            f"no connection to the destination: {_capped(str(cause) or type(cause).__name__)}",
            code="connection_error",
        ) from error
    except knockapi.APIStatusError as error:
        status, text = error.status_code, _error_text(error)
        if status in RETRYABLE_STATUSES or status >= 500:
            raise Retryable(text, code=f"http_{status}", retry_after=_retry_after(error.response)) from error
        raise Refused(text, status) from error
    except (knockapi.APIError, ValueError) as error:
        # A ValueError comes from the client: an id that cannot be in a URL, or an answer that is not JSON.
        raise Permanent(
            _capped(f"the request cannot be sent, or its answer cannot be read: {error}")
        ) from error


def as_data(result: BaseModel) -> dict[str, Any]:
    """An answer of Knock's client as plain data.

    Raises:
        Permanent: the client gave what the server sent, which was not JSON; the URL is not that of a Knock.
    """
    if not isinstance(result, BaseModel):
        raise Permanent(_capped(f"the destination's answer is not Knock's: {result}"))
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


def count(result: object) -> int:
    """How many items the list in an answer has.

    Raises:
        Permanent: it is not a list; the URL is not that of a Knock.
    """
    if not isinstance(result, list):
        raise Permanent(_capped(f"the destination's answer is not Knock's: {result}"))
    return len(result)


def _error_text(error: knockapi.APIStatusError) -> str:
    """`422 invalid_params: recipients is required`, or the start of whatever came instead of Knock's body."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        code = body.get("code")
        details = body.get("errors")
        text = f"{error.status_code} {code or 'error'}: {body['message']}"
        return _capped(f"{text} {details}" if details else text)
    return _capped(f"{error.status_code}: {error.response.text}")


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


def _capped(text: str) -> str:
    return text.replace("\x00", "")[:MAXIMUM_ERROR_LENGTH]
