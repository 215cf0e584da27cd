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
# Shorter values are part of too many words.
_MINIMUM_MASKED = 6
_RETRYABLE_STATUSES = frozenset({408, 425, 429})
# NAT64 and 6to4 carry an IPv4 address within.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-special-registry, written out: what
# Python knows of them differs between its versions. Also what no registry lists: multicast, the address at
# which Azure answers each of its machines.
_SPECIAL_IPV4 = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# All else of IPv6 is not assigned for the internet: loopback, IPv4-compatible, 64:ff9b:1::/96, unique local,
# link-local, site-local, multicast.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_SPECIAL_IPV6 = tuple(
    ipaddress.ip_network(each)
    for each in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)

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
    """Whether an address is on the public internet, by IANA's registries and a few beside them: not private,
    loopback, link-local, shared, reserved, multicast, nor one that leads to such an IPv4 address."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        within = _within(parsed)
        if within is None:
            return parsed in _GLOBAL_UNICAST and not any(parsed in each for each in _SPECIAL_IPV6)
        parsed = within
    return not any(parsed in each for each in _SPECIAL_IPV4)


def _within(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


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
                return await _read(answer, request)
        except TimeoutError as error:
            raise Retryable(f"no answer within {TIMEOUT:g} s", code="timeout") from error
        except aiohttp.TooManyRedirects as error:
            raise Permanent(f"more than {MAXIMUM_REDIRECTS} redirects") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ForbiddenAddress):
                raise Permanent(str(error.os_error)) from error
            raise Retryable(f"no connection: {_capped(str(error))}", code="connection_error") from error
        except (aiohttp.InvalidURL, ValueError) as error:
            # Their texts repeat the URL or a header, which may hold a credential.
            raise Permanent(f"the URL or a header cannot be sent ({type(error).__name__})") from error
        except aiohttp.ClientError as error:
            # Its text may repeat the request with its headers.
            raise Retryable(f"the connection broke: {_reason(error)}", code="connection_error") from error

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


def _reason(error: Exception) -> str:
    """What broke, by its name, and by the operating system's words if they are its."""
    reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{reason}"


def _without_values(text: str, request: Outgoing) -> str:
    """What a server said, without what it was sent in headers and query and may repeat."""
    values = sorted({value for _, value in (*request.headers, *request.query)}, key=len, reverse=True)
    for value in values:
        for part in (value, value.partition(" ")[2]):
            if len(part) >= _MINIMUM_MASKED:
                text = text.replace(part, "[redacted]")
    return text


async def _read(answer: "aiohttp.ClientResponse", request: Outgoing) -> Incoming:
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
    said = _without_values(body[: 2 * MAXIMUM_ERROR_LENGTH].decode(errors="replace"), request)
    text = f"answered {answer.status}: {_capped(said)}"
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
