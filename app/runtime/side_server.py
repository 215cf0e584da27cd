"""A small HTTP server beside what a process does, for those who watch it: probes, metrics."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from app.core.errors import ConfigurationError


@asynccontextmanager
async def serve_beside(app: ASGIApp, host: str, port: int, setting: str) -> AsyncIterator[None]:
    """Serve an application while the block runs. `setting` names the port for people.

    Raises:
        ConfigurationError: the port is taken, or the address is not this machine's.
    """
    listening = _listen(host, port, setting)
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Set {setting} to another one"
        ) from None


class _Server(uvicorn.Server):
    """Leaves signals to the process, which has its own handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
