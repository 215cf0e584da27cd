"""The shape of an email, apart from the libraries that build and send it."""

import re
from dataclasses import dataclass

from app.core.errors import Permanent

# An address as mail servers take it: no quoted local part, no comment, no source route.
_PART = r"[^\s\x00-\x20\x7f<>()\[\],;:\\\"@]+"
_ADDRESS = re.compile(f"{_PART}@{_PART}")


@dataclass(frozen=True)
class Email:
    """An email as rendered. Addresses as people write them; several separated by commas, except `sender`."""

    sender: str
    to: str
    subject: str
    html: str
    text: str
    sender_name: str | None = None
    cc: str | None = None
    bcc: str | None = None
    reply_to: str | None = None


def single_address(text: str, field: str) -> str:
    """The one address that a text is, without a name; "" for none.

    Raises:
        Permanent: it is more than one address, or none.
    """
    text = text.strip()
    return checked_address(text, field) if text else ""


def checked_address(text: str, field: str) -> str:
    """The text, which is an address.

    Raises:
        Permanent: it is none.
    """
    if _ADDRESS.fullmatch(text) is None:
        raise Permanent(f"{field}: {text[:100]!r} is not one email address such as ada@example.com")
    return text
