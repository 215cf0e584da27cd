"""Encryption of secrets at rest, and random tokens of which only hashes are stored."""

import base64
import hashlib
import secrets

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from app.errors import ConfigurationError, Permanent

MINIMUM_KEY_LENGTH = 32


class SecretBox:
    """Encrypts with the first key of DOORBELL_SECRET_KEY and decrypts with any of them."""

    def __init__(self, keys: SecretStr | None) -> None:
        parts = [part.strip() for part in keys.get_secret_value().split(",")] if keys else []
        if not parts or any(len(part) < MINIMUM_KEY_LENGTH for part in parts):
            raise ConfigurationError(
                f"DOORBELL_SECRET_KEY: each key needs at least {MINIMUM_KEY_LENGTH} characters; "
                "make one with `openssl rand -base64 32`"
            )
        self._fernet = MultiFernet([Fernet(_fernet_key(part)) for part in parts])

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


def _fernet_key(key: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())


def new_token(prefix: str) -> str:
    """A random token with 192 bits, for example `sk_...`."""
    return prefix + secrets.token_urlsafe(24)


def token_hash(token: str) -> str:
    """What is stored of a token. Tokens are random, so a fast hash without salt is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
