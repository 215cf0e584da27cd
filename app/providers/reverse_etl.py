"""What reverse ETL tools share: their calls in Knock's shapes, made with a source key, are events.

`app/api/reverse_etl/source_calls.py` writes these bodies; a tool can also POST one to the source's URL
itself.
"""

from typing import Any

from app.providers.base import DefaultMapping, Example, SetupStep, find_id
from app.providers.verification import SharedSecret

EVENT_TYPE_PATH = "body.type"
# A trigger's Idempotency-Key; Knock reads the header nowhere else.
IDEMPOTENCY_KEY_PATH = "body.idempotency_key"
SCHEME = SharedSecret(headers=(("authorization", "Bearer "), ("x-webhook-secret", "")))

ISSUE_KEY = SetupStep(
    "Issue a source key (`sk_src_...`) on this source's Settings tab and copy it.",
    "doorbell",
    issues_key=True,
)

_OBJECT = {"collection": "body.collection", "id": "body.object_id"}
_RECIPIENTS = {**_OBJECT, "recipients": "body.recipients"}
_MEMBERS = {"key": "body.audience", "members": "body.members"}


def _profile(what: str, *fields: str) -> dict[str, str]:
    """All of a profile, with the structured fields that custom properties do not reach."""
    return {**{name: f"body.{what}.{name}" for name in fields}, "properties": f"body.{what}"}


# Each runs what the call itself would have done.
DEFAULT_MAPPINGS = (
    DefaultMapping(
        "users:identify",
        "users_identify",
        {"id": "body.user_id", **_profile("user", "channel_data", "preferences")},
    ),
    DefaultMapping("users:delete", "users_delete", {"id": "body.user_id"}),
    DefaultMapping(
        "objects:set", "objects_set", {**_OBJECT, **_profile("object", "channel_data", "preferences")}
    ),
    DefaultMapping("objects:delete", "objects_delete", _OBJECT),
    DefaultMapping(
        "objects:subscribe", "objects_subscribe", {**_RECIPIENTS, "properties": "body.properties"}
    ),
    DefaultMapping("objects:unsubscribe", "objects_unsubscribe", _RECIPIENTS),
    DefaultMapping(
        "tenants:set",
        "tenants_set",
        {"id": "body.tenant_id", **_profile("tenant", "settings", "channel_data")},
    ),
    DefaultMapping("tenants:delete", "tenants_delete", {"id": "body.tenant_id"}),
    DefaultMapping(
        "audiences:add", "audiences_add_member", {**_MEMBERS, "create_audience": "body.create_audience"}
    ),
    DefaultMapping("audiences:remove", "audiences_remove_member", _MEMBERS),
    DefaultMapping(
        "workflows:trigger",
        "workflows_trigger",
        {
            "key": "body.workflow",
            **{
                name: f"body.{name}" for name in ("recipients", "data", "actor", "tenant", "cancellation_key")
            },
        },
    ),
)
# Its action is not in Knock's contract, so clients that check answers refuse a mapping of it.
IMPLICIT_MAPPINGS = (
    DefaultMapping(
        "workflows:cancel",
        "workflows_cancel",
        {
            "key": "body.workflow",
            "cancellation_key": "body.cancellation_key",
            "recipients": "body.recipients",
        },
    ),
)

_USER = {"name": "Ada Example", "email": "ada@example.com", "plan": "pro"}
_MEMBER = {"user": {"id": "user_42"}, "tenant": "acme"}


def _example(event_type: str, body: dict[str, Any]) -> tuple[Example, ...]:
    return (Example(body={"type": event_type, **body}),)


_BODIES: dict[str, dict[str, Any]] = {
    "users:identify": {"user_id": "user_42", "user": _USER},
    "users:delete": {"user_id": "user_42"},
    "objects:set": {"collection": "projects", "object_id": "p_1", "object": {"name": "Rocket"}},
    "objects:delete": {"collection": "projects", "object_id": "p_1"},
    "objects:subscribe": {
        "collection": "projects",
        "object_id": "p_1",
        "recipients": ["user_42"],
        "properties": {"role": "owner"},
    },
    "objects:unsubscribe": {"collection": "projects", "object_id": "p_1", "recipients": ["user_42"]},
    "tenants:set": {"tenant_id": "acme", "tenant": {"name": "Acme, Inc."}},
    "tenants:delete": {"tenant_id": "acme"},
    "audiences:add": {"audience": "new-signups", "members": [_MEMBER], "create_audience": True},
    "audiences:remove": {"audience": "new-signups", "members": [_MEMBER]},
    "workflows:trigger": {"workflow": "welcome", "recipients": ["user_42"], "data": {"plan": "pro"}},
    "workflows:cancel": {"workflow": "welcome", "cancellation_key": "user_42"},
}
EXAMPLES = {event_type: _example(event_type, body) for event_type, body in _BODIES.items()}


def ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """What a call is about: a user, an object or a tenant, recipients and members, what cancels a trigger."""
    keys = [body.get("user_id"), _key("tenants", body.get("tenant_id"))]
    keys += [
        _key(body.get("collection"), body.get("object_id")),
        *map(_recipient, body.get("recipients") or []),
    ]
    keys += [_recipient(member.get("user")) for member in body.get("members") or []]
    if body.get("cancellation_key"):
        keys.append(_key(f"workflows/{body.get('workflow')}", body["cancellation_key"]))
    return keys


def _recipient(recipient: Any) -> Any:
    """A user's id, or an object's reference."""
    if isinstance(recipient, dict) and recipient.get("collection"):
        return _key(recipient["collection"], recipient.get("id"))
    return find_id(recipient)


def _key(kind: Any, identifier: Any) -> str | None:
    return f"{kind}/{identifier}" if kind and identifier else None
