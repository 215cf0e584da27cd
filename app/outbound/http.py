"""Requests to hosts that workflows name: bounded in time and size, and only to public addresses.

The address is checked when the socket is made, after the name was resolved: neither a name that resolves
otherwise the second time nor a redirect gets around it.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.core.errors import Permanent, Retryable
from app.models.types import now
from app.providers.verification import StandardWebhook

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

# Knock's limit for a fetch. A cancel waits for requests under way this long.
TIMEOUT = 15.0
MAXIMUM_ANSWER_BYTES = 1024 * 1024
MAXIMUM_REDIRECTS = 3
MAXIMUM_RETRY_AFTER = 3600.0
MAXIMUM_ERROR_LENGTH = 2000
_RETRYABLE_STATUSES = frozenset({408, 425, 429})
# NAT64 and 6to4 carry an IPv4 address within.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Permits = Callable[[str], bool]


class ForbiddenAddress(OSError):
    """A name led to an address that requests may not go to."""


@dataclass(frozen=True)
class Outgoing:
    """A request as rendered."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    query: Sequence[tuple[str, str]] = ()
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Incoming:
    """The answer to a request: always 2xx."""

    status: int
    body: bytes = field(repr=False)


def webhook_headers(body: bytes, secret: str | None, identifier: str) -> dict[str, str]:
    """The headers of a webhook as Standard Webhooks says: signed when there is a secret, with its id in any
    case."""
    if secret is None:
        return {"webhook-id": identifier}
    return StandardWebhook().sign(body, secret, now(), identifier)


def is_public(address: str) -> bool:
    """Whether an address is on the public internet: not private, loopback, link-local, shared, multicast."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _NAT64:
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        else:
            parsed = parsed.ipv4_mapped or parsed.sixtofour or parsed
    return parsed.is_global and not parsed.is_multicast


class Outbound:
    """The HTTP client of a worker process. `permits` says which addresses it may connect to."""

    def __init__(self, permits: Permits = is_public, resolver: "AbstractResolver | None" = None) -> None:
        self._permits = permits
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Outgoing, *, follow_redirects: bool = False) -> Incoming:
        """The answer.

        Raises:
            Retryable: no connection, no answer in time, 408, 425, 429, 5xx.
            Permanent: every other status, a forbidden address, an answer that is too long.
        """
        # Here, because a worker is 8 MB larger with it, and may never send such a request.
        import aiohttp
        from yarl import URL

        try:
            url = URL(request.url).update_query(list(request.query)) if request.query else URL(request.url)
            async with self._client().request(
                request.method,
                url,
                headers=list(request.headers),
                data=request.body,
                allow_redirects=follow_redirects,
                max_redirects=MAXIMUM_REDIRECTS + 1,
            ) as answer:
                return await _read(answer)
        except TimeoutError as error:
            raise Retryable(f"no answer within {TIMEOUT:g} s", code="timeout") from error
        except aiohttp.TooManyRedirects as error:
            raise Permanent(f"more than {MAXIMUM_REDIRECTS} redirects") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ForbiddenAddress):
                raise Permanent(str(error.os_error)) from error
            raise Retryable(f"no connection: {_capped(str(error))}", code="connection_error") from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise Permanent(f"the request cannot be sent: {_capped(str(error))}") from error
        except aiohttp.ClientError as error:
            raise Retryable(
                f"the connection broke: {_capped(repr(error))}", code="connection_error"
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _client(self) -> "aiohttp.ClientSession":
        """Made when first used: it belongs to the running loop."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=self._resolver, socket_factory=self._socket),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                headers={"user-agent": "Doorbell"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return self._session

    def _socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._permits(str(address[0])):
            raise ForbiddenAddress(
                f"{address[0]} is not a public address; DOORBELL_ALLOW_PRIVATE_ADDRESSES allows those"
            )
        return socket.socket(family, kind, protocol)


async def _read(answer: "aiohttp.ClientResponse") -> Incoming:
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_any():
        size += len(chunk)
        if size > MAXIMUM_ANSWER_BYTES:
            raise Permanent(f"{answer.status}: the answer has more than {MAXIMUM_ANSWER_BYTES} bytes")
        chunks.append(chunk)
    body = b"".join(chunks)
    if 200 <= answer.status < 300:
        return Incoming(answer.status, body)
    text = f"answered {answer.status}: {_capped(body[:MAXIMUM_ERROR_LENGTH].decode(errors='replace'))}"
    if answer.status in _RETRYABLE_STATUSES or answer.status >= 500:
        raise Retryable(
            text, code=f"http_{answer.status}", retry_after=_retry_after(answer.headers.get("retry-after"))
        )
    raise Permanent(text)


def _retry_after(header: str | None) -> float | None:
    """Seconds, bounded; dates are rare enough to leave to the backoff."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return min(seconds, MAXIMUM_RETRY_AFTER) if seconds >= 0 else None


def _capped(text: str) -> str:
    return text.replace("\x00", "")[:MAXIMUM_ERROR_LENGTH]
