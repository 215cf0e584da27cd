"""What a command sends: the provider's example made fresh, a person's own payload, or recorded requests."""

import base64
from collections.abc import Iterator
from pathlib import Path

import orjson

from app.core.errors import ConfigurationError
from app.replays.examples import Request, signed
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
    return orjson.dumps({"headers": request.headers, **body}) + b"\n"


def forwarded_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers that go with the event when it is passed on."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name not in _HOP_BY_HOP}


def _recorded(line: bytes, where: str) -> Request:
    try:
        entry = orjson.loads(line)
        headers = entry.get("headers") or {}
        body = base64.b64decode(entry["body_base64"]) if "body_base64" in entry else entry["body"]
        if not all(isinstance(value, str) for value in headers.values()):
            raise TypeError
    except (ValueError, AttributeError, LookupError, TypeError):
        raise ConfigurationError(
            f'{where} is not {{"headers": {{"name": "text"}}, "body": ...}} in JSON'
        ) from None
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else orjson.dumps(body)
    return Request(raw, forwarded_headers(headers))
