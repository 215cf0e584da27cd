"""GitHub: https://docs.github.com/webhooks"""

from typing import Any

from app.providers.base import (
    ORDERING_KEYS_PATH,
    Example,
    Provider,
    SecretField,
    Sending,
    find_id,
    here,
    there,
)
from app.providers.verification import BodyHmac

_REPOSITORY = {
    "id": 1296269,
    "full_name": "octo-org/example",
    "html_url": "https://github.com/octo-org/example",
}
_SENDER = {"id": 583231, "login": "ada", "type": "User"}


def _preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """The event with its action, for those who map `issues.opened` and `issues.closed` apart."""
    event, action = headers["x-github-event"], body.get("action")
    return {"event_action": f"{event}.{action}" if action else event}


def _event(event: str, number: int, body: dict[str, Any]) -> tuple[Example, ...]:
    headers = {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "x-github-event": event,
        "x-github-delivery": f"72d3162e-cc78-11e3-81ab-{number:012d}",
        "x-github-hook-id": "292430182",
        "x-github-hook-installation-target-type": "repository",
    }
    return (Example(body={**body, "repository": _REPOSITORY, "sender": _SENDER}, headers=headers),)


def _ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """The repository, or else the organization."""
    return [find_id(body.get("repository")) or find_id(body.get("organization"))]


provider = Provider(
    key="github",
    name="GitHub",
    description="Act on issues, pull requests, releases and everything else that GitHub tells.",
    categories=("Infrastructure",),
    website_url="https://github.com",
    webhook_docs_url="https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries",
    event_type_path="headers.x-github-event",
    idempotency_key_path="headers.x-github-delivery",
    timestamp_path=None,
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=_ordering_keys,
    scheme=BodyHmac(header="x-hub-signature-256", encoding="hex", prefix="sha256="),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. GitHub signs with it and never sends it.",
        issued_by="you",
    ),
    default_mappings=(),
    examples={
        "ping": _event("ping", 1, {"zen": "Keep it logically awesome.", "hook_id": 292430182}),
        "issues": _event(
            "issues",
            2,
            {
                "action": "opened",
                "issue": {
                    "id": 73464126,
                    "number": 2,
                    "title": "Spelling error in the README",
                    "html_url": "https://github.com/octo-org/example/issues/2",
                    "state": "open",
                    "user": _SENDER,
                    "assignees": [{"id": 583232, "login": "grace"}],
                },
            },
        ),
        "release": _event(
            "release",
            3,
            {
                "action": "published",
                "release": {
                    "id": 17372790,
                    "tag_name": "v1.0.0",
                    "name": "First release",
                    "html_url": "https://github.com/octo-org/example/releases/tag/v1.0.0",
                },
            },
        ),
    },
    preprocess=_preprocess,
    setup=(
        here("Add a random secret of your own to this source."),
        there("In the repository or organization open Settings, Webhooks, and choose Add webhook."),
        there("Paste this source's URL as the Payload URL. Either content type works."),
        there("Enter the secret, keep SSL verification on, and choose the events."),
        there("GitHub sends a ping at once: see it under Recent Deliveries and in this source's log."),
    ),
    sending=Sending(
        timeout="10 s",
        retries=(
            "None by itself. A failed delivery can be sent again by hand or through GitHub's API for 3 days."
        ),
    ),
    notes=(
        (
            "With the content type application/x-www-form-urlencoded, the event is the JSON in the form's "
            "field `payload`. The signature is checked over the form as it was sent."
        ),
        (
            "The event type is the header `X-GitHub-Event`; set event_type_path to `preprocess.event_action` "
            "to tell `issues.opened` from `issues.closed`."
        ),
        "A delivery that is sent again keeps its `X-GitHub-Delivery`, and so runs no action twice.",
        "Its events are about GitHub's accounts: map them to your users' ids in the mapping.",
    ),
)
