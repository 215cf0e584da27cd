"""What an example of the reverse ETL tools becomes: the call that it stands for."""

from tests.providers.case import Outcome

_USER = {"name": "Ada Example", "email": "ada@example.com", "plan": "pro"}
_OBJECT = {"collection": "projects", "id": "p_1"}
_MEMBERS = [{"user": {"id": "user_42"}, "tenant": "acme"}]

OUTCOMES = {
    event_type: Outcome(occurred_at=None, actions=((action, payload),))
    for event_type, action, payload in (
        ("users:identify", "users_identify", {"id": "user_42", "properties": _USER}),
        ("users:delete", "users_delete", {"id": "user_42"}),
        ("objects:set", "objects_set", {**_OBJECT, "properties": {"name": "Rocket"}}),
        ("objects:delete", "objects_delete", _OBJECT),
        (
            "objects:subscribe",
            "objects_subscribe",
            {**_OBJECT, "recipients": ["user_42"], "properties": {"role": "owner"}},
        ),
        ("objects:unsubscribe", "objects_unsubscribe", {**_OBJECT, "recipients": ["user_42"]}),
        ("tenants:set", "tenants_set", {"id": "acme", "properties": {"name": "Acme, Inc."}}),
        ("tenants:delete", "tenants_delete", {"id": "acme"}),
        (
            "audiences:add",
            "audiences_add_member",
            {"key": "new-signups", "members": _MEMBERS, "create_audience": True},
        ),
        ("audiences:remove", "audiences_remove_member", {"key": "new-signups", "members": _MEMBERS}),
        (
            "workflows:trigger",
            "workflows_trigger",
            {"key": "welcome", "recipients": ["user_42"], "data": {"plan": "pro"}},
        ),
        ("workflows:cancel", "workflows_cancel", {"key": "welcome", "cancellation_key": "user_42"}),
    )
}
