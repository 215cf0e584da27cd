"""What reverse ETL tools share: their calls in Knock's shapes, made with a source key, are events.

`app/api/reverse_etl/source_calls.py` writes these bodies; a tool can also POST one to the source's URL
itself.
"""

from typing import Any

from app.providers.base import DefaultMapping, Example, Step
from app.providers.verification import SharedSecret

EVENT_TYPE_PATH = "body.type"
# A trigger's Idempotency-Key; Knock reads the header nowhere else.
IDEMPOTENCY_KEY_PATH = "body.idempotency_key"
SCHEME = SharedSecret(headers=(("authorization", "Bearer "), ("x-webhook-secret", "")))

ISSUE_KEY = Step(
    "Issue a source key (`sk_src_...`) on this source's Settings tab and copy it.",
    "doorbell",
    issues_key=True,
)

_OBJECT = {"collection": "body.collection", "id": "body.object_id"}
_RECIPIENTS = {**_OBJECT, "recipients": "body.recipients"}
_MEMBERS = {"key": "body.audience", "members": "body.members"}

# Each runs what the call itself would have done.
DEFAULT_MAPPINGS = (
    DefaultMapping("users:identify", "users_identify", {"id": "body.user_id", "properties": "body.user"}),
    DefaultMapping("users:delete", "users_delete", {"id": "body.user_id"}),
    DefaultMapping("objects:set", "objects_set", {**_OBJECT, "properties": "body.object"}),
    DefaultMapping("objects:delete", "objects_delete", _OBJECT),
    DefaultMapping(
        "objects:subscribe", "objects_subscribe", {**_RECIPIENTS, "properties": "body.properties"}
    ),
    DefaultMapping("objects:unsubscribe", "objects_unsubscribe", _RECIPIENTS),
    DefaultMapping("tenants:set", "tenants_set", {"id": "body.tenant_id", "properties": "body.tenant"}),
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
