"""The events in a request of a customer data platform's library: `app/api/tracking.py` takes it, a replay of
a refused one (`app/replays/one.py`) takes it once more.
"""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from app.core import exact_json
from app.core.errors import Rejected
from app.core.raw_json import is_too_deep
from app.events.reception import MAXIMUM_EVENTS, TOO_DEEP
from app.models.types import now
from app.providers.base import Tracking

BATCHES = frozenset({"batch", "b", "import"})


def events_of(sent: bytes, body: Any, kind: str, limits: Tracking) -> Iterator[dict[str, Any]]:
    """The events of a request, each complete. `body` is what was sent, decoded; `kind` the type that its path
    says, if it is known.

    Raises:
        Rejected: the body is not a request, or one of its events is too large.
    """
    if not isinstance(body, dict):
        raise Rejected(400, "invalid_json", "the body is not a JSON object")
    if kind in BATCHES or "batch" in body:
        items, common, kind = body.get("batch"), body, ""
    else:
        items, common = [body], {}
    if is_too_deep(sent, body):
        raise Rejected(400, "json_too_deep", TOO_DEEP)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Rejected(400, "invalid_batch", "batch is not an array of events")
    if len(items) > MAXIMUM_EVENTS:
        raise Rejected(
            400, "batch_too_large", f"the batch has {len(items)} events, allowed are {MAXIMUM_EVENTS}"
        )
    for position, item in enumerate(items):
        if (size := len(exact_json.dumps(item))) > limits.maximum_event:
            message = f"event {position} has {size} bytes, allowed are {limits.maximum_event}"
            raise Rejected(400, "event_too_large", message)
        yield _complete(item, common, kind)


def _complete(item: dict[str, Any], common: dict[str, Any], kind: str) -> dict[str, Any]:
    """An event with what its batch says of all events, and with what its library left out."""
    event = {name: value for name, value in item.items() if name != "writeKey"}
    for name in ("context", "integrations"):
        shared, own = common.get(name), event.get(name)
        if isinstance(shared, dict) and isinstance(own, dict | None):
            event[name] = {**shared, **(own or {})}
    moment = now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    defaults = {
        "type": kind or None,
        "messageId": str(uuid4()),
        "timestamp": event.get("originalTimestamp") or common.get("timestamp") or moment,
        "sentAt": common.get("sentAt"),
    }
    given = {name: value for name, value in defaults.items() if value and not event.get(name)}
    return {**event, **given, "receivedAt": moment}
