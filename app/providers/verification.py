"""The signature schemes, as small declarations that providers put together.

Each scheme answers with a `Verdict` and never raises: whatever a sender writes into a header is at worst a
failed verification with a reason. Timestamps are checked against the time of receipt.
"""

import base64
import binascii
import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.core.exact_json import BYTE_ORDER_MARK
from app.core.raw_json import elements
from app.models.status import VerificationStatus

Headers = dict[str, str]

ED25519_KEY_BYTES = 32


@dataclass(frozen=True)
class Secret:
    """A signing secret of a source in one environment. `id` tells which one matched during rotation."""

    id: UUID
    value: str = field(repr=False)
    expires_at: datetime | None = None

    def valid_at(self, moment: datetime) -> bool:
        return self.expires_at is None or moment < self.expires_at


@dataclass(frozen=True)
class Delivery:
    """What a scheme looks at: the bytes as received, lower-case headers, and when they came."""

    body: bytes
    headers: Headers
    received_at: datetime


@dataclass(frozen=True)
class Verdict:
    """Whether a delivery is genuine. `verified` is None when there was nothing to verify it with."""

    verified: bool | None
    reason: str
    secret_id: UUID | None = None

    def status(self, *, enforced: bool) -> VerificationStatus:
        if self.verified:
            return (
                VerificationStatus.ENFORCED_VERIFIED if enforced else VerificationStatus.NOT_ENFORCED_VERIFIED
            )
        if enforced:
            return VerificationStatus.ENFORCED_FAILED
        if self.verified is None:
            return VerificationStatus.NOT_ENFORCED_UNVERIFIED
        return VerificationStatus.NOT_ENFORCED_FAILED


class Scheme(Protocol):
    """One way to sign. `check` says whether one secret signed the delivery, or raises `Refused`."""

    @property
    def secret_headers(self) -> tuple[str, ...]:
        """Headers that carry the secret itself: encrypted at rest and never shown."""

    def check(self, delivery: Delivery, secret: str) -> bool: ...

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        """The headers with which the vendor would send this body.

        Raises:
            UnusableSecret: the secret is not of the form that the scheme needs.
            CannotSign: it is, and it verifies only.
        """

    def explain(self) -> tuple[str, ...]:
        """What is signed and what is refused, in sentences for the provider's setup page."""


class Unverifiable(Exception):
    """The delivery cannot be verified with any secret; the message is the reason."""


class UnusableSecret(Exception):
    """This secret is not of the form that the scheme needs; others may be."""


class CannotSign(Exception):
    """This secret is a public key: it verifies, and nobody but the vendor can sign."""


def verify(scheme: Scheme | None, delivery: Delivery, secrets: Sequence[Secret]) -> Verdict:
    """The verdict on a delivery: genuine when any unexpired secret signed it."""
    if scheme is None:
        return Verdict(None, "this source has no way to verify its events")
    usable = [secret for secret in secrets if secret.value and secret.valid_at(delivery.received_at)]
    if not usable:
        return Verdict(None, "no signing secret is set: add one, or turn enforce_verification off")
    unusable: UnusableSecret | None = None
    for secret in usable:
        try:
            if scheme.check(delivery, secret.value):
                return Verdict(True, "signature matches", secret.id)
        except UnusableSecret as error:
            unusable = error
        except Unverifiable as refused:
            return Verdict(False, str(refused))
    return Verdict(False, str(unusable) if unusable else "signature does not match any signing secret")


@dataclass(frozen=True)
class SignedTimestamp:
    """A timestamp that is part of the signed message, and how far it may be from the time of receipt."""

    unit: Literal["seconds", "milliseconds"]
    past: timedelta
    future: timedelta

    def check(self, text: str, received_at: datetime) -> int:
        """The timestamp as an integer in its unit.

        Raises:
            Refused: not a number, too old, or too far in the future.
        """
        try:
            value = int(float(text))
        except (ValueError, OverflowError):
            raise Unverifiable(f"the signature's timestamp {_shown(text)} is not a number") from None
        age = received_at.timestamp() - value / self._per_second
        if self.unit == "seconds":
            # Whole seconds of our clock, as the vendors' own libraries compare.
            age = math.floor(age)
        if age > self.past.total_seconds():
            raise Unverifiable(
                f"the signature is {int(age)} s old, allowed are {int(self.past.total_seconds())} s"
            )
        if -age > self.future.total_seconds():
            raise Unverifiable(
                f"the signature's timestamp is too new, {math.ceil(-age)} s in the future, allowed are "
                f"{int(self.future.total_seconds())} s; check both clocks"
            )
        return value

    def of(self, moment: datetime) -> int:
        """A moment as a timestamp in this unit."""
        return int(moment.timestamp() * self._per_second)

    def explain(self) -> str:
        if self.past == self.future:
            return (
                f"Refused when its timestamp is more than {_span(self.past)} away from our clock, either way."
            )
        past, future = _span(self.past), _span(self.future)
        return f"Refused when its timestamp is more than {past} old or more than {future} ahead of our clock."

    @property
    def _per_second(self) -> int:
        return 1000 if self.unit == "milliseconds" else 1


@dataclass(frozen=True)
class PairsHmac:
    """HMAC-SHA256 in hex, in a header of pairs: `t=1767225600,v1=abc...,v1=def...` (Stripe, WorkOS).

    The signed message is `{timestamp}.{body}` and the key is the secret's text as it stands. Spaces around
    the pairs are allowed; `separator` is what the vendor writes between them.
    """

    header: str
    timestamp: SignedTimestamp
    signature_key: str = "v1"
    separator: str = ","
    secret_headers: tuple[str, ...] = ()

    def check(self, delivery: Delivery, secret: str) -> bool:
        pairs = [
            (name.strip(), value.strip())
            for name, separator, value in (
                item.partition("=") for item in _header(delivery, self.header).split(",")
            )
            if separator
        ]
        stamps = [value for name, value in pairs if name == "t"]
        signatures = [value for name, value in pairs if name == self.signature_key]
        if not stamps or not signatures:
            raise Unverifiable(f"header {self.header} lacks t= or {self.signature_key}=")
        stamp = self.timestamp.check(stamps[-1], delivery.received_at)
        expected = _hmac(hashlib.sha256, secret.encode(), f"{stamp}.".encode() + delivery.body).hex()
        return _any_equal(expected, signatures)

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        stamp = self.timestamp.of(moment)
        signature = _hmac(hashlib.sha256, secret.encode(), f"{stamp}.".encode() + body).hex()
        return {self.header: f"t={stamp}{self.separator}{self.signature_key}={signature}"}

    def explain(self) -> tuple[str, ...]:
        return (
            (
                f"Header `{self.header.title()}: t=<unix {self.timestamp.unit}>{self.separator}"
                f"{self.signature_key}=<hex>`. Any of several `{self.signature_key}` entries may match; "
                "others are ignored."
            ),
            (
                "Signed is `<t>.<raw body>`, with HMAC-SHA256; the key is the secret's text as it is shown, "
                "with its prefix."
            ),
            self.timestamp.explain(),
        )


@dataclass(frozen=True)
class StandardWebhook:
    """Standard Webhooks: `v1,<base64>` or `v1a,<base64>` entries separated by spaces (Svix, Clerk, Supabase
    Auth).

    The signed message is `{id}.{timestamp}.{body}`. The form of the secret decides: `whsec_` and base64 is an
    HMAC key (v1), `whpk_` an Ed25519 public key (v1a), `whsk_` the private key of one.
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """

    prefixes: tuple[str, ...] = ("webhook",)
    timestamp: SignedTimestamp = field(
        default=SignedTimestamp("seconds", past=timedelta(minutes=5), future=timedelta(minutes=5))
    )
    secret_headers: tuple[str, ...] = ()

    def id_header(self, headers: Headers) -> str | None:
        """The header whose id is signed: the first one of those that were sent."""
        return next((name for name in self.id_headers if headers.get(name)), None)

    @property
    def id_headers(self) -> tuple[str, ...]:
        """The headers that the id may be in."""
        return tuple(f"{prefix}-id" for prefix in self.prefixes)

    def check(self, delivery: Delivery, secret: str) -> bool:
        identifier, stamp_text, entries = (
            self._header(delivery, name) for name in ("id", "timestamp", "signature")
        )
        stamp = self.timestamp.check(stamp_text, delivery.received_at)
        message = _sent_bytes(f"{identifier}.{stamp}.") + delivery.body
        signatures: dict[str, list[str]] = {"v1": [], "v1a": []}
        for entry in entries.split(" "):
            version, _, signature = entry.partition(",")
            signatures.setdefault(version, []).append(signature)
        if _is_asymmetric(secret):
            public_key = _public_key(secret)
            return any(_ed25519_signed(public_key, signature, message) for signature in signatures["v1a"])
        expected = base64.b64encode(_hmac(hashlib.sha256, _whsec_key(secret), message)).decode()
        return _any_equal(expected, signatures["v1"])

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        stamp = self.timestamp.of(moment)
        message = f"{message_id}.{stamp}.".encode() + body
        if _is_asymmetric(secret):
            version, signature = "v1a", _private_key(secret).sign(message)
        else:
            version, signature = "v1", _hmac(hashlib.sha256, _whsec_key(secret), message)
        prefix = self.prefixes[0]
        return {
            f"{prefix}-id": message_id,
            f"{prefix}-timestamp": str(stamp),
            f"{prefix}-signature": f"{version},{base64.b64encode(signature).decode()}",
        }

    def explain(self) -> tuple[str, ...]:
        names = " or ".join(
            f"`{prefix}-id`, `{prefix}-timestamp` and `{prefix}-signature`" for prefix in self.prefixes
        )
        return (
            (
                f"Headers {names}. The signature header holds `v1,<base64>` or `v1a,<base64>` entries "
                "between spaces; any may match."
            ),
            (
                "Signed is `<id>.<timestamp>.<raw body>`. A secret `whsec_<base64>` is the key of an "
                "HMAC-SHA256 (v1); `whpk_<base64>` is an Ed25519 public key (v1a)."
            ),
            self.timestamp.explain(),
        )

    def _header(self, delivery: Delivery, name: str) -> str:
        for prefix in self.prefixes:
            if value := delivery.headers.get(f"{prefix}-{name}"):
                return value
        raise Unverifiable(f"header {self.prefixes[0]}-{name} is missing")


@dataclass(frozen=True)
class BodyHmac:
    """HMAC over the body alone, in one header after an optional prefix (Shopify, GitHub).

    The key is the secret's text. Nothing tells when it was signed, so a repeated delivery verifies again.
    """

    header: str
    encoding: Literal["hex", "base64"]
    prefix: str = ""
    digest: Literal["sha1", "sha256"] = "sha256"
    secret_headers: tuple[str, ...] = ()

    def check(self, delivery: Delivery, secret: str) -> bool:
        value = _header(delivery, self.header)
        if not value.startswith(self.prefix):
            raise Unverifiable(f"header {self.header} does not start with {self.prefix}")
        sent = value.removeprefix(self.prefix)
        expected = hmac.digest(secret.encode(), delivery.body, self.digest)
        if self.encoding == "hex":
            return _any_equal(expected.hex(), [sent])
        return hmac.compare_digest(expected, _base64_or_nothing(sent))

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        signature = hmac.digest(secret.encode(), body, self.digest)
        text = signature.hex() if self.encoding == "hex" else base64.b64encode(signature).decode()
        return {self.header: self.prefix + text}

    def explain(self) -> tuple[str, ...]:
        return (
            f"Header `{self.header.title()}: {self.prefix}<{self.encoding}>`.",
            (
                f"Signed is the raw body, with HMAC-{self.digest.upper()}; the key is the secret's text as "
                "it is "
                "shown."
            ),
            (
                "There is no timestamp in the signature: an old delivery verifies again, and the idempotency "
                "key is what drops it."
            ),
        )


@dataclass(frozen=True)
class SharedSecret:
    """The secret itself in a header, after an optional prefix such as `Bearer `. The first header sent
    counts."""

    headers: tuple[tuple[str, str], ...]

    @property
    def secret_headers(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.headers)

    def check(self, delivery: Delivery, secret: str) -> bool:
        for name, prefix in self.headers:
            if value := delivery.headers.get(name):
                return hmac.compare_digest(_sent_bytes(_credentials(value, prefix)), secret.encode())
        raise Unverifiable(f"header {' or '.join(name for name, _ in self.headers)} is missing")

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        name, prefix = self.headers[0]
        return {name: f"{prefix}{secret}"}

    def explain(self) -> tuple[str, ...]:
        forms = " or ".join(f"`{name.title()}: {prefix}<secret>`" for name, prefix in self.headers)
        return (
            f"Header {forms}, compared in constant time; with both, the first counts.",
            "Nothing is signed: whoever knows the secret can send anything. Use the https URL only.",
        )


@dataclass(frozen=True)
class FirstEventHmac:
    """HMAC-SHA1 in hex over the body, or over the first event alone when the body is an array (Segment's
    webhooks).

    There is no timestamp. `whole`: an array must be signed as a whole, which Segment itself does not do.
    https://github.com/segmentio/action-destinations, packages/destination-actions/src/destinations/webhook
    """

    header: str
    whole: bool = False
    secret_headers: tuple[str, ...] = ()

    def check(self, delivery: Delivery, secret: str) -> bool:
        signature = _header(delivery, self.header)
        signed = [delivery.body]
        if not self.whole and _is_array(delivery.body):
            signed.append(_first_element(delivery.body))
        return any(_any_equal(self._sign(secret, message), [signature]) for message in signed)

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        return {self.header: self._sign(secret, _first_element(body) if _is_array(body) else body)}

    def explain(self) -> tuple[str, ...]:
        return (
            f"Header `{self.header.title()}: <hex>`.",
            "Signed is the raw body, with HMAC-SHA1; the key is the secret's text as it is shown.",
            (
                "Of a batch, which is an array, the vendor signs the first event only: the others are "
                "accepted with it, "
                "which their log entries say. With `strict_batches` such a batch is refused."
            ),
            (
                "There is no timestamp in the signature: an old delivery verifies again, and the idempotency "
                "key is what drops it."
            ),
        )

    def _sign(self, secret: str, message: bytes) -> str:
        return _hmac(hashlib.sha1, secret.encode(), message).hex()


def _is_array(body: bytes) -> bool:
    return body.removeprefix(BYTE_ORDER_MARK)[:1] == b"["


def _first_element(array: bytes) -> bytes:
    """The first element of a JSON array, as it was sent.

    Raises:
        Refused: there is none.
    """
    try:
        return elements(array, 1)[0]
    except (ValueError, IndexError):
        raise Unverifiable("the batch has no first event, which its signature would cover") from None


def _credentials(value: str, prefix: str) -> str:
    """A header's value without its authentication scheme, whose name compares without case (RFC 9110,
    11.1); nothing when it has another one."""
    if not prefix:
        return value
    scheme, _, credentials = value.partition(" ")
    return credentials.lstrip(" ") if f"{scheme} ".lower() == prefix.lower() else ""


def _header(delivery: Delivery, name: str) -> str:
    value = delivery.headers.get(name)
    if not value:
        raise Unverifiable(f"header {name} is missing")
    return value


def _hmac(digest: Callable[[], "hashlib._Hash"], key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, digest)


def _any_equal(expected: str, candidates: Sequence[str]) -> bool:
    """Compared as bytes: headers may hold characters that `compare_digest` refuses in text."""
    return any(hmac.compare_digest(expected.encode(), _sent_bytes(candidate)) for candidate in candidates)


def _sent_bytes(header: str) -> bytes:
    """A header's bytes as they came: HTTP headers are decoded as Latin-1, whatever the sender meant."""
    return header.encode("latin-1", "replace")


def _whsec_key(secret: str) -> bytes:
    # Supabase's Auth hooks show theirs as `v1,whsec_...`.
    key = _base64_or_nothing(secret.removeprefix("v1,").removeprefix("whsec_"))
    if not key:
        raise UnusableSecret("the signing secret is not whsec_ followed by base64; copy it again")
    return key


def _is_asymmetric(secret: str) -> bool:
    return secret.startswith(("whpk_", "whsk_"))


def _public_key(secret: str) -> Ed25519PublicKey:
    if secret.startswith("whsk_"):
        return _private_key(secret).public_key()
    key = _base64_or_nothing(secret.removeprefix("whpk_"))
    if len(key) != ED25519_KEY_BYTES:
        raise UnusableSecret("the public key is not whpk_ followed by 32 bytes in base64; copy it again")
    return Ed25519PublicKey.from_public_bytes(key)


def _private_key(secret: str) -> Ed25519PrivateKey:
    """From the seed alone, or the seed and the public key after it, as libsodium keeps it."""
    if secret.startswith("whpk_"):
        _public_key(secret)
        raise CannotSign("the secret is a public key (whpk_): only its owner can sign")
    key = _base64_or_nothing(secret.removeprefix("whsk_"))
    if len(key) not in (ED25519_KEY_BYTES, 2 * ED25519_KEY_BYTES):
        raise UnusableSecret(
            "the private key is not whsk_ followed by 32 or 64 bytes in base64; copy it again"
        )
    return Ed25519PrivateKey.from_private_bytes(key[:ED25519_KEY_BYTES])


def _ed25519_signed(public_key: Ed25519PublicKey, signature: str, message: bytes) -> bool:
    try:
        public_key.verify(_base64_or_nothing(signature), message)
    except InvalidSignature:
        return False
    return True


def _base64_or_nothing(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        return b""


def _span(duration: timedelta) -> str:
    seconds = int(duration.total_seconds())
    return f"{seconds // 60} minutes" if seconds % 60 == 0 else f"{seconds} seconds"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
