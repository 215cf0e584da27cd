"""What an example of the customer data platforms becomes: the same for all of them."""

from typing import Any

from tests.providers.case import Outcome

IDENTIFY = Outcome(
    "msg-identify-1",
    actions=(
        (
            "users_identify",
            {
                "id": "user_42",
                "name": "Ada Example",
                "email": "ada@example.com",
                "phone_number": "+15550100100",
                "avatar": "https://example.com/ada.png",
                "properties": {"plan": "pro"},
            },
        ),
    ),
)
GROUP = Outcome(
    "msg-group-1",
    actions=(
        (
            "tenants_set",
            {
                "id": "acme",
                "name": "Acme, Inc.",
                "properties": {"name": "Acme, Inc.", "plan": "enterprise"},
            },
        ),
    ),
)
ALIAS = Outcome(
    "msg-alias-1",
    actions=(("users_merge", {"id": "user_42", "from_user_id": "4a4f5c8e-5d0c-4a8f-9f2e-8b8f0f1b5a01"}),),
)
DATA = {"order_id": "order_1", "total": 42.5}


def triggers(workflow: str) -> Outcome:
    return Outcome(
        "msg-track-1",
        actions=(("workflows_trigger", {"key": workflow, "recipients": ["user_42"], "data": DATA}),),
    )


BAD_BODIES: dict[str, Any] = {
    "traits are a list": {"type": "identify", "traits": [1], "context": {"traits": "text"}},
    "context is text": {"type": "track", "event": "A", "context": "text"},
    "event is a number": {"type": "track", "event": 7},
    "name is an object": {"type": "identify", "traits": {"name": {"a": 1}, "firstName": 7}},
}
