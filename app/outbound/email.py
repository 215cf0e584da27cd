"""The shape of an email, apart from the libraries that build and send it."""

from dataclasses import dataclass


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
