"""`doorbell listen`: takes what a vendor's own command line delivers on this machine, or a file of recorded
requests, and passes it on to a source unchanged."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import IO

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.cli.requests import Output, forwarded_headers, post, record_of, recorded_requests, send_all
from app.cli.results import result_of
from app.cli.target import Target, open_target
from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.models.types import now
from app.replays.examples import Request, signed
from app.runtime.process import stop_requested

HOST = "127.0.0.1"


async def replay_file(
    settings: Settings, source: str, *, environment: str, path: Path, sign: bool, output: Output
) -> bool:
    """Send the requests in a file; whether all went well. `sign` signs them anew: signatures expire.

    Raises:
        ConfigurationError: the file is not one of requests, or there is nowhere to send them.
    """
    async with open_target(settings, source, environment) as target:
        requests: Iterable[Request] = recorded_requests(path)
        if sign:
            requests = (signed(target.endpoint, each) for each in requests)
        return await send_all(target, requests, output)


async def listen(
    settings: Settings,
    source: str,
    *,
    environment: str,
    port: int,
    record: Path | None,
    output: Output,
    on_ready: Callable[[str], None],
) -> None:
    """Forward what arrives on a port of this machine until Ctrl-C. `record` keeps it as a file for
    `replay_file`.

    Raises:
        ConfigurationError: the port is taken, or there is nowhere to forward to.
    """
    async with open_target(settings, source, environment) as target, httpx.AsyncClient(timeout=30) as client:
        with _private(record) if record else nullcontext() as file:
            async with Forwarder(target, client, output, file).serving() as app:
                await _serve(app, port, on_ready)


class _QuietServer(uvicorn.Server):
    """Ends when it is told to: uvicorn's own way raises the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Forwarder:
    """Passes requests on and shows what becomes of each, without making the sender wait for that."""

    def __init__(
        self, target: Target, client: httpx.AsyncClient, output: Output, record: IO[bytes] | None
    ) -> None:
        self._target = target
        self._client = client
        self._output = output
        self._record = record
        self._showing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Starlette]:
        """The application; at the end, what is not shown yet is shown as it is."""
        yield Starlette(routes=[Route("/{path:path}", self._forward, methods=["POST"])])
        for task in self._showing:
            task.cancel()
        await asyncio.gather(*self._showing, return_exceptions=True)

    async def _forward(self, request: HttpRequest) -> Response:
        """The source's own answer, so that the vendor's tool shows what it would show."""
        delivery = Request(await request.body(), forwarded_headers(dict(request.headers)))
        if self._record is not None:
            self._record.write(record_of(delivery))
            self._record.flush()
        sent_at = now()
        try:
            answer = await post(self._target, self._client, delivery)
        except ConfigurationError as error:
            return JSONResponse({"message": str(error)}, 502)
        task = asyncio.create_task(self._show(answer, sent_at))
        self._showing.add(task)
        task.add_done_callback(self._showing.discard)
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    async def _show(self, answer: httpx.Response, sent_at: datetime) -> None:
        self._output.show(await result_of(self._target, answer, sent_at, self._output.wait))


async def _serve(app: Starlette, port: int, on_ready: Callable[[str], None]) -> None:
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise ConfigurationError(
            f"port {port} cannot be used ({error.strerror}): give another --port"
        ) from None
    with listening:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        on_ready(f"http://{HOST}:{listening.getsockname()[1]}")
        server = _QuietServer(config)
        stop = stop_requested()
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await asyncio.wait([serving, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving


def _private(path: Path) -> IO[bytes]:
    """A file to append to that nobody else may read: it holds what credentials arrive."""
    return open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
