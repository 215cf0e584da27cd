"""Stripe: https://docs.stripe.com/webhooks"""

from collections.abc import Mapping
from datetime import timedelta
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
from app.providers.verification import PairsHmac, SignedTimestamp

_CUSTOMER = {
    "id": "cus_QXg1o8vcGmoR32",
    "object": "customer",
    "email": "ada@example.com",
    "name": "Ada Example",
    "phone": "+15550100100",
    "metadata": {"plan": "pro"},
}
_INVOICE = {
    "id": "in_1PgafmB7WZ01zgkW6dKueIc5",
    "object": "invoice",
    "customer": "cus_QXg1o8vcGmoR32",
    "customer_email": "ada@example.com",
    "customer_name": "Ada Example",
    "currency": "usd",
    "amount_due": 4999,
    "amount_paid": 4999,
    "status": "paid",
    "hosted_invoice_url": "https://invoice.stripe.com/i/example",
    "lines": {"object": "list", "data": []},
    "metadata": {},
}


def _event(identifier: str, event_type: str, thing: Mapping[str, object]) -> Example:
    return Example(
        body={
            "id": identifier,
            "object": "event",
            "api_version": "2026-03-25.dahlia",
            "created": 1767225600,
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": event_type,
            "data": {"object": thing},
        }
    )


def _trigger(event_type: str, workflow: str) -> DefaultMapping:
    return DefaultMapping(
        event_type,
        "workflows_trigger",
        {"key": workflow, "recipients": "body.data.object.customer", "data": "body"},
    )


def _ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """The customer, or else the thing that the event is about."""
    if body.get("object") == "v2.core.event":
        return [find_id(body.get("related_object"))]
    thing = body["data"]["object"]
    customer = None if thing.get("object") == "customer" else find_id(thing.get("customer"))
    return [customer or thing.get("id")]


provider = Provider(
    key="stripe",
    name="Stripe",
    description="Identify customers and notify them about invoices, subscriptions and payments.",
    categories=("Infrastructure", "Billing"),
    website_url="https://stripe.com",
    webhook_docs_url="https://docs.stripe.com/webhooks",
    webhook_config_deep_link="https://dashboard.stripe.com/webhooks",
    event_type_path="body.type",
    idempotency_key_path="body.id",
    timestamp_path="body.created",
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=_ordering_keys,
    # Stripe's library checks the past only; a stamp a day ahead is no more genuine than one a day old.
    scheme=PairsHmac(
        header="stripe-signature",
        timestamp=SignedTimestamp("seconds", past=timedelta(minutes=5), future=timedelta(minutes=5)),
    ),
    secret=SecretField(
        label="Signing secret",
        help="Stripe shows it on the endpoint's page under Signing secret.",
        placeholder="whsec_...",
    ),
    default_mappings=(
        DefaultMapping(
            "customer.created",
            "users_identify",
            {
                "id": "body.data.object.id",
                "name": "body.data.object.name",
                "email": "body.data.object.email",
                "phone_number": "body.data.object.phone",
                "properties": "body.data.object.metadata",
            },
            skip_older=True,
        ),
        _trigger("invoice.created", "invoice-created"),
        _trigger("invoice.paid", "invoice-paid"),
    ),
    examples={
        "customer.created": (_event("evt_1PgafCustomerCreated", "customer.created", _CUSTOMER),),
        "invoice.created": (
            _event(
                "evt_1PgafInvoiceCreated",
                "invoice.created",
                {**_INVOICE, "status": "draft", "amount_paid": 0},
            ),
        ),
        "invoice.paid": (_event("evt_1PgafInvoicePaid", "invoice.paid", _INVOICE),),
    },
    setup=(
        there("In the Stripe Dashboard open Developers, Webhooks, and choose Add destination."),
        there("Select the events to send, for example customer.created and invoice.paid."),
        there("Choose Webhook endpoint as the destination's type and paste this source's URL."),
        there("On the endpoint's page reveal the Signing secret (whsec_...) and copy it, whsec_ included."),
        here("Add the signing secret to this source."),
        there("Send a test event from the endpoint's page, or make a customer in test mode."),
    ),
    sending=Sending(
        timeout="Stripe does not publish it.",
        retries="In live mode for up to 3 days with growing pauses; in a sandbox 3 times within a few hours.",
    ),
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/stripe",
    notes=(
        (
            "Stripe does not keep the order of events and may send one more than once; the idempotency key "
            "drops the repeats."
        ),
        "`data.object.customer` can be null, or a whole customer when the API expands it.",
        (
            "Thin events (`object` is `v2.core.event`) carry no `data.object`: map them from "
            "`body.related_object`."
        ),
        (
            "When a secret is rolled, Stripe signs with the old and the new one for a while. Add the new one "
            "before you remove the old one."
        ),
    ),
)
