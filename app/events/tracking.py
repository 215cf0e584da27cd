"""The events in a request of a customer data platform's library: `app/api/tracking.py` takes it, a replay of
a refused one (`app/replays/one.py`) takes it once more.
"""

from typing import Any
from uuid import uuid4

from app.core.errors import Rejected
from app.core.raw_json import Part, as_sent, part_of
from app.events.reception import MAXIMUM_EVENTS, none_taken
from app.models.types import now
from app.providers.base import Tracking

BATCHES = frozenset({"batch", "b", "import"})


def events_of(body: Any, kind: str, limits: Tracking) -> list[Part]:
    """The events of a request, each complete. `body` is what was sent, decoded; `kind` the type that its path
    says, if it is known.

    Raises:
        Rejected: the body is not a request, or none of its events can be taken.
    """
    if not isinstance(body, dict):
        raise Rejected(400, "invalid_json", "the body is not a JSON object")
    if kind in BATCHES or "batch" in body:
        items, common, kind = body.get("batch"), body, ""
    else:
        items, common = [body], {}
    if not isinstance(items, list):
        raise Rejected(400, "invalid_batch", "batch is not an array of events")
    if len(items) > MAXIMUM_EVENTS:
        raise Rejected(
            400, "batch_too_large", f"the batch has {len(items)} events, allowed are {MAXIMUM_EVENTS}"
        )
    parts = [_part(item, common, kind, position, limits) for position, item in enumerate(items)]
    if parts and (refused := none_taken(parts)):
        raise refused
    return parts


def _part(item: Any, common: dict[str, Any], kind: str, position: int, limits: Tracking) -> Part:
    where = f"event {position}" if common else "the event"
    if (size := len(as_sent(item))) > limits.maximum_event:
        message = f"event {position} has {size} bytes, allowed are {limits.maximum_event}"
        return Part(as_sent(item), problem=Rejected(400, "event_too_large", message))
    return part_of(as_sent(_complete(item, common, kind) if isinstance(item, dict) else item), where)


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
