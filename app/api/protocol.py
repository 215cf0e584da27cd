"""HTTP as it comes over the socket: uvicorn's protocol, with bounds on everything but the size of bodies.

Whoever reads a body bounds its size. The request line and the headers are gathered before any handler is
called, and the parser knows no bounds: without them, a sender whose headers never end fills the memory.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.errors import error_response

MAXIMUM_HEADERS = 100
# The request line and all headers together; also the trailers of a body, and what frames its chunks.
MAXIMUM_HEAD_BYTES = 64 * 1024
# Until a head is whole, from the first byte of the connection on.
HEAD_TIMEOUT = 30.0
# Between two parts of a body that we are ready to read; and for all of it.
BODY_PAUSE = 15.0
BODY_TIMEOUT = 120.0


class HeadTooLarge(Exception):
    """The parser is left by this; the answer is 431."""


class BoundedHttp(HttpToolsProtocol):
    """Answers 431 to a head that is too large and 408 to a body that takes too long; closes a
    connection whose head takes too long; drops trailers."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._in_head = True
        self._is_too_large = False
        # Of this head; and bytes that were received since something came of any.
        self._head_bytes = 0
        self._unread = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._body_began = 0.0
        self._has_body_progressed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_TIMEOUT, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unread > MAXIMUM_HEAD_BYTES:
            self._is_too_large = True
            self.send_400_response("")
        elif self._in_head and self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        # A trailer comes after the request was judged by its headers.
        if self._in_head:
            # Blanks and tabs around a value are no part of it (RFC 9110, 5.5).
            super().on_header(name, value.strip(b" \t"))
            if len(self.headers) > MAXIMUM_HEADERS:
                self._is_too_large = True
                raise HeadTooLarge

    def on_headers_complete(self) -> None:
        self._in_head, self._unread = False, 0
        self._stop_waiting()
        self._body_began, self._has_body_progressed = self.loop.time(), False
        self._deadline = self.loop.call_later(BODY_PAUSE, self._check_body)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread, self._has_body_progressed = 0, True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        self._stop_waiting()
        super().on_message_complete()

    def _check_body(self) -> None:
        """End a request whose body does not come, unless it is we who do not read."""
        self._deadline = None
        if self.transport.is_closing():
            return
        progressed = self._has_body_progressed or self.flow.read_paused
        if progressed and self.loop.time() - self._body_began < BODY_TIMEOUT:
            self._has_body_progressed = False
            self._deadline = self.loop.call_later(BODY_PAUSE, self._check_body)
            return
        if self.cycle is not None and not self.cycle.response_started:
            self._refuse(408, "body_timeout", f"The body did not come within {BODY_TIMEOUT:g} s, or paused")
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed, or is too large to be, is answered in Knock's error body too."""
        if self._is_too_large:
            message = (
                f"a request has at most {MAXIMUM_HEADERS} headers, and {MAXIMUM_HEAD_BYTES} bytes of them"
            )
            self._refuse(431, "headers_too_large", message)
        else:
            self._refuse(400, "invalid_request", "The request is not HTTP")
        self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        answer = error_response(status, code, message)
        head = b"".join(b"%s: %s\r\n" % each for each in answer.raw_headers)
        self.transport.write(STATUS_LINE[status] + head + b"connection: close\r\n\r\n" + bytes(answer.body))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAXIMUM_HEAD_BYTES:
            self._is_too_large = True
            raise HeadTooLarge

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
