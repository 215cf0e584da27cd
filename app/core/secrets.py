"""Encryption of secrets at rest, and random tokens of which only hashes are stored."""

import base64
import hashlib
import hmac
import secrets

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from app.core.errors import ConfigurationError, Permanent

MINIMUM_KEY_LENGTH = 32


class SecretBox:
    """Encrypts with the first key of DOORBELL_SECRET_KEY and decrypts with any of them.

    What is encrypted for one `purpose` is nothing to a box for another.
    """

    def __init__(self, keys: SecretStr | None, purpose: str = "") -> None:
        parts = [part.strip() for part in keys.get_secret_value().split(",")] if keys else []
        if not parts or any(len(part) < MINIMUM_KEY_LENGTH for part in parts):
            raise ConfigurationError(
                f"DOORBELL_SECRET_KEY: each key needs at least {MINIMUM_KEY_LENGTH} characters; "
                "make one with `openssl rand -base64 32`"
            )
        fernets = [Fernet(_fernet_key(part, purpose)) for part in parts]
        self._first = fernets[0]
        self._fernet = MultiFernet(fernets)

    def encrypt(self, plaintext: bytes) -> bytes:
        return self._fernet.encrypt(plaintext)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """The plaintext.

        Raises:
            Permanent: no key of DOORBELL_SECRET_KEY opens it.
        """
        try:
            return self._fernet.decrypt(ciphertext)
        except InvalidToken as error:
            raise Permanent(
                "no key in DOORBELL_SECRET_KEY decrypts this secret; was a key removed?"
            ) from error

    def is_current(self, ciphertext: bytes) -> bool:
        """Whether the first key opens it."""
        try:
            self._first.decrypt(ciphertext)
        except InvalidToken:
            return False
        return True


def _fernet_key(key: str, purpose: str) -> bytes:
    digest = hmac.new(key.encode(), purpose.encode(), "sha256") if purpose else hashlib.sha256(key.encode())
    return base64.urlsafe_b64encode(digest.digest())


def new_token(prefix: str) -> str:
    """A random token with 192 bits, for example `sk_...`."""
    return prefix + secrets.token_urlsafe(24)


def token_hash(token: str) -> str:
    """What is stored of a token. Tokens are random, so a fast hash without salt is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


REDACTED = "[redacted]"


def without_password(url: str) -> str:
    """A URL without the user and the password in it."""
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    return f"{scheme}{separator}{REDACTED}@{host}{slash}{path}" if at and user else url
