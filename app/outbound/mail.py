"""Emails through the SMTP server of the settings."""

from app.core.errors import Permanent
from app.core.settings import Settings
from app.outbound.email import Email


class Mailer:
    """Sends emails, each over a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def sender(self) -> str | None:
        """The address to send from when a step names none."""
        return self._settings.smtp_from

    async def send(self, email: Email, *, message_id: str) -> None:
        """Hand the email over. The same `message_id` gives the same Message-ID, so that receivers drop a
        repeat.

        Raises:
            Retryable: no connection, refused for now (4xx), or not logged in.
            Permanent: refused for good (5xx), cannot be built, or no server is set.
        """
        settings = self._settings
        if settings.smtp_host is None:
            raise Permanent("no SMTP server: set DOORBELL_SMTP_HOST and DOORBELL_SMTP_FROM")
        # Here: 0.8 MB, which a worker that sends no emails does without.
        from app.outbound.smtp import send

        await send(settings.smtp_host, settings, email, message_id)
