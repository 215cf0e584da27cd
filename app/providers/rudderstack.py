"""RudderStack: its Webhook destination, and its libraries pointed at Doorbell (`app/api/tracking.py`).

https://www.rudderstack.com/docs/destinations/streaming-destinations/webhooks/
"""

from app.providers import segment_spec as spec
from app.providers.base import Provider, SecretField
from app.verification import SharedSecret

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
    scheme=SharedSecret(headers=(("x-webhook-secret", ""), ("authorization", "Bearer "))),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. RudderStack sends it in the header X-Webhook-Secret.",
    ),
    default_mappings=(spec.IDENTIFY, spec.GROUP, spec.trigger("order_completed", "order-completed")),
    examples={
        "identify": spec.example(spec.IDENTIFY_EXAMPLE, channel="web", rudderId="b2a0b6ef-0f5d-4a35"),
        "group": spec.example(spec.GROUP_EXAMPLE, channel="web", rudderId="b2a0b6ef-0f5d-4a35"),
        "track/order_completed": spec.example(
            spec.track_example("order_completed"), channel="server", request_ip="192.0.2.1"
        ),
    },
    preprocess=spec.preprocess,
    split=spec.split,
    setup=(
        "In RudderStack, open Destinations, New destination, and choose Webhook.",
        "Paste this source's URL as Webhook URL, with the method POST.",
        "Under Headers, add X-Webhook-Secret with a random value, and add the same value to this source as secret.",
        "Connect the destination to the RudderStack source whose events shall come here.",
        "Without RudderStack in between: point a RudderStack library at Doorbell as data plane, with the last part "
        "of this source's URL as write key. See docs/tracking-api.md.",
    ),
)
