"""Where requests of workflow steps may go: public addresses only, whatever a name or a redirect says."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from starlette.responses import RedirectResponse, Response

from app.core.errors import Permanent, Retryable
from app.outbound.http import MAXIMUM_ANSWER_BYTES, Outbound, Outgoing, is_public
from tests.directory.runs.conftest import Runs, fetch, statuses
from tests.directory.runs.far import WebServer


class Names(AbstractResolver):
    """A name server that gives the next of these addresses each time it is asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        return None


@pytest.fixture
async def outbound() -> AsyncIterator[Any]:
    """Makes clients, and closes them."""
    made: list[Outbound] = []

    def make(*arguments: Any, **options: Any) -> Outbound:
        made.append(Outbound(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "192.0.0.1",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "168.63.129.16",
        "64:ff9b:1::1",
        "64:ff9b:1::a00:1",
        "::127.0.0.1",
        "::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "fec0::1",
        "4000::1",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a83f:8110",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"])
async def test_loopback_is_refused_however_it_is_written(host: str, web: WebServer, outbound: Any) -> None:
    port = web.url.rpartition(":")[2]
    with pytest.raises((Permanent, Retryable)):
        await outbound().send(Outgoing("GET", f"http://{host}:{port}/"))
    assert web.hits == []


async def test_a_name_that_resolves_to_a_private_address_is_refused(web: WebServer, outbound: Any) -> None:
    port = web.url.rpartition(":")[2]
    client = outbound(resolver=Names("127.0.0.1"))
    with pytest.raises(Permanent, match=r"127\.0\.0\.1 is not a public address"):
        await client.send(Outgoing("GET", f"http://public.example:{port}/"))
    assert web.hits == []


async def test_a_name_that_changes_is_checked_each_time(web: WebServer, outbound: Any) -> None:
    """DNS rebinding: the second connection goes elsewhere than the first."""
    port = web.url.rpartition(":")[2]
    client = outbound(lambda address: address == "127.0.0.1", resolver=Names("127.0.0.1", "127.0.0.2"))
    web.answers.append(Response("{}", headers={"connection": "close"}))
    await client.send(Outgoing("GET", f"http://rebound.example:{port}/"))
    client._session.connector.clear_dns_cache()
    with pytest.raises(Permanent, match=r"127\.0\.0\.2 is not a public address"):
        await client.send(Outgoing("GET", f"http://rebound.example:{port}/"))
    assert len(web.hits) == 1


async def test_redirects_do_not_get_around_it(web: WebServer, outbound: Any) -> None:
    port = web.url.rpartition(":")[2]
    client = outbound(lambda address: address == "127.0.0.1")
    web.answers.append(RedirectResponse(f"http://127.0.0.2:{port}/inner"))
    with pytest.raises(Permanent, match=r"127\.0\.0\.2 is not a public address"):
        await client.send(Outgoing("GET", f"{web.url}/"), follow_redirects=True)
    web.answers.append(RedirectResponse(f"{web.url}/there"))
    assert (await client.send(Outgoing("GET", f"{web.url}/"), follow_redirects=True)).status == 200
    web.answers.append(RedirectResponse(f"{web.url}/there"))
    with pytest.raises(Permanent, match="answered 307"):
        await client.send(Outgoing("POST", f"{web.url}/"))
    web.answers.extend(RedirectResponse(f"{web.url}/there") for _ in range(9))
    with pytest.raises(Permanent, match="redirects"):
        await client.send(Outgoing("GET", f"{web.url}/"), follow_redirects=True)


async def test_answers_are_bounded_and_classified(web: WebServer, outbound: Any) -> None:
    client = outbound(lambda address: True)
    web.answers.append(Response(b"x" * (MAXIMUM_ANSWER_BYTES + 1)))
    with pytest.raises(Permanent, match="more than"):
        await client.send(Outgoing("GET", web.url))
    web.answers.append(Response(status_code=429, headers={"retry-after": "7"}))
    with pytest.raises(Retryable) as later:
        await client.send(Outgoing("GET", web.url))
    assert (later.value.code, later.value.retry_after) == ("http_429", 7.0)
    web.answers.append(Response("nope", status_code=422))
    with pytest.raises(Permanent, match="answered 422: nope"):
        await client.send(Outgoing("GET", web.url))
    with pytest.raises(Retryable, match="no connection"):
        await client.send(Outgoing("GET", "http://127.0.0.1:1/"))


class TestInARun:
    """With the setting as it is by default."""

    @pytest.fixture
    def settings(self, settings: Any) -> Any:
        return settings.model_copy(update={"allow_private_addresses": False})

    @pytest.mark.usefixtures("worker")
    async def test_a_fetch_of_a_private_address_fails(self, runs: Runs, web: WebServer) -> None:
        await runs.define(fetch(f"{web.url}/x"))
        [run_id] = await runs.trigger()
        run = await runs.ended(run_id)
        assert statuses(run) == {"get": "failed"}
        assert "127.0.0.1 is not a public address" in run["error"]
        assert web.hits == []
