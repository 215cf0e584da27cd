"""What the customer data platforms' cases share: the outcomes of events in the shape of Segment's specification."""

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
TRACK = Outcome("msg-track-1")

BAD_BODIES: dict[str, Any] = {
    "track without an event": {"type": "track", "userId": "user_42"},
    "event is a number": {"type": "track", "event": 7},
    "traits are text": {"type": "identify", "traits": "Ada", "context": "web"},
}


def triggered(workflow: str) -> Outcome:
    """A track call that notifies the user."""
    call = {"key": workflow, "recipients": ["user_42"], "data": {"order_id": "order_1", "total": 42.5}}
    return Outcome("msg-track-1", actions=(("workflows_trigger", call),))
