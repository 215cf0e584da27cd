"""Shopify: https://shopify.dev/docs/apps/build/webhooks"""

from typing import Any

from app.providers.base import (
    ORDERING_KEYS_PATH,
    DefaultMapping,
    Example,
    Provider,
    SecretField,
    Sending,
    find_id,
    here,
    there,
)
from app.providers.verification import BodyHmac

_CUSTOMER = {
    "id": 7001,
    "email": "ada@example.com",
    "first_name": "Ada",
    "last_name": "Example",
    "phone": "+15550100100",
    "tags": "",
    "currency": "USD",
    "addresses": [],
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}
_ORDER = {
    "id": 9001,
    "name": "#1001",
    "email": "ada@example.com",
    "currency": "USD",
    "total_price": "49.00",
    "financial_status": "paid",
    "customer": {
        "id": 7001,
        "email": "ada@example.com",
        "first_name": "Ada",
        "last_name": "Example",
        "phone": "+15550100100",
    },
    "line_items": [{"id": 1, "title": "Mug", "quantity": 1, "price": "49.00"}],
    "created_at": "2026-01-01T00:00:00Z",
}


def _preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """The full name of the customer, who is the body itself or a part of it."""
    person = body.get("customer") or body
    names = [person.get("first_name"), person.get("last_name")]
    return {"name": " ".join(name for name in names if name) or None}


def _event(topic: str, number: int, body: dict[str, Any]) -> tuple[Example, ...]:
    headers = {
        "content-type": "application/json",
        "x-shopify-topic": topic,
        "x-shopify-webhook-id": f"b54557e4-bdd9-4b37-8a5f-{number:012d}",
        "x-shopify-event-id": f"98880550-7158-44d4-b7cd-{number:012d}",
        "x-shopify-triggered-at": "2026-01-01T00:00:00.000000000Z",
        "x-shopify-shop-domain": "example.myshopify.com",
        "x-shopify-api-version": "2026-01",
    }
    return (Example(body=body, headers=headers),)


_IDENTIFY = {
    "id": "body.id",
    "name": "preprocess.name",
    "email": "body.email",
    "phone_number": "body.phone",
}


def _ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """The customer, or else the order or the thing itself."""
    return [find_id(body.get("customer")) or body.get("order_id") or body.get("id")]


provider = Provider(
    key="shopify",
    name="Shopify",
    description="Identify customers and notify them about their orders.",
    categories=("Ecommerce",),
    website_url="https://www.shopify.com",
    webhook_docs_url="https://shopify.dev/docs/apps/build/webhooks",
    webhook_config_deep_link="https://admin.shopify.com/settings/notifications/webhooks",
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/shopify",
    event_type_path="headers.x-shopify-topic",
    idempotency_key_path="headers.x-shopify-webhook-id",
    timestamp_path="headers.x-shopify-triggered-at",
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=_ordering_keys,
    scheme=BodyHmac(header="x-shopify-hmac-sha256", encoding="base64"),
    secret=SecretField(
        label="Signing secret",
        help="Webhooks made in the admin are signed with the text under the list of webhooks in Settings, "
        "Notifications; those of an app with the app's client secret.",
    ),
    default_mappings=(
        DefaultMapping("customers/create", "users_identify", _IDENTIFY, skip_older=True),
        DefaultMapping("customers/update", "users_identify", _IDENTIFY, skip_older=True),
        DefaultMapping(
            "orders/create",
            "users_identify",
            {
                "id": "body.customer.id",
                "name": "preprocess.name",
                "email": "body.customer.email",
                "phone_number": "body.customer.phone",
            },
        ),
        DefaultMapping(
            "orders/create",
            "workflows_trigger",
            {"key": "order-confirmation", "recipients": "body.customer.id", "data": "body"},
        ),
    ),
    examples={
        "customers/create": _event("customers/create", 1, _CUSTOMER),
        "customers/update": _event("customers/update", 2, {**_CUSTOMER, "tags": "vip"}),
        "orders/create": _event("orders/create", 3, _ORDER),
    },
    preprocess=_preprocess,
    setup=(
        there("In the Shopify admin open Settings, Notifications, Webhooks, and choose Create webhook."),
        there("Select the event (Customer creation, Customer update, Order creation), format JSON."),
        there("Paste this source's URL and save; repeat for each event."),
        there("Copy the secret that the page shows under the webhooks as the one they are signed with."),
        here("Add the secret to this source."),
        there("Choose Send test next to a webhook."),
    ),
    sending=Sending(
        timeout="1 s to connect, 5 s in all",
        retries="8 times within 4 hours. A subscription made through the Admin API is deleted after 8 "
        "failures in a row.",
    ),
    notes=(
        'Ids are numbers in Shopify; as ids in Knock they become text: 7001 is user "7001".',
        "The event type is the topic, with its slash: `orders/create`.",
        "For an hour after an app's client secret is rotated, the old one may still sign: keep both here.",
        "Orders of guests have no customer: the actions that need one are skipped and say so.",
    ),
)
