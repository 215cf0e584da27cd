"""What the customer data platforms share: events in the shape of Segment's specification.

https://segment.com/docs/connections/spec/
"""

import re
from collections.abc import Sequence
from typing import Any

from app.core.raw_json import elements
from app.providers.base import DefaultMapping, Example

# Traits that have a field of their own on a Knock user; the rest become custom properties.
RESERVED_TRAITS = frozenset({"name", "email", "phone", "avatar", "locale", "timezone"})

# The parts of a name, first and last, by the spellings in which libraries and their callers send them.
NAME_PARTS_OF_TRAITS = (("firstname",), ("lastname",))
NAME_PARTS = (("first", "firstname", "given", "givenname"), ("last", "lastname", "family", "familyname"))
_SEPARATORS = re.compile(r"[_\-\s]")

# https://www.rudderstack.com/docs/api/http-api/
FOUR_MEGABYTES = 4 * 1024 * 1024

EVENT_TYPE_PATH = "preprocess.event_type"
IDEMPOTENCY_KEY_PATH = "body.messageId"
TIMESTAMP_PATH = "body.timestamp"

IDENTIFY = DefaultMapping(
    "identify",
    "users_identify",
    {
        "id": "body.userId",
        "name": "preprocess.name",
        "email": "preprocess.traits.email",
        "phone_number": "preprocess.traits.phone",
        "avatar": "preprocess.traits.avatar",
        "locale": "preprocess.traits.locale",
        "timezone": "preprocess.traits.timezone",
        "properties": "preprocess.properties",
    },
)
ALIAS = DefaultMapping("alias", "users_merge", {"id": "body.userId", "from_user_id": "body.previousId"})
GROUP = DefaultMapping(
    "group",
    "tenants_set",
    {"id": "body.groupId", "name": "preprocess.name", "properties": "preprocess.traits"},
)


def preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """The event type (`track/<event>`, or the type itself), and the traits of the user or group that the call
    is about."""
    kind = body.get("type")
    result: dict[str, Any] = {}
    if kind != "track":
        result["event_type"] = kind
    elif isinstance(body.get("event"), str) and body["event"]:
        result["event_type"] = f"track/{body['event']}"
    traits = _traits(body)
    if kind in ("identify", "group") or traits:
        result["traits"] = traits
        name = _name(traits)
        # A name that is not sent is left alone, one that is null is cleared.
        if name is not None or "name" in traits:
            result["name"] = name
        result["properties"] = {name: value for name, value in traits.items() if name not in RESERVED_TRAITS}
    return result


def _traits(body: dict[str, Any]) -> dict[str, Any]:
    """At the top, or in the context, where most of RudderStack's libraries put a user's; what is at the top
    wins.

    The context describes the user on every call. A group's traits are those at the top alone: a tenant must
    not get what belongs to one of its users.
    """
    context = body.get("context")
    of_user = context.get("traits") if isinstance(context, dict) and body.get("type") != "group" else None
    traits: dict[str, Any] = {}
    for found in (of_user, body.get("traits")):
        if isinstance(found, dict):
            traits |= found
    return traits


def _name(traits: dict[str, Any]) -> str | None:
    """A display name: `name` as text, else its parts, in it or beside it."""
    name = traits.get("name")
    if isinstance(name, dict):
        return _joined(name, NAME_PARTS) or _joined(traits, NAME_PARTS_OF_TRAITS)
    if isinstance(name, int | float) and not isinstance(name, bool):
        return str(name)
    if isinstance(name, str) and name.strip():
        return name
    return _joined(traits, NAME_PARTS_OF_TRAITS)


def _joined(fields: dict[str, Any], parts: tuple[tuple[str, ...], ...]) -> str | None:
    """The texts under these names, in order, one of each part. Names compare without case, `_`, `-` and
    spaces."""
    by_name = {_SEPARATORS.sub("", name).lower(): value for name, value in reversed(fields.items())}
    found = [next((text for name in names if (text := _text(by_name.get(name)))), None) for names in parts]
    return " ".join(text for text in found if text) or None


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def ordering_keys(body: Any, headers: dict[str, str]) -> Sequence[Any]:
    """The user, or else the anonymous one; of an alias both of its users."""
    user = body.get("userId") or body.get("anonymousId")
    return [user, body.get("previousId")] if body.get("type") == "alias" else [user]


def split(body: bytes, decoded: Any) -> Sequence[bytes] | None:
    """An array of events, each as it was sent."""
    return elements(body) if isinstance(decoded, list) else None


def trigger(event: str, workflow: str) -> DefaultMapping:
    """Notify the user who did something."""
    return DefaultMapping(
        f"track/{event}",
        "workflows_trigger",
        {"key": workflow, "recipients": "body.userId", "data": "body.properties"},
    )


def example(event: dict[str, Any], **fields: Any) -> tuple[Example, ...]:
    """One event as a library sends it and the platform passes it on."""
    common = {
        "anonymousId": "4a4f5c8e-5d0c-4a8f-9f2e-8b8f0f1b5a01",
        "userId": "user_42",
        "context": {"ip": "192.0.2.1", "library": {"name": "analytics.js", "version": "next-1.84.3"}},
        "originalTimestamp": "2026-01-01T00:00:00.000Z",
        "sentAt": "2026-01-01T00:00:00.100Z",
        "receivedAt": "2026-01-01T00:00:00.200Z",
        "timestamp": "2026-01-01T00:00:00.000Z",
    }
    return (Example(body={**common, **event, **fields}),)


TRAITS = {
    "name": "Ada Example",
    "email": "ada@example.com",
    "phone": "+15550100100",
    "avatar": "https://example.com/ada.png",
    "plan": "pro",
}
IDENTIFY_EXAMPLE: dict[str, Any] = {"type": "identify", "messageId": "msg-identify-1", "traits": TRAITS}
ALIAS_EXAMPLE: dict[str, Any] = {
    "type": "alias",
    "messageId": "msg-alias-1",
    "previousId": "4a4f5c8e-5d0c-4a8f-9f2e-8b8f0f1b5a01",
}
GROUP_EXAMPLE: dict[str, Any] = {
    "type": "group",
    "messageId": "msg-group-1",
    "groupId": "acme",
    "traits": {"name": "Acme, Inc.", "plan": "enterprise"},
}


NOTES = (
    (
        "`alias` calls merge the user `previousId` into the user `userId` when the destination has both. A "
        "merge cannot be undone. Add a mapping for `alias`, active or not, to replace this."
    ),
    (
        "Without a secret, anyone who has the URL or the write key can identify, group and merge users. "
        "Add a secret and turn `enforce_verification` on where no library sends to this source."
    ),
    (
        'Calls of libraries whose `integrations` say `{"All": false}` or `{"Doorbell": false}` are logged '
        "and run nothing: docs/tracking-api.md."
    ),
)


def track_example(event: str) -> dict[str, Any]:
    return {
        "type": "track",
        "event": event,
        "messageId": "msg-track-1",
        "properties": {"order_id": "order_1", "total": 42.5},
    }
