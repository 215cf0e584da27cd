"""Stripe, with the `stripe` library as the oracle."""

import stripe

from app.providers.stripe import provider
from app.providers.verification import Headers
from tests.providers.case import Case, Outcome, Vector, joined


def _verifies(body: bytes, headers: Headers, secret: str) -> object:
    return stripe.WebhookSignature.verify_header(body.decode(), headers["stripe-signature"], secret, 300)


_CUSTOMER = "cus_QXg1o8vcGmoR32"


def _triggered(event_type: str, workflow: str, key: str) -> Outcome:
    body = provider.examples[event_type][0].body
    return Outcome(
        idempotency_key=key,
        actions=(("workflows_trigger", {"key": workflow, "recipients": [_CUSTOMER], "data": body}),),
    )


case = Case(
    secrets=("whsec_spec_vector_stripe_0001", "whsec_the_other_one"),
    several=joined("stripe-signature", ","),
    outcomes={
        "customer.created": Outcome(
            idempotency_key="evt_1PgafCustomerCreated",
            actions=(
                (
                    "users_identify",
                    {
                        "id": _CUSTOMER,
                        "name": "Ada Example",
                        "email": "ada@example.com",
                        "phone_number": "+15550100100",
                        "properties": {"plan": "pro"},
                    },
                ),
            ),
        ),
        "invoice.created": _triggered("invoice.created", "invoice-created", "evt_1PgafInvoiceCreated"),
        "invoice.paid": _triggered("invoice.paid", "invoice-paid", "evt_1PgafInvoicePaid"),
    },
    vectors=(
        Vector(
            secret="whsec_spec_vector_stripe_0001",
            body=b'{"id":"evt_1QtestVector0001","object":"event","api_version":"2026-03-25.dahlia",'
            b'"created":1767225600,"type":"customer.created","data":{"object":{"id":"cus_Vector01",'
            b'"object":"customer","email":"ada@example.com","name":"Ada Example"}}}',
            headers={
                "stripe-signature": "t=1767225600,"
                "v1=f55f74b7b1daf67346c9198f2ca1f54f13e9bd6956d17bfcad433d9e6e88c849"
            },
        ),
    ),
    vendor_verifies=_verifies,
    vendor_signs=lambda body, secret, moment: {
        "stripe-signature": stripe.WebhookSignature.generate_signature_header(
            body.decode(), secret, timestamp=int(moment.timestamp())
        )
    },
    bad_bodies={"thin event": {"type": "v1.billing.meter.error", "object": "v2.core.event"}},
)
