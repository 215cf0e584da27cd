"""PostHog, through its Knock destination: https://posthog.com/docs/cdp/destinations/knock"""

from app.providers.base import DefaultMapping, Example, Provider, SecretField, Sending, here, there
from app.providers.verification import SharedSecret

_IDENTIFY = {"id": "body.userId", "name": "body.properties.name", "email": "body.properties.email"}


def _event(event: str, number: int, properties: dict[str, object]) -> tuple[Example, ...]:
    body = {
        # PostHog writes `track` for every event.
        "type": "track",
        "event": event,
        "userId": "user_42",
        "messageId": f"019b7a1e-0000-7000-8000-{number:012d}",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "properties": {"email": "ada@example.com", "name": "Ada Example", **properties},
    }
    return (Example(body=body),)


provider = Provider(
    key="posthog",
    name="PostHog",
    description="Identify people and act on the events that PostHog captures.",
    categories=("Analytics",),
    website_url="https://posthog.com",
    webhook_docs_url="https://posthog.com/docs/cdp/destinations/knock",
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/posthog",
    event_type_path="body.event",
    idempotency_key_path="body.messageId",
    timestamp_path="body.timestamp",
    ordering_key_path="body.userId",
    scheme=SharedSecret(headers=(("x-webhook-secret", ""), ("authorization", "Bearer "))),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. PostHog's Knock destination cannot send one as it stands: add it "
        "to the headers in the destination's source code, or use PostHog's HTTP Webhook destination.",
        issued_by="you",
    ),
    enforce_verification=False,
    default_mappings=(
        DefaultMapping("$identify", "users_identify", _IDENTIFY),
        DefaultMapping("$set", "users_identify", _IDENTIFY),
    ),
    examples={
        "$identify": _event("$identify", 1, {"$set": {"plan": "pro"}, "$lib": "web"}),
        "$set": _event("$set", 2, {"$set": {"plan": "team"}}),
        "$pageview": _event("$pageview", 3, {"$current_url": "https://app.example.com/"}),
    },
    setup=(
        there("In PostHog open Data pipelines, Destinations, New destination, and choose Knock."),
        there("Paste this source's URL as the webhook URL."),
        there("Turn on Include all properties if mappings are to read more than name and email."),
        there(
            "Check User ID: `{person.id}` is PostHog's own id; use `{event.distinct_id}` if that is your "
            "user's id."
        ),
        there("Choose the events under Filters, for example $identify and $set, and enable the destination."),
        there(
            "To have deliveries verified, open Edit source and add the header X-Webhook-Secret, or use the "
            "HTTP Webhook destination with the same body."
        ),
        here("Add the same secret to this source and turn enforce_verification on."),
    ),
    sending=Sending(
        timeout="Not published.",
        retries="3 attempts in all, with pauses of a second and more, after 408, 429, 500, 502, 503, 504 and "
        "network errors.",
        success="anything below 400",
    ),
    notes=(
        "`body.type` is always `track`; the event's name is in `body.event`.",
        "PostHog sends nothing for events without a user id.",
        (
            "Without a secret, whoever knows the URL can send events. Keep it to yourself, and rotate it if "
            "it "
            "got out."
        ),
    ),
)
