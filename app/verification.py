"""The signature schemes, as small declarations that providers put together.

Each scheme answers with a `Verdict` and never raises: whatever a sender writes into a header is at worst a
failed verification with a reason. Timestamps are checked against the time of receipt.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from app.models.status import VerificationStatus
from app.raw_json import elements

Headers = dict[str, str]


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
        """The headers with which the vendor would send this body."""


class Refused(Exception):
    """The delivery cannot be verified with any secret; the message is the reason."""


class UnusableSecret(Exception):
    """This secret is not of the form that the scheme needs; others may be."""


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
        except Refused as refused:
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
            raise Refused(f"the signature's timestamp {_shown(text)} is not a number") from None
        age = received_at.timestamp() - value / self._per_second
        # Whole seconds, as the vendors' own libraries compare.
        if int(age) > self.past.total_seconds():
            raise Refused(
                f"the signature is {int(age)} s old, allowed are {int(self.past.total_seconds())} s"
            )
        if int(-age) > self.future.total_seconds():
            raise Refused(f"the signature's timestamp is {int(-age)} s in the future; check both clocks")
        return value

    def of(self, moment: datetime) -> int:
        """A moment as a timestamp in this unit."""
        return int(moment.timestamp() * self._per_second)

    @property
    def _per_second(self) -> int:
        return 1000 if self.unit == "milliseconds" else 1


@dataclass(frozen=True)
class PairsHmac:
    """HMAC-SHA256 in hex, in a header of pairs: `t=1767225600,v1=abc...,v1=def...` (Stripe, WorkOS).

    The signed message is `{timestamp}.{body}` and the key is the secret's text as it stands.
    """

    header: str
    timestamp: SignedTimestamp
    signature_key: str = "v1"
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
            raise Refused(f"header {self.header} lacks t= or {self.signature_key}=")
        stamp = self.timestamp.check(stamps[-1], delivery.received_at)
        expected = _hmac(hashlib.sha256, secret.encode(), f"{stamp}.".encode() + delivery.body).hex()
        return _any_equal(expected, signatures)

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        stamp = self.timestamp.of(moment)
        signature = _hmac(hashlib.sha256, secret.encode(), f"{stamp}.".encode() + body).hex()
        return {self.header: f"t={stamp},{self.signature_key}={signature}"}


@dataclass(frozen=True)
class StandardWebhook:
    """Standard Webhooks, symmetric: `v1,<base64>` entries separated by spaces (Svix, Clerk).

    The signed message is `{id}.{timestamp}.{body}`; the key is the base64 text after `whsec_`.
    https://www.standardwebhooks.com
    """

    prefixes: tuple[str, ...] = ("webhook",)
    timestamp: SignedTimestamp = field(
        default=SignedTimestamp("seconds", past=timedelta(minutes=5), future=timedelta(minutes=5))
    )
    secret_headers: tuple[str, ...] = ()

    def check(self, delivery: Delivery, secret: str) -> bool:
        identifier, stamp_text, entries = (
            self._header(delivery, name) for name in ("id", "timestamp", "signature")
        )
        key = _whsec_key(secret)
        stamp = self.timestamp.check(stamp_text, delivery.received_at)
        message = _sent_bytes(f"{identifier}.{stamp}.") + delivery.body
        expected = base64.b64encode(_hmac(hashlib.sha256, key, message)).decode()
        signatures = [
            signature
            for version, separator, signature in (entry.partition(",") for entry in entries.split(" "))
            if separator and version == "v1"
        ]
        return _any_equal(expected, signatures)

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        stamp = self.timestamp.of(moment)
        message = f"{message_id}.{stamp}.".encode() + body
        signature = base64.b64encode(_hmac(hashlib.sha256, _whsec_key(secret), message)).decode()
        prefix = self.prefixes[0]
        return {
            f"{prefix}-id": message_id,
            f"{prefix}-timestamp": str(stamp),
            f"{prefix}-signature": f"v1,{signature}",
        }

    def _header(self, delivery: Delivery, name: str) -> str:
        for prefix in self.prefixes:
            if value := delivery.headers.get(f"{prefix}-{name}"):
                return value
        raise Refused(f"header {self.prefixes[0]}-{name} is missing")


@dataclass(frozen=True)
class SharedSecret:
    """The secret itself in a header, after an optional prefix such as `Bearer `. The first header sent counts."""

    headers: tuple[tuple[str, str], ...]

    @property
    def secret_headers(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.headers)

    def check(self, delivery: Delivery, secret: str) -> bool:
        for name, prefix in self.headers:
            if value := delivery.headers.get(name):
                return hmac.compare_digest(_sent_bytes(value), f"{prefix}{secret}".encode())
        raise Refused(f"header {' or '.join(name for name, _ in self.headers)} is missing")

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        name, prefix = self.headers[0]
        return {name: f"{prefix}{secret}"}


@dataclass(frozen=True)
class FirstEventHmac:
    """HMAC-SHA1 in hex over the body, or over the first event alone when the body is an array (Segment's webhooks).

    There is no timestamp. `whole`: an array must be signed as a whole, which Segment itself does not do.
    https://github.com/segmentio/action-destinations, packages/destination-actions/src/destinations/webhook
    """

    header: str
    whole: bool = False
    secret_headers: tuple[str, ...] = ()

    def check(self, delivery: Delivery, secret: str) -> bool:
        signature = _header(delivery, self.header)
        signed = [delivery.body]
        if not self.whole and delivery.body[:1] == b"[":
            signed.append(_first_element(delivery.body))
        return any(_any_equal(self._sign(secret, message), [signature]) for message in signed)

    def sign(self, body: bytes, secret: str, moment: datetime, message_id: str) -> Headers:
        return {self.header: self._sign(secret, _first_element(body) if body[:1] == b"[" else body)}

    def _sign(self, secret: str, message: bytes) -> str:
        return _hmac(hashlib.sha1, secret.encode(), message).hex()


def _first_element(array: bytes) -> bytes:
    """The first element of a JSON array, as it was sent.

    Raises:
        Refused: there is none.
    """
    try:
        return elements(array, 1)[0]
    except (ValueError, IndexError):
        raise Refused("the batch has no first event, which its signature would cover") from None


def _header(delivery: Delivery, name: str) -> str:
    value = delivery.headers.get(name)
    if not value:
        raise Refused(f"header {name} is missing")
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
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise UnusableSecret("the signing secret is not whsec_ followed by base64; copy it again")
    return key


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
