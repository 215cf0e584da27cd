"""Freshpaint: its Webhooks destination. https://documentation.freshpaint.io/integrations/destinations/apps/webhooks"""

from app.providers import segment_spec as spec
from app.providers.base import ORDERING_KEYS_PATH, Provider, SecretField, Sending, Tracking, here, there
from app.providers.verification import SharedSecret

provider = Provider(
    key="freshpaint",
    name="Freshpaint",
    description="Identify users and trigger workflows from what Freshpaint collects.",
    categories=("Analytics",),
    website_url="https://www.freshpaint.io",
    webhook_docs_url="https://documentation.freshpaint.io/integrations/destinations/apps/webhooks",
    event_type_path=spec.EVENT_TYPE_PATH,
    idempotency_key_path=spec.IDEMPOTENCY_KEY_PATH,
    timestamp_path=spec.TIMESTAMP_PATH,
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=spec.ordering_keys,
    scheme=SharedSecret(headers=(("x-webhook-secret", ""), ("authorization", "Bearer "))),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. Freshpaint sends it in the header X-Webhook-Secret.",
        issued_by="you",
    ),
    enforce_verification=False,
    default_mappings=(spec.IDENTIFY, spec.GROUP, spec.trigger("user_signed_up", "user-signup")),
    examples={
        "identify": spec.example(spec.IDENTIFY_EXAMPLE, timestamp="2026-01-01T00:00:00Z"),
        "alias": spec.example(spec.ALIAS_EXAMPLE, timestamp="2026-01-01T00:00:00Z"),
        "group": spec.example(spec.GROUP_EXAMPLE, timestamp="2026-01-01T00:00:00Z"),
        "track/user_signed_up": spec.example(
            spec.track_example("user_signed_up"), timestamp="2026-01-01T00:00:00Z"
        ),
    },
    implicit_mappings=(spec.ALIAS,),
    preprocess=spec.preprocess,
    split=spec.split,
    tracking=Tracking(),
    setup=(
        there("In Freshpaint open Destinations and choose Webhooks."),
        there("Paste this source's URL."),
        there("Optional: add the header X-Webhook-Secret with a random text."),
        here("Add the same text to this source as secret and turn enforce_verification on."),
        there("Turn on identify and group calls, which Freshpaint leaves off at first."),
    ),
    sending=Sending(
        timeout="Freshpaint does not publish it.",
        retries="Freshpaint does not publish them.",
    ),
    kind="cdp",
    notes=("Freshpaint may send no Content-Type; the body is read as JSON regardless.", *spec.NOTES),
)
