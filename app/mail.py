"""Emails through the SMTP server of the settings."""

import asyncio
import re
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from html.parser import HTMLParser

import aiosmtplib

from app.errors import Permanent, Retryable
from app.models.types import now
from app.settings import Settings

# Within the time that a cancel waits for a send under way (app/outbound.py has the same).
TIMEOUT = 15.0
MAXIMUM_ERROR_LENGTH = 2000
_BLOCKS = frozenset(
    {"p", "div", "br", "tr", "table", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote"}
)
_UNSEEN = frozenset({"style", "script", "head", "title"})


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


class Mailer:
    """Sends emails, each over a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def sender(self) -> str | None:
        """The address to send from when a step names none."""
        return self._settings.smtp_from

    async def send(self, email: Email, *, message_id: str) -> None:
        """Hand the email over. The same `message_id` gives the same Message-ID, so that receivers drop a repeat.

        Raises:
            Retryable: no connection, refused for now (4xx), or not logged in.
            Permanent: refused for good (5xx), cannot be built, or no server is set.
        """
        settings = self._settings
        if settings.smtp_host is None:
            raise Permanent("no SMTP server: set DOORBELL_SMTP_HOST and DOORBELL_SMTP_FROM")
        message, recipients = _built(email, message_id)
        try:
            async with asyncio.timeout(TIMEOUT):
                await aiosmtplib.send(
                    message,
                    sender=email.sender,
                    recipients=recipients,
                    hostname=settings.smtp_host,
                    port=settings.smtp_port,
                    username=settings.smtp_username,
                    password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
                    use_tls=settings.smtp_security == "tls",
                    start_tls=settings.smtp_security == "starttls",
                    timeout=TIMEOUT,
                )
        except aiosmtplib.SMTPException as error:
            raise _classified(error) from error
        except TimeoutError as error:
            raise Retryable(
                f"the SMTP server did not take it within {TIMEOUT:g} s", code="timeout"
            ) from error
        except OSError as error:
            raise Retryable(f"no connection to the SMTP server: {error}", code="connection_error") from error


def text_of(html: str) -> str:
    """HTML as plain text: blocks on lines of their own, links with their addresses."""
    reader = _TextReader()
    reader.feed(html)
    reader.close()
    text = re.sub(r"[ \t]+", " ", "".join(reader.parts))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


class _TextReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unseen = 0
        self._link: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in _UNSEEN
        if tag in _BLOCKS:
            self.parts.append("\n")
        if tag == "a":
            self._link = dict(attrs).get("href")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN and self._unseen > 0
        if tag in _BLOCKS:
            self.parts.append("\n")
        if tag == "a" and self._link:
            self.parts.append(f" ({self._link})")
            self._link = None

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data.replace("\n", " "))


def _built(email: Email, message_id: str) -> tuple[EmailMessage, list[str]]:
    message = EmailMessage()
    try:
        message["From"] = Address(_line(email.sender_name or ""), addr_spec=email.sender)
        for name, addresses in (("To", email.to), ("Cc", email.cc), ("Reply-To", email.reply_to)):
            if addresses:
                message[name] = _line(addresses)
        message["Subject"] = _line(email.subject)
        message["Date"] = format_datetime(now())
        message["Message-ID"] = f"<{message_id}@{message['From'].addresses[0].domain}>"
        hidden = EmailMessage()
        hidden["Bcc"] = _line(email.bcc or "")
        recipients = [
            address.addr_spec
            for header in (message["To"], message["Cc"], hidden["Bcc"])
            for address in (header.addresses if header else ())
            if address.domain
        ]
    except (MessageError, ValueError, IndexError) as error:
        raise Permanent(f"the email's addresses cannot be read: {error}") from error
    if not recipients:
        raise Permanent("the recipient has no email address")
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    return message, recipients


def _line(text: str) -> str:
    """Headers are one line each."""
    return " ".join(text.split())


def _classified(error: aiosmtplib.SMTPException) -> Retryable | Permanent:
    """By the server's code: 4xx later, 5xx never. A login that is refused may be put right by the operator."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = [each.code for each in error.recipients]
        text = _capped(
            "; ".join(f"{each.recipient}: {each.code} {each.message}" for each in error.recipients)
        )
    elif isinstance(error, aiosmtplib.SMTPResponseException):
        codes = [error.code]
        text = _capped(f"{error.code} {error.message}")
    else:
        codes = []
        text = _capped(str(error))
    if codes and min(codes) >= 500 and not isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return Permanent(f"the SMTP server refused it: {text}")
    return Retryable(f"the SMTP server did not take it: {text}", code="smtp_error")


def _capped(text: str) -> str:
    return text.replace("\x00", "")[:MAXIMUM_ERROR_LENGTH]
