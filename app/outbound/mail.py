"""Emails through the SMTP server of the settings."""

import re
from html.parser import HTMLParser

from app.core.errors import Permanent
from app.core.settings import Settings
from app.outbound.email import Email

_BLOCKS = frozenset(
    {"p", "div", "br", "tr", "table", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote"}
)
_UNSEEN = frozenset({"style", "script", "head", "title"})


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
