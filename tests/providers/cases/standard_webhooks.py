"""Standard Webhooks, with the `standardwebhooks` library as the oracle of v1. For v1a there is no Python
one."""

from datetime import datetime

from standardwebhooks import Webhook

from app.providers.verification import Headers
from tests.providers.case import Case, Outcome, Vector, joined

_BODY = b'{"type":"contact.created","timestamp":"2026-01-01T00:00:00Z","data":{"id":"c_1"}}'
_V1 = "v1,DyPDmzs221a4tB6lc2SjmsU+JmPIhr6HzB8267gO1NY="
_V1A = "v1a,q1GnbNPQYZO1xOGY93DqcwWXPo1ik5goCarR23POThndEyy15EE4d1H950wGFhxek1A0OfU+2l3pBLqapVz8Cw=="
_SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY="
_PUBLIC_KEY = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
# The key pair's other half: the seed is the bytes 00 to 1f; libsodium keeps the public key behind it.
_SEED = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
_SEED_AND_PUBLIC_KEY = (
    "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="
)


def _headers(signatures: str, prefix: str = "webhook") -> Headers:
    return {
        f"{prefix}-id": "msg_stdVector0001",
        f"{prefix}-timestamp": "1767225600",
        f"{prefix}-signature": signatures,
    }


def _signs(body: bytes, secret: str, moment: datetime) -> Headers:
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", moment, body.decode()),
    }


case = Case(
    secrets=(_SECRET, "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcg=="),
    unusable=("whsec_???", "whpk_", "whpk_c2hvcnQ=", "whpk_not base64", "whsk_c2hvcnQ=", "v1,whsec_"),
    several=joined("webhook-signature", " "),
    outcomes={"contact.created": Outcome()},
    vectors=(
        Vector(_SECRET, _BODY, _headers(_V1)),
        Vector(_PUBLIC_KEY, _BODY, _headers(_V1A)),
        Vector(_SEED, _BODY, _headers(_V1A)),
        Vector(_SEED_AND_PUBLIC_KEY, _BODY, _headers(_V1A)),
        # Both at once, as a service sends that changes from one to the other.
        Vector(_SECRET, _BODY, _headers(f"{_V1A} {_V1}")),
        Vector(_PUBLIC_KEY, _BODY, _headers(f"{_V1} v2,unknown {_V1A}")),
        # Svix's names, and the form in which Supabase shows the secrets of its Auth hooks.
        Vector(_SECRET, _BODY, _headers(_V1, "svix")),
        Vector(f"v1,{_SECRET}", _BODY, _headers(_V1)),
        Vector(_SECRET.rstrip("="), _BODY, _headers(_V1)),
    ),
    vendor_verifies=lambda body, headers, secret: Webhook(secret).verify(body, headers),
    vendor_signs=_signs,
)
