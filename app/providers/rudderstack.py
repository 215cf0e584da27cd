"""RudderStack: its Webhook destination, and its libraries pointed at Doorbell (`app/api/tracking.py`).

https://www.rudderstack.com/docs/destinations/streaming-destinations/webhooks/
"""

from app.providers import segment_spec as spec
from app.providers.base import ORDERING_KEYS_PATH, Provider, SecretField, Sending, Tracking, here, there
from app.providers.verification import SharedSecret

provider = Provider(
    key="rudderstack",
    name="RudderStack",
    description="Identify users and trigger workflows from what RudderStack collects.",
    categories=("Analytics",),
    website_url="https://www.rudderstack.com",
    webhook_docs_url="https://www.rudderstack.com/docs/destinations/streaming-destinations/webhooks/",
    webhook_config_deep_link="https://app.rudderstack.com/destinations",
    event_type_path=spec.EVENT_TYPE_PATH,
    idempotency_key_path=spec.IDEMPOTENCY_KEY_PATH,
    timestamp_path=spec.TIMESTAMP_PATH,
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=spec.ordering_keys,
    scheme=SharedSecret(headers=(("x-webhook-secret", ""), ("authorization", "Bearer "))),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. RudderStack sends it in the header X-Webhook-Secret.",
        issued_by="you",
    ),
    enforce_verification=False,
    default_mappings=(spec.IDENTIFY, spec.GROUP, spec.trigger("order_completed", "order-completed")),
    examples={
        "identify": spec.example(spec.IDENTIFY_EXAMPLE, channel="web", rudderId="b2a0b6ef-0f5d-4a35"),
        "alias": spec.example(spec.ALIAS_EXAMPLE, channel="web", rudderId="b2a0b6ef-0f5d-4a35"),
        "group": spec.example(spec.GROUP_EXAMPLE, channel="web", rudderId="b2a0b6ef-0f5d-4a35"),
        "track/order_completed": spec.example(
            spec.track_example("order_completed"), channel="server", request_ip="192.0.2.1"
        ),
    },
    implicit_mappings=(spec.ALIAS,),
    preprocess=spec.preprocess,
    split=spec.split,
    tracking=Tracking(maximum_event=spec.FOUR_MEGABYTES, maximum_batch=spec.FOUR_MEGABYTES),
    setup=(
        there("In RudderStack open Destinations, New destination, and choose Webhook."),
        there("Paste this source's URL as webhook URL, with the method POST."),
        there("Optional: under Headers add X-Webhook-Secret with a random text."),
        here("Add the same text to this source as secret and turn enforce_verification on."),
        there("Connect the destination to the RudderStack source whose events shall come here."),
    ),
    sending=Sending(
        timeout="RudderStack does not publish it.",
        retries=(
            "5xx for at least 3 attempts and 3 minutes, with pauses of 10 seconds to 5 minutes; 429 for as "
            "long as it lasts; other 4xx are dropped."
        ),
    ),
    kind="cdp",
    notes=(
        (
            "Most of RudderStack's libraries put traits into `context.traits`: map them from "
            "`preprocess.traits`, which holds them wherever they are."
        ),
        (
            "RudderStack's libraries can also send to Doorbell directly: docs/tracking-api.md. For that, "
            "leave this source without a secret."
        ),
        *spec.NOTES,
    ),
)
