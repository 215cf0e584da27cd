"""The far side of workflow steps, on loopback: an SMTP server and a web server that answer as they are
told."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import orjson
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class Mail:
    """An email that was handed over."""

    sender: str
    recipients: list[str]
    message: EmailMessage

    def part(self, kind: str) -> str:
        found = self.message.get_body((kind,))
        assert found is not None
        content: str = found.get_content()
        return content


@dataclass
class MailServer:
    """Takes every email, unless `answers` holds other replies to DATA to give first. `refused` are
    recipients."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    answers: deque[str] = field(default_factory=deque)
    attempts: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    inside: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def settings(self) -> dict[str, Any]:
        """What makes Doorbell send its mail here, from an address whose case shows that it is kept."""
        return {
            "smtp_host": "127.0.0.1",
            "smtp_port": self.port,
            "smtp_security": "none",
            "smtp_from": "Doorbell@example.com",
        }

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message = message_from_bytes(envelope.content or b"", policy=policy.default)  # type: ignore[arg-type]
        assert isinstance(message, EmailMessage)
        self.attempts.append(message["Message-ID"])
        self.inside.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.answers:
            return self.answers.popleft()
        self.mails.append(Mail(envelope.mail_from or "", envelope.rcpt_tos, message))
        return "250 OK"


@asynccontextmanager
async def serve_mail() -> AsyncIterator[MailServer]:
    """A real SMTP server on a free port."""
    mails = MailServer()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mails, hostname="localhost", loop=loop), host="127.0.0.1", port=0
    )
    mails.port = server.sockets[0].getsockname()[1]
    try:
        yield mails
    finally:
        server.close()


@dataclass(frozen=True)
class Hit:
    """A request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class WebServer:
    """Answers `{}`, unless `answers` holds other responses to give first. With a closed `gate`, requests that
    arrived wait for their answer until it opens."""

    url: str = ""
    hits: list[Hit] = field(default_factory=list)
    answers: deque[Response] = field(default_factory=deque)
    gate: asyncio.Event | None = None

    @property
    def app(self) -> Starlette:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])

    async def _answer(self, request: Request) -> Response:
        self.hits.append(
            Hit(
                request.method,
                request.url.path,
                dict(request.query_params),
                dict(request.headers),
                await request.body(),
            )
        )
        if self.gate is not None:
            await self.gate.wait()
        return self.answers.popleft() if self.answers else JSONResponse({})
