"""Real HTTP servers on loopback, inside the test's event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, TypeVar

import uvicorn
from starlette.types import ASGIApp

from app.api.protocol import BoundedHttp
from app.core.background import background

Found = TypeVar("Found")


class _Server(uvicorn.Server):
    """Ends when it is told. Uvicorn's own looks ten times a second whether it is, and then waits for as long
    again, also when nothing is under way."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told_to_end = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        async with background(super().main_loop()):
            await self.told_to_end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        # Those that are idle are gone by now.
        await asyncio.sleep(0)
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
        else:
            await self.lifespan.shutdown()


@asynccontextmanager
async def serve(app: ASGIApp, *, lifespan: Literal["auto", "off"] = "auto") -> AsyncIterator[str]:
    """Serve an application on a free port; its URL. An application that takes requests only has no
    lifespan."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        # As `doorbell api` runs it.
        http=BoundedHttp,
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started or serving.done())
        if serving.done():
            serving.result()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.told_to_end.set()
        await serving


async def eventually(look: Callable[[], Found | Awaitable[Found]], deadline: float = 60.0) -> Found:
    """What `look` finds, as soon as it is true; fails with the last thing seen after `deadline` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if loop.time() > end:
            raise AssertionError(f"still {found!r} after {deadline:g} s")
        await asyncio.sleep(0.01)
