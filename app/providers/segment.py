"""Segment: its Webhooks (Actions) destination, and its libraries pointed at Doorbell (`app/api/tracking.py`).

https://segment.com/docs/connections/destinations/catalog/actions-webhook/
"""

from app.providers import segment_spec as spec
from app.providers.base import (
    ORDERING_KEYS_PATH,
    DefaultMapping,
    Provider,
    SecretField,
    Sending,
    Tracking,
    here,
    there,
)
from app.providers.verification import FirstEventHmac

provider = Provider(
    key="segment",
    name="Segment",
    description="Identify users and trigger workflows from what Segment tracks.",
    categories=("Analytics",),
    website_url="https://segment.com",
    webhook_docs_url="https://segment.com/docs/connections/destinations/catalog/actions-webhook/",
    webhook_config_deep_link="https://app.segment.com/goto-my-workspace/destinations/catalog/actions-webhook",
    event_type_path=spec.EVENT_TYPE_PATH,
    idempotency_key_path=spec.IDEMPOTENCY_KEY_PATH,
    timestamp_path=spec.TIMESTAMP_PATH,
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=spec.ordering_keys,
    scheme=FirstEventHmac(header="x-signature"),
    secret=SecretField(
        label="Shared secret",
        help="Any random text of your own. Enter the same one in the destination's settings in Segment.",
        issued_by="you",
    ),
    enforce_verification=False,
    default_mappings=(
        spec.IDENTIFY,
        spec.GROUP,
        # Segment's request to forget a user: https://segment.com/docs/privacy/user-deletion-and-suppression/
        DefaultMapping("delete", "users_delete", {"id": "body.userId"}),
        spec.trigger("user-signed-up", "user-signup"),
    ),
    examples={
        "identify": spec.example(spec.IDENTIFY_EXAMPLE),
        "alias": spec.example(spec.ALIAS_EXAMPLE),
        "group": spec.example(spec.GROUP_EXAMPLE),
        "delete": spec.example({"type": "delete", "messageId": "msg-delete-1"}),
        "track/user-signed-up": spec.example(spec.track_example("user-signed-up")),
        "track/Order Completed": spec.example(spec.track_example("Order Completed")),
    },
    implicit_mappings=(spec.ALIAS,),
    preprocess=spec.preprocess,
    split=spec.split,
    tracking=Tracking(),
    setup=(
        there("In Segment open Connections, Destinations, Add destination, and choose Webhooks (Actions)."),
        there("In the destination's settings enter a random text as shared secret."),
        here("Add the same text to this source as signing secret and turn enforce_verification on."),
        there(
            "Add a mapping with the action Send, the method POST and this source's URL; leave Data at the "
            "whole event ($.)."
        ),
        there("Choose the events to send, for example all Identify and Track calls, and enable the mapping."),
        there("Send a test event from the mapping's page."),
    ),
    sending=Sending(
        timeout="10 seconds.",
        retries=(
            "5xx other than 501 and 505, and 408, 410, 429 and 460 are tried again; other 4xx are dropped."
        ),
    ),
    kind="cdp",
    notes=(
        (
            "With batching on, Segment signs the first event of a batch only. Set `strict_batches` to refuse "
            "such batches."
        ),
        ("Event names are kept as they are: `Order Completed` has the event type `track/Order Completed`."),
        (
            "Segment's libraries can also send to Doorbell directly: docs/tracking-api.md. For that, leave "
            "this source without a signing secret."
        ),
        *spec.NOTES,
    ),
)
