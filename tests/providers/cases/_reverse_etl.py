"""What the cases of reverse ETL tools share: each kind of call becomes the action that does the same."""

from typing import Any

from tests.providers.case import Case, Outcome, Vector

_PROJECT = {"collection": "projects", "id": "p_1"}
_MEMBERS = {"key": "new-signups", "members": [{"user": {"id": "user_42"}, "tenant": "acme"}]}
_ACTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "users:identify": (
        "users_identify",
        {
            "id": "user_42",
            "properties": {"name": "Ada Example", "email": "ada@example.com", "plan": "pro"},
        },
    ),
    "users:delete": ("users_delete", {"id": "user_42"}),
    "objects:set": ("objects_set", {**_PROJECT, "properties": {"name": "Rocket"}}),
    "objects:delete": ("objects_delete", _PROJECT),
    "objects:subscribe": (
        "objects_subscribe",
        {**_PROJECT, "recipients": ["user_42"], "properties": {"role": "owner"}},
    ),
    "objects:unsubscribe": ("objects_unsubscribe", {**_PROJECT, "recipients": ["user_42"]}),
    "tenants:set": ("tenants_set", {"id": "acme", "properties": {"name": "Acme, Inc."}}),
    "tenants:delete": ("tenants_delete", {"id": "acme"}),
    "audiences:add": ("audiences_add_member", {**_MEMBERS, "create_audience": True}),
    "audiences:remove": ("audiences_remove_member", _MEMBERS),
    "workflows:trigger": (
        "workflows_trigger",
        {"key": "welcome", "recipients": ["user_42"], "data": {"plan": "pro"}},
    ),
    "workflows:cancel": ("workflows_cancel", {"key": "welcome", "cancellation_key": "user_42"}),
}

CASE = Case(
    secrets=("sesame", "tahini"),
    vectors=(
        Vector("sesame", b"{}", {"authorization": "Bearer sesame"}),
        Vector("sesame", b"{}", {"x-webhook-secret": "sesame"}),
    ),
    outcomes={
        event_type: Outcome(occurred_at=None, actions=(action,)) for event_type, action in _ACTIONS.items()
    },
)
