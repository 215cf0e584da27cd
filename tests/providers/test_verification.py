"""The schemes against the vendors' own code, and against everything that is not a signature."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from uuid import uuid4

import pytest
import stripe
import svix.webhooks
from hypothesis import given
from hypothesis import strategies as st
from workos.webhooks._verification import verify_header

from app.models.status import VerificationStatus
from app.providers.registry import providers
from app.providers.verification import (
    CannotSign,
    Delivery,
    Headers,
    Scheme,
    Secret,
    StandardWebhook,
    Verdict,
    verify,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STRIPE_SECRET = "whsec_spec_vector_stripe_0001"
STRIPE_BODY = (
    b'{"id":"evt_1QtestVector0001","object":"event","api_version":"2026-03-25.dahlia","created":1767225600,'
    b'"type":"customer.created","data":{"object":{"id":"cus_Vector01","object":"customer",'
    b'"email":"ada@example.com","name":"Ada Example"}}}'
)
STRIPE_SIGNATURE = "t=1767225600,v1=f55f74b7b1daf67346c9198f2ca1f54f13e9bd6956d17bfcad433d9e6e88c849"
SVIX_SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY="
SVIX_BODY = (
    b'{"data":{"id":"user_2vector","email_addresses":[{"id":"idn_1","email_address":"ada@example.com"}],'
    b'"first_name":"Ada","last_name":"Example"},"object":"event","type":"user.created",'
    b'"timestamp":1767225600000,"instance_id":"ins_2vector"}'
)
SVIX_HEADERS = {
    "svix-id": "msg_2vectorSpec0001",
    "svix-timestamp": "1767225600",
    "svix-signature": "v1,UwcbzL+ag8t6cz8VkdIRVZ+WbDUkLKn1salVq3ITty0=",
}
SECRETS = {"stripe": STRIPE_SECRET, "clerk": SVIX_SECRET, "custom_http": "sesame-öffne-dich"}


def scheme(provider: str) -> Scheme:
    found = providers()[provider].scheme
    assert found is not None
    return found


def judge(
    provider: str,
    body: bytes,
    headers: Headers,
    *secrets: str,
    at: datetime = NOW,
    expires_at: datetime | None = None,
) -> Verdict:
    given = [Secret(uuid4(), value, expires_at) for value in secrets]
    return verify(scheme(provider), Delivery(body, headers, at), given)


def test_stripe_vector() -> None:
    assert judge("stripe", STRIPE_BODY, {"stripe-signature": STRIPE_SIGNATURE}, STRIPE_SECRET).verified


def test_clerk_vector() -> None:
    assert judge("clerk", SVIX_BODY, SVIX_HEADERS, SVIX_SECRET).verified


@pytest.mark.parametrize("provider", sorted(SECRETS))
def test_what_a_scheme_signs_it_verifies(provider: str) -> None:
    headers = scheme(provider).sign(STRIPE_BODY, SECRETS[provider], NOW, "msg_1")
    if provider == "custom_http":
        headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    assert judge(provider, STRIPE_BODY, headers, SECRETS[provider]).verified


def test_stripe_accepts_our_signature() -> None:
    now = datetime.now(UTC)
    headers = scheme("stripe").sign(STRIPE_BODY, STRIPE_SECRET, now, "")
    assert stripe.Webhook.construct_event(STRIPE_BODY, headers["stripe-signature"], STRIPE_SECRET)


def test_svix_accepts_our_signature() -> None:
    headers = scheme("clerk").sign(SVIX_BODY, SVIX_SECRET, datetime.now(UTC), "msg_1")
    svix.webhooks.Webhook(SVIX_SECRET).verify(SVIX_BODY, headers)


def test_svix_signs_and_we_verify() -> None:
    signature = svix.webhooks.Webhook(SVIX_SECRET).sign("msg_9", NOW, SVIX_BODY.decode())
    headers = {"svix-id": "msg_9", "svix-timestamp": str(int(NOW.timestamp())), "svix-signature": signature}
    assert judge("clerk", SVIX_BODY, headers, SVIX_SECRET).verified


@pytest.mark.parametrize(
    ("age", "accepted"), [(0, True), (300, True), (301, False), (86_400, False), (-300, True), (-301, False)]
)
@pytest.mark.parametrize("provider", ["stripe", "clerk"])
def test_tolerance(provider: str, age: int, accepted: bool) -> None:
    headers = scheme(provider).sign(STRIPE_BODY, SECRETS[provider], NOW, "msg_1")
    verdict = judge(provider, STRIPE_BODY, headers, SECRETS[provider], at=NOW + timedelta(seconds=age))
    assert verdict.verified is accepted, verdict.reason


def test_tolerance_of_the_past_is_stripes_own() -> None:
    """Stripe's library, at a mocked time, accepts and refuses the same ages."""
    for age, accepted in ((300, True), (301, False)):
        with patch("time.time", return_value=1767225600 + age):
            try:
                stripe.WebhookSignature.verify_header(
                    STRIPE_BODY.decode(), STRIPE_SIGNATURE, STRIPE_SECRET, 300
                )
                theirs = True
            except stripe.SignatureVerificationError:
                theirs = False
        ours = judge(
            "stripe",
            STRIPE_BODY,
            {"stripe-signature": STRIPE_SIGNATURE},
            STRIPE_SECRET,
            at=NOW + timedelta(seconds=age),
        )
        assert theirs is accepted
        assert ours.verified is accepted


@pytest.mark.parametrize("provider", sorted(SECRETS))
def test_refusals_have_reasons(provider: str) -> None:
    headers = scheme(provider).sign(STRIPE_BODY, SECRETS[provider], NOW, "msg_1")
    wrong = {"stripe": "whsec_other", "clerk": "whsec_b3RoZXI=", "custom_http": "other"}[provider]
    cases = {
        "no header": judge(provider, STRIPE_BODY, {}, SECRETS[provider]),
        "wrong secret": judge(provider, STRIPE_BODY, headers, wrong),
        "no secret": judge(provider, STRIPE_BODY, headers),
        "empty secret": judge(provider, STRIPE_BODY, headers, ""),
        "expired secret": judge(provider, STRIPE_BODY, headers, SECRETS[provider], expires_at=NOW),
    }
    for case, verdict in cases.items():
        assert not verdict.verified, case
        assert verdict.reason, case
    assert cases["no secret"].verified is None
    assert "missing" in cases["no header"].reason


@pytest.mark.parametrize("provider", ["stripe", "clerk"])
def test_tampered_body(provider: str) -> None:
    headers = scheme(provider).sign(STRIPE_BODY, SECRETS[provider], NOW, "msg_1")
    assert judge(provider, STRIPE_BODY + b" ", headers, SECRETS[provider]).verified is False


def test_rotation_accepts_both_secrets_and_says_which() -> None:
    old, new = Secret(uuid4(), "whsec_old"), Secret(uuid4(), "whsec_new")
    for signer in (old, new):
        headers = scheme("stripe").sign(STRIPE_BODY, signer.value, NOW, "")
        verdict = verify(scheme("stripe"), Delivery(STRIPE_BODY, headers, NOW), [new, old])
        assert verdict.verified
        assert verdict.secret_id == signer.id


def test_any_of_several_signatures() -> None:
    good = STRIPE_SIGNATURE.split("v1=")[1]
    header = f"t=1767225600,v1={'0' * 64},v0=ignored,v1={good}"
    assert judge("stripe", STRIPE_BODY, {"stripe-signature": header}, STRIPE_SECRET).verified
    entries = f"v2,whatever v1,AAAA {SVIX_HEADERS['svix-signature']}"
    assert judge("clerk", SVIX_BODY, {**SVIX_HEADERS, "svix-signature": entries}, SVIX_SECRET).verified


def test_clerk_secret_that_is_not_base64_says_so() -> None:
    verdict = judge("clerk", SVIX_BODY, SVIX_HEADERS, "whsec_not base64!")
    assert verdict.verified is False
    assert "base64" in verdict.reason


def test_clerk_takes_standard_header_names_and_prefers_svix() -> None:
    standard = {name.replace("svix", "webhook"): value for name, value in SVIX_HEADERS.items()}
    assert judge("clerk", SVIX_BODY, standard, SVIX_SECRET).verified
    spoiled = {name: "x" for name in standard}
    assert judge("clerk", SVIX_BODY, {**spoiled, **SVIX_HEADERS}, SVIX_SECRET).verified


PRIVATE_KEY = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PUBLIC_KEY = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
ANOTHER_PUBLIC_KEY = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def test_ed25519_signs_with_the_private_key_and_verifies_with_the_public_one() -> None:
    headers = scheme("standard_webhooks").sign(SVIX_BODY, PRIVATE_KEY, NOW, "msg_1")
    assert headers["webhook-signature"].startswith("v1a,")
    assert judge("standard_webhooks", SVIX_BODY, headers, PUBLIC_KEY).verified
    for verdict in (
        judge("standard_webhooks", SVIX_BODY + b" ", headers, PUBLIC_KEY),
        judge("standard_webhooks", SVIX_BODY, {**headers, "webhook-id": "msg_2"}, PUBLIC_KEY),
        judge("standard_webhooks", SVIX_BODY, headers, ANOTHER_PUBLIC_KEY),
        judge("standard_webhooks", SVIX_BODY, headers, SVIX_SECRET),
        judge("standard_webhooks", SVIX_BODY, headers, PUBLIC_KEY, at=NOW + timedelta(seconds=301)),
    ):
        assert verdict.verified is False
    with pytest.raises(CannotSign):
        scheme("standard_webhooks").sign(SVIX_BODY, PUBLIC_KEY, NOW, "msg_1")


def test_a_signature_of_one_version_does_not_count_as_the_other() -> None:
    """An HMAC keyed with a public key, which everybody knows, must not pass as v1a or v1."""
    public_key = base64.b64decode(PUBLIC_KEY.removeprefix("whpk_"))
    message = b"msg_1.1767225600." + SVIX_BODY
    forged = base64.b64encode(hmac.digest(public_key, message, "sha256")).decode()
    for version in ("v1", "v1a"):
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": "1767225600",
            "webhook-signature": f"{version},{forged}",
        }
        assert judge("standard_webhooks", SVIX_BODY, headers, PUBLIC_KEY).verified is False


@pytest.mark.parametrize("milliseconds", [-180_001, -180_000, -179_999, 0, 179_999, 180_000, 180_001])
def test_tolerance_of_workos_is_its_librarys_own(milliseconds: int) -> None:
    """To the millisecond, both ways, with the library's clock mocked."""
    secret = "spec-vector-workos-secret"
    headers = scheme("workos").sign(STRIPE_BODY, secret, NOW, "")
    at = NOW + timedelta(milliseconds=milliseconds)
    with patch("time.time", return_value=at.timestamp()):
        try:
            verify_header(
                event_body=STRIPE_BODY,
                event_signature=headers["workos-signature"],
                secret=secret,
                tolerance=180,
            )
            theirs = True
        except ValueError:
            theirs = False
    assert theirs is (abs(milliseconds) <= 180_000)
    assert judge("workos", STRIPE_BODY, headers, secret, at=at).verified is theirs


@pytest.mark.parametrize("age", [-301, -300, 0, 300, 301])
def test_tolerance_of_svix_is_its_librarys_own(age: int) -> None:
    at = NOW + timedelta(seconds=age)
    with patch("standardwebhooks.webhooks.datetime", wraps=datetime) as clock:
        clock.now.return_value = at
        try:
            svix.webhooks.Webhook(SVIX_SECRET).verify(SVIX_BODY, SVIX_HEADERS)
            theirs = True
        except svix.webhooks.WebhookVerificationError:
            theirs = False
    assert theirs is (abs(age) <= 300)
    assert judge("clerk", SVIX_BODY, SVIX_HEADERS, SVIX_SECRET, at=at).verified is theirs


header_text = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=200)


@given(header_text, header_text, header_text, st.binary(max_size=50))
def test_no_header_breaks_a_scheme(first: str, second: str, third: str, body: bytes) -> None:
    deliveries = {
        "stripe": {"stripe-signature": f"t={first},v1={second}"},
        "clerk": {"svix-id": first, "svix-timestamp": second, "svix-signature": third},
        "custom_http": {"x-webhook-secret": first},
    }
    for provider, headers in deliveries.items():
        assert (
            judge(provider, body, headers, SECRETS[provider]).verified is not True
            or provider == "custom_http"
        )


@pytest.mark.parametrize(
    "stamp", ["", "nan", "inf", "-inf", "1e400", "9" * 400, "0x10", "١٢٣", "1767225600x"]
)
def test_strange_timestamps_are_refused(stamp: str) -> None:
    verdict = judge("stripe", STRIPE_BODY, {"stripe-signature": f"t={stamp},v1=00"}, STRIPE_SECRET)
    assert verdict.verified is False


def test_fractional_timestamp_is_floored_as_svix_does() -> None:
    signed = f"msg_2.1767225600.{SVIX_BODY.decode()}".encode()
    key = base64.b64decode(SVIX_SECRET.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    headers = {"svix-id": "msg_2", "svix-timestamp": "1767225600.0", "svix-signature": f"v1,{signature}"}
    assert judge("clerk", SVIX_BODY, headers, SVIX_SECRET).verified


@pytest.mark.parametrize(
    ("verified", "enforced", "status"),
    [
        (True, True, VerificationStatus.ENFORCED_VERIFIED),
        (True, False, VerificationStatus.NOT_ENFORCED_VERIFIED),
        (False, True, VerificationStatus.ENFORCED_FAILED),
        (False, False, VerificationStatus.NOT_ENFORCED_FAILED),
        (None, True, VerificationStatus.ENFORCED_FAILED),
        (None, False, VerificationStatus.NOT_ENFORCED_UNVERIFIED),
    ],
)
def test_status(verified: bool | None, enforced: bool, status: VerificationStatus) -> None:
    assert Verdict(verified, "").status(enforced=enforced) is status


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.5, 0.999])
def test_standard_webhooks_count_whole_seconds_of_our_clock(fraction: float) -> None:
    """As Svix's own library, which takes the seconds of its clock and compares them with the header's."""
    scheme = StandardWebhook()
    secret = Secret(uuid4(), "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY=")
    signed_at = datetime(2026, 1, 1, tzinfo=UTC)
    headers = scheme.sign(b"{}", secret.value, signed_at, "msg_1")

    def judged(seconds: float) -> Verdict:
        received_at = signed_at + timedelta(seconds=seconds + fraction)
        return verify(scheme, Delivery(b"{}", headers, received_at), [secret])

    assert judged(-300).verified
    assert judged(300).verified
    assert "too new" in judged(-301).reason
    assert judged(-301).verified is False
    assert "old" in judged(301).reason
