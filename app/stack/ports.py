"""Ports on this machine: whether one is free, who holds it, and a few that nobody uses."""

import errno
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import psutil  # type: ignore[import-untyped]

from app.core.errors import ConfigurationError

# Below the ports that kernels give to outgoing connections (Linux from 32768 on, others from 49152): one of
# those would take a port between its choice and its use.
CHOSEN_FROM = range(20_000, 32_768)


def require_free(host: str, port: int, what: str, remedy: str) -> None:
    """Check that `what` can listen there.

    Raises:
        ConfigurationError: it cannot. Names the port, who holds it, and the remedy.
    """
    try:
        with _bound(host, port):
            return
    except OSError as error:
        reason = (
            f"port {port} is taken{_holder(port)}"
            if error.errno == errno.EADDRINUSE
            else f"cannot listen on {host}:{port} ({error.strerror or error})"
        )
        raise ConfigurationError(f"{what}: {reason}. {remedy}") from None


@dataclass(frozen=True)
class Wanted:
    """A port that something is about to listen on, and what to do when it is taken."""

    host: str
    port: int
    what: str
    remedy: str


def require_all_free(wanted: Iterable[Wanted]) -> None:
    """Check all of them, so that nobody has to start again for each.

    Raises:
        ConfigurationError: names every one that is not free.
    """
    problems = []
    for each in wanted:
        try:
            require_free(each.host, each.port, each.what, each.remedy)
        except ConfigurationError as error:
            problems.append(str(error))
    if problems:
        raise ConfigurationError("\n".join(problems))


def find_free(host: str, count: int) -> list[int]:
    """Ports that are free now, all different."""
    # Not the module's generator: processes that seeded it alike would choose alike.
    candidates = random.SystemRandom().sample(CHOSEN_FROM, len(CHOSEN_FROM))
    return list(islice((port for port in candidates if _is_free(host, port)), count))


def _is_free(host: str, port: int) -> bool:
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    return True


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # As the servers do: a port whose last connections linger in TIME_WAIT is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _holder(port: int) -> str:
    """Who listens there, as far as we may see."""
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid:
                return f" by process {each.pid} ({psutil.Process(each.pid).name()})"
    except psutil.Error:
        pass
    return ""
