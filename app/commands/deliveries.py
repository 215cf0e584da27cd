"""What a command sends: the provider's example made fresh, a person's own payload, or recorded requests."""

import base64
import secrets
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from app.config import Endpoint
from app.errors import ConfigurationError
from app.mapping import MISSING, DecodedEvent, parse_path, resolve
from app.mapping import Path as FieldPath
from app.models.types import now
from app.providers.base import Example
from app.rehearsal import sign_delivery

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


@dataclass(frozen=True)
class Request:
    """One request to the ingestion URL."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def example_request(endpoint: Endpoint, event_type: str | None) -> Request:
    """The provider's example of an event type, by default the first that has a mapping, as if it happened now.

    Raises:
        ConfigurationError: the provider has no such example.
    """
    example = _example(endpoint, event_type)
    body = orjson.dumps(_fresh(endpoint, example, now()))
    return signed(endpoint, Request(body, dict(example.headers)))


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
    """The requests in a file of JSON lines: `{"headers": {...}, "body": ...}`, a text body being taken as it stands,
    or `body_base64` for what is not text.

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


def signed(endpoint: Endpoint, request: Request) -> Request:
    """The request with the headers that the vendor would send, from the newest signing secret, if there is one."""
    return Request(request.body, {**request.headers, **sign_delivery(endpoint, request.body)})


def forwarded_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers that go with the event when it is passed on."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name not in _HOP_BY_HOP}


def _example(endpoint: Endpoint, event_type: str | None) -> Example:
    examples = endpoint.provider.examples
    if not examples:
        raise ConfigurationError(f"{endpoint.provider.name} has no examples: give --payload")
    if event_type is None:
        event_type = next((name for name in examples if name in endpoint.mappings), next(iter(examples)))
    if event_type not in examples:
        known = ", ".join(examples)
        raise ConfigurationError(
            f"{endpoint.provider.name} has no example of {event_type!r}; there are {known}. Or give --payload"
        )
    return examples[event_type][0]


def _fresh(endpoint: Endpoint, example: Example, moment: datetime) -> dict[str, Any]:
    """The example's body with an idempotency key of its own and the time of now: it is not taken for a repeat."""
    body: dict[str, Any] = deepcopy(example.body)
    for path, renew in ((endpoint.idempotency_key_path, _new_key), (endpoint.timestamp_path, _new_time)):
        parsed = parse_path(path) if path else None
        if parsed is None or parsed.root != "body" or any(key.projects for key in parsed.keys):
            continue
        old = resolve(parsed, DecodedEvent(body))
        if old is not MISSING and old is not None:
            _put(body, parsed, renew(old, moment))
    return body


def _put(body: dict[str, Any], path: FieldPath, value: Any) -> None:
    place: Any = body
    for key in path.keys[:-1]:
        place = place[int(key.name)] if isinstance(place, list) else place[key.name]
    last = path.keys[-1].name
    place[int(last) if isinstance(place, list) else last] = value


def _new_key(old: Any, moment: datetime) -> Any:
    return f"{old}_{secrets.token_hex(6)}" if isinstance(old, str) else old


def _new_time(old: Any, moment: datetime) -> Any:
    """Now, in the form that the example has it."""
    if isinstance(old, str):
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(old, int | float):
        return int(moment.timestamp() * (1000 if old >= 1e12 else 1))
    return old


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
