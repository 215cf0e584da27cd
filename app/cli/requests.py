"""The requests that commands send to a source: the provider's example made fresh, a person's own payload, or
recorded requests."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from app.cli.results import Result, result_of, show
from app.cli.target import Target, open_target
from app.core import exact_json
from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.models.types import now
from app.replays.examples import Request, example_request, signed
from app.sources.live import Endpoint

# What belongs to one connection and not to the event.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def own_request(endpoint: Endpoint, path: Path) -> Request:
    """The payload in a file, byte for byte.

    Raises:
        ConfigurationError: there is no such file.
    """
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    return signed(endpoint, Request(body, {"content-type": "application/json"}))


def recorded_requests(path: Path) -> Iterator[Request]:
    """The requests in a file of JSON lines: `{"headers": {...}, "body": ...}`, a text body being taken as it
    stands, or `body_base64` for what is not text.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not a request; names the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _recorded(line, f"{path}, line {number}")


def record_of(request: Request) -> bytes:
    """The line by which `recorded_requests` reads the request again."""
    try:
        body = {"body": request.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(request.body).decode()}
    return exact_json.dumps({"headers": request.headers, **body}) + b"\n"


def forwarded_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers that go with the event when it is passed on."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name not in _HOP_BY_HOP}


@dataclass(frozen=True)
class Output:
    """How results are shown: tables for people, or a line of JSON each."""

    as_json: bool = False
    # Seconds until an event that is not processed yet is shown as it is.
    wait: float = 30.0

    def show(self, result: Result) -> None:
        if self.as_json:
            Console(soft_wrap=True, highlight=False, markup=False).print(result.to_json())
        else:
            show(result, Console())


async def send(
    settings: Settings,
    source: str,
    event_type: str | None,
    *,
    environment: str,
    payload: Path | None,
    count: int,
    output: Output,
) -> bool:
    """Send the provider's example, or a payload, `count` times; whether all went well.

    Raises:
        ConfigurationError: there is nothing to send, or nowhere to send it.
    """
    async with open_target(settings, source, environment) as target:
        return await send_all(target, _requests(target, event_type, payload, count), output)


async def send_all(target: Target, requests: Iterable[Request], output: Output) -> bool:
    """Send requests one after another and show what became of each; whether all went well."""
    good = True
    async with httpx.AsyncClient(timeout=30) as client:
        for request in requests:
            result = await deliver(target, client, request, output)
            good = good and result.is_good
    return good


async def deliver(target: Target, client: httpx.AsyncClient, request: Request, output: Output) -> Result:
    """Send one request, show the result."""
    sent_at = now()
    answer = await post(target, client, request)
    result = await result_of(target, answer, sent_at, output.wait)
    output.show(result)
    return result


async def post(target: Target, client: httpx.AsyncClient, request: Request) -> httpx.Response:
    """Send one request to the source's URL.

    Raises:
        ConfigurationError: nobody answers there.
    """
    try:
        return await client.post(target.url, content=request.body, headers=request.headers)
    except httpx.TransportError as error:
        raise ConfigurationError(
            f"the API does not answer at {target.settings.base_url} ({type(error).__name__}): is it running? "
            "DOORBELL_PUBLIC_URL, or DOORBELL_HOST and DOORBELL_PORT, say where it is"
        ) from error


def _requests(target: Target, event_type: str | None, payload: Path | None, count: int) -> Iterator[Request]:
    for _ in range(count):
        if payload is None:
            yield example_request(target.endpoint, event_type)
        else:
            yield own_request(target.endpoint, payload)


def _recorded(line: bytes, where: str) -> Request:
    try:
        entry = exact_json.loads(line)
        headers = entry.get("headers") or {}
        body = base64.b64decode(entry["body_base64"]) if "body_base64" in entry else entry["body"]
        if not all(isinstance(value, str) for value in headers.values()):
            raise TypeError
    except (ValueError, AttributeError, LookupError, TypeError):
        raise ConfigurationError(
            f'{where} is not {{"headers": {{"name": "text"}}, "body": ...}} in JSON'
        ) from None
    raw = body.encode() if isinstance(body, str) else body
    raw = raw if isinstance(raw, bytes) else exact_json.dumps(raw)
    return Request(raw, forwarded_headers(headers))
