"""Jitsu: its Webhook destination, and its library pointed at Doorbell (`app/api/tracking.py`).

https://docs.jitsu.com/destinations/misc/webhook
"""

from app.providers import segment_spec as spec
from app.providers.base import Provider, SecretField
from app.verification import SharedSecret

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
    scheme=SharedSecret(headers=(("authorization", "Bearer "), ("x-webhook-secret", ""))),
    secret=SecretField(
        label="Bearer secret",
        help="Any random text of your own, without colons. Jitsu sends it as Authorization: Bearer <secret>.",
    ),
    default_mappings=(spec.IDENTIFY, spec.GROUP, spec.trigger("user_signed_up", "user-signup")),
    examples={
        "identify": spec.example(spec.IDENTIFY_EXAMPLE, requestIp="192.0.2.1", writeKey="k123:***"),
        "group": spec.example(spec.GROUP_EXAMPLE, requestIp="192.0.2.1", writeKey="k123:***"),
        "track/user_signed_up": spec.example(
            spec.track_example("user_signed_up"), requestIp="192.0.2.1", writeKey="k123:***"
        ),
    },
    preprocess=spec.preprocess,
    split=spec.split,
    setup=(
        "In Jitsu, open Destinations, Add new destination, and choose Webhook.",
        "Paste this source's URL, with the method POST.",
        "Add the header `Authorization: Bearer <secret>` with a random secret, and add that secret to this source.",
        "Connect the site whose events shall come here to the destination.",
        "Without Jitsu in between: point @jitsu/js at Doorbell as host, with the last part of this source's URL as "
        "write key. See docs/tracking-api.md.",
    ),
)
