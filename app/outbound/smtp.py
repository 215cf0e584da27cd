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
from app.outbound.headers import one_line, parse_addresses

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
        sender = parse_addresses(email.sender, "from")
        recipients = [
            address
            for name, given in (("to", email.to), ("cc", email.cc or ""), ("bcc", email.bcc or ""))
            for address in parse_addresses(given, name)
        ]
        if len(sender) != 1:
            raise Permanent(f"from: {email.sender[:100]!r} is not one address")
        name = one_line(email.sender_name or "", "from_name") or sender[0].display_name
        message["From"] = Address(name, addr_spec=sender[0].addr_spec)
        for header, given in (("To", email.to), ("Cc", email.cc or ""), ("Reply-To", email.reply_to or "")):
            if addresses := parse_addresses(given, header):
                message[header] = addresses
        message["Subject"] = one_line(email.subject, "subject")
        message["Date"] = format_datetime(now())
        message["Message-ID"] = f"<{message_id}@{sender[0].domain}>"
    except (MessageError, ValueError, IndexError) as error:
        raise Permanent(f"the email's addresses cannot be read: {error}") from error
    if not recipients:
        raise Permanent("the recipient has no email address")
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    _check_headers(message)
    return message, [each.addr_spec for each in recipients]


def _check_headers(message: EmailMessage) -> None:
    """Look once more at what goes out: no header of ours is more than one line, however it was encoded.

    Raises:
        Permanent: one is.
    """
    for name in ("From", "To", "Cc", "Reply-To", "Subject"):
        for header in message.get_all(name, ()):
            folded = header.fold(policy=message.policy)
            body = folded.removesuffix(message.policy.linesep)
            if any(not line.startswith((" ", "\t")) for line in body.splitlines()[1:]):
                raise Permanent(f"{name} would be more than one header")


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
