"""Shopify. Its vector was computed with HMAC, without a library of the vendor's."""

from app.providers.shopify import provider
from tests.providers.case import Case, Outcome, Vector

_IDENTIFIED = (
    "users_identify",
    # A number in Shopify, text in Knock.
    {"id": "7001", "name": "Ada Example", "email": "ada@example.com", "phone_number": "+15550100100"},
)
_ORDER = provider.examples["orders/create"][0].body

case = Case(
    secrets=("shpss_vector", "shpss_other"),
    vectors=(
        Vector(
            "shpss_vector",
            b'{"id":7001,"email":"ada@example.com","first_name":"Ada","last_name":"Example"}',
            {"x-shopify-hmac-sha256": "nTudXw9W0XFR5RCKvQ0ESLGCzwFaPHt4f7vdxZZXWtQ="},
        ),
    ),
    outcomes={
        "customers/create": Outcome("b54557e4-bdd9-4b37-8a5f-000000000001", actions=(_IDENTIFIED,)),
        "customers/update": Outcome("b54557e4-bdd9-4b37-8a5f-000000000002", actions=(_IDENTIFIED,)),
        "orders/create": Outcome(
            "b54557e4-bdd9-4b37-8a5f-000000000003",
            actions=(
                _IDENTIFIED,
                (
                    "workflows_trigger",
                    {"key": "order-confirmation", "recipients": ["7001"], "data": _ORDER},
                ),
            ),
        ),
    },
    bad_bodies={"customer is text": {"id": 1, "customer": "Ada"}},
)
