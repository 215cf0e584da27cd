"""A provider's example as a request that happens now: fresh, and signed as the vendor would."""

import secrets
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.actions.paths import MISSING, DecodedEvent, Path, parse_path, resolve
from app.core import exact_json
from app.core.errors import ConfigurationError
from app.models.types import now
from app.providers.base import Example
from app.replays.script_trials import sign_delivery
from app.sources.live import Endpoint


@dataclass(frozen=True)
class Request:
    """One request to the ingestion URL."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def example_request(endpoint: Endpoint, event_type: str | None) -> Request:
    """The provider's example of an event type, by default the first that has a mapping, as if it happened
    now.

    Raises:
        ConfigurationError: the provider has no such example.
    """
    example = _example(endpoint, event_type)
    body = exact_json.dumps(_fresh(endpoint, example, now()))
    return signed(endpoint, Request(body, dict(example.headers)))


def signed(endpoint: Endpoint, request: Request) -> Request:
    """The request with the headers that the vendor would send, from the newest signing secret, if there is
    one."""
    return Request(request.body, {**request.headers, **sign_delivery(endpoint, request.body)})


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
    """The example's body with an idempotency key of its own and the time of now: it is not taken for a
    repeat."""
    body: dict[str, Any] = deepcopy(example.body)
    for path, renew in ((endpoint.idempotency_key_path, _new_key), (endpoint.timestamp_path, _new_time)):
        parsed = parse_path(path) if path else None
        if parsed is None or parsed.root != "body" or any(key.projects for key in parsed.keys):
            continue
        old = resolve(parsed, DecodedEvent(body))
        if old is not MISSING and old is not None:
            _put(body, parsed, renew(old, moment))
    return body


def _put(body: dict[str, Any], path: Path, value: Any) -> None:
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
