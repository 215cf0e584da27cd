"""Track calls of Segment's specification over HTTP, one in a request: Knock's older HTTP source.

https://docs.knock.app/api/reverse_etl/sources/legacy/http
"""

from typing import Any

from app.providers import segment_spec as spec
from app.providers.base import ORDERING_KEYS_PATH, Example, Provider, SecretField, Sending, here, there
from app.providers.verification import SharedSecret


def _preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """The event's name, and its properties under the name that Knock's older mappings call them by."""
    if body["type"] != "track":
        raise ValueError(f"type is {body['type']!r}, and this source takes `track` only")
    return {"event_type": body["event"], "data": body.get("properties") or {}}


provider = Provider(
    key="http",
    name="HTTP",
    description="Receive track calls as Segment's specification has them, from your own code.",
    categories=("Infrastructure",),
    website_url=None,
    webhook_docs_url="https://docs.knock.app/api/reverse_etl/sources/legacy/http",
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/legacy/http",
    event_type_path="preprocess.event_type",
    idempotency_key_path="body.messageId",
    timestamp_path="body.timestamp",
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=spec.ordering_keys,
    scheme=SharedSecret(headers=(("x-webhook-secret", ""), ("authorization", "Bearer "))),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own, if your code is to send one in the header X-Webhook-Secret.",
        issued_by="you",
    ),
    enforce_verification=False,
    default_mappings=(),
    examples={
        "Order Completed": (
            Example(
                body={
                    "type": "track",
                    "event": "Order Completed",
                    "userId": "user_42",
                    "messageId": "msg_1",
                    "timestamp": "2026-01-01T00:00:00.000Z",
                    "properties": {"order_id": "o_1", "total": 42.5, "recipients": ["user_42"]},
                }
            ),
        ),
    },
    preprocess=_preprocess,
    success_status=204,
    setup=(
        there(
            "POST JSON to this source's URL: `type` (always `track`), `event`, `properties`, and if you have "
            "them `userId`, `messageId` and `timestamp`."
        ),
        there("Give each event its own `messageId`, so that a repeat runs no action twice."),
        here("If your code can send a secret, add it to this source and turn enforce_verification on."),
        here(
            "Add a mapping for the event's name, for example workflows_trigger with recipients "
            "`body.properties.recipients` and data `body.properties`."
        ),
    ),
    sending=Sending(
        timeout="Whatever your code waits.",
        retries="Whatever your code does. Repeat on 429, 5xx and timeouts with the same messageId.",
        success="204",
    ),
    notes=(
        (
            "Events of another type than `track` are logged without an event type, with the reason, and run "
            "nothing."
        ),
        "Knock's older mappings read `data.x`: write `preprocess.data.x` or `body.properties.x` here.",
        "Recipients may be ids or whole users to identify on the way.",
        "One event in a request. For batches, and for Segment's own libraries, use a Segment source.",
    ),
)
