"""An email as a message of SMTP, and its delivery. Only `app/outbound/mail.py` imports it, with the first
email."""

import asyncio
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from app.core.errors import Permanent, Retryable, capped
from app.core.settings import Settings
from app.models.types import now
from app.outbound.email import Email

# Within the time that a cancel waits for a send under way (app/outbound/http.py has the same).
TIMEOUT = 15.0


async def send(host: str, settings: Settings, email: Email, message_id: str) -> None:
    """Hand the email over to the server `host`; see `Mailer.send`."""
    message, recipients = _built(email, message_id)
    try:
        async with asyncio.timeout(TIMEOUT):
            await aiosmtplib.send(
                message,
                sender=email.sender,
                recipients=recipients,
                hostname=host,
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
        raise Retryable(f"the SMTP server did not take it within {TIMEOUT:g} s", code="timeout") from error
    except OSError as error:
        raise Retryable(f"no connection to the SMTP server: {error}", code="connection_error") from error


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
    """By the server's code: 4xx later, 5xx never. A login that is refused may be put right by the
    operator."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = [each.code for each in error.recipients]
        text = capped("; ".join(f"{each.recipient}: {each.code} {each.message}" for each in error.recipients))
    elif isinstance(error, aiosmtplib.SMTPResponseException):
        codes = [error.code]
        text = capped(f"{error.code} {error.message}")
    else:
        codes = []
        text = capped(str(error))
    if codes and min(codes) >= 500 and not isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return Permanent(f"the SMTP server refused it: {text}")
    return Retryable(f"the SMTP server did not take it: {text}", code="smtp_error")
