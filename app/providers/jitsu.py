"""Jitsu: its Webhook destination, and its library pointed at Doorbell (`app/api/tracking.py`).

https://docs.jitsu.com/destinations/misc/webhook
"""

from app.providers import segment_spec as spec
from app.providers.base import ORDERING_KEYS_PATH, Provider, SecretField, Sending, Tracking, here, there
from app.providers.verification import SharedSecret

provider = Provider(
    key="jitsu",
    name="Jitsu",
    description="Identify users and trigger workflows from what Jitsu collects.",
    categories=("Analytics",),
    website_url="https://jitsu.com",
    webhook_docs_url="https://docs.jitsu.com/destinations/misc/webhook",
    event_type_path=spec.EVENT_TYPE_PATH,
    idempotency_key_path=spec.IDEMPOTENCY_KEY_PATH,
    timestamp_path=spec.TIMESTAMP_PATH,
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=spec.ordering_keys,
    scheme=SharedSecret(headers=(("authorization", "Bearer "), ("x-webhook-secret", ""))),
    secret=SecretField(
        label="Bearer secret",
        help="Any random text of your own, without colons. Jitsu sends it as Authorization: Bearer <secret>.",
        issued_by="you",
    ),
    enforce_verification=False,
    default_mappings=(spec.IDENTIFY, spec.GROUP, spec.trigger("user_signed_up", "user-signup")),
    examples={
        "identify": spec.example(spec.IDENTIFY_EXAMPLE, requestIp="192.0.2.1", writeKey="k123:***"),
        "alias": spec.example(spec.ALIAS_EXAMPLE, requestIp="192.0.2.1", writeKey="k123:***"),
        "group": spec.example(spec.GROUP_EXAMPLE, requestIp="192.0.2.1", writeKey="k123:***"),
        "track/user_signed_up": spec.example(
            spec.track_example("user_signed_up"), requestIp="192.0.2.1", writeKey="k123:***"
        ),
    },
    implicit_mappings=(spec.ALIAS,),
    preprocess=spec.preprocess,
    split=spec.split,
    tracking=Tracking(),
    setup=(
        there("In Jitsu open Destinations, Add new destination, and choose Webhook."),
        there("Paste this source's URL, with the method POST."),
        there(
            "Optional: add the header `Authorization: Bearer <secret>` with a random text without colons: "
            "Jitsu cuts header values at the second one."
        ),
        here("Add that text to this source as secret and turn enforce_verification on."),
        there("Connect the site whose events shall come here to the destination."),
    ),
    sending=Sending(
        timeout="2 seconds, unless the destination says otherwise.",
        retries=(
            "3 times, after 10, 100 and 1,000 minutes, whatever the failure; a 401 comes back for 18 hours."
        ),
    ),
    kind="cdp",
    notes=(
        (
            "@jitsu/js can also send to Doorbell directly: docs/tracking-api.md. For that, leave this source "
            "without a secret."
        ),
        *spec.NOTES,
    ),
)
