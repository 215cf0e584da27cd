"""Clerk, with the `svix` library as the oracle."""

from datetime import datetime

import svix.webhooks

from app.providers.verification import Headers
from tests.providers.case import Case, Outcome, Vector, joined


def _verifies(body: bytes, headers: Headers, secret: str) -> object:
    return svix.webhooks.Webhook(secret).verify(body, headers)


def _signs(body: bytes, secret: str, moment: datetime) -> Headers:
    return {
        "svix-id": "msg_1",
        "svix-timestamp": str(int(moment.timestamp())),
        "svix-signature": svix.webhooks.Webhook(secret).sign("msg_1", moment, body.decode()),
    }


_USER = "user_29w83sxmDNGwOuEthce5gg56FcC"
_ORGANIZATION = "org_29w9IfBrPmcpi0IeBVaKtA7R94W"
_IDENTIFIED = Outcome(
    actions=(
        (
            "users_identify",
            {
                "id": _USER,
                "name": "Ada Example",
                "email": "ada@example.com",
                "avatar": "https://img.clerk.com/example",
                "properties": {"plan": "pro"},
            },
        ),
    )
)
_TENANT = Outcome(actions=(("tenants_set", {"id": _ORGANIZATION, "name": "Example Inc", "properties": {}}),))

case = Case(
    secrets=(
        "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY=",
        "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcg",
    ),
    unusable=("whsec_not base64!", "whsec_", "whpk_c2hvcnQ=", "whsk_c2hvcnQ="),
    several=joined("svix-signature", " "),
    outcomes={
        "user.created": _IDENTIFIED,
        "user.updated": _IDENTIFIED,
        "user.deleted": Outcome(),
        "organization.created": _TENANT,
        "organization.updated": _TENANT,
        "organization.deleted": Outcome(actions=(("tenants_delete", {"id": _ORGANIZATION}),)),
    },
    vectors=(
        Vector(
            secret="whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY=",
            body=b'{"data":{"id":"user_2vector","email_addresses":[{"id":"idn_1",'
            b'"email_address":"ada@example.com"}],"first_name":"Ada","last_name":"Example"},"object":"event",'
            b'"type":"user.created","timestamp":1767225600000,"instance_id":"ins_2vector"}',
            headers={
                "svix-id": "msg_2vectorSpec0001",
                "svix-timestamp": "1767225600",
                "svix-signature": "v1,UwcbzL+ag8t6cz8VkdIRVZ+WbDUkLKn1salVq3ITty0=",
            },
        ),
    ),
    vendor_verifies=_verifies,
    vendor_signs=_signs,
    bad_bodies={
        "no data": {"type": "user.created"},
        "addresses are text": {"type": "user.created", "data": {"id": "u", "email_addresses": "a@b"}},
        "data is a list": {"type": "user.created", "data": []},
    },
)
