"""The vendors' own libraries, pointed at the real application over HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from rudderstack.analytics.client import Client as RudderClient
from segment.analytics.client import Client as SegmentClient

from tests.bench import Bench, BenchSource
from tests.node import Node


async def events(source: BenchSource) -> list[dict[str, Any]]:
    return await source.bench.rows(
        "SELECT e.*, convert_from(p.body, 'UTF8')::json AS body, p.headers FROM events e "
        "JOIN event_payloads p USING (id) WHERE source_key = :key ORDER BY id",
        key=source.key,
    )


async def source_for(bench: Bench, provider: str) -> BenchSource:
    """A source for libraries: they sign nothing, so it has no signing secret."""
    return await bench.source(provider, secret=None)


def call_all(client: Any) -> None:
    client.identify("user_42", {"email": "ada@example.com", "name": "Ada Example"})
    client.track("user_42", "Order Completed", {"total": 42.5})
    client.page("user_42", "Docs", "Python")
    client.screen("user_42", "Docs", "Python")
    client.group("user_42", "acme", {"name": "Acme"})
    client.alias("anonymous", "user_42")


EXPECTED = ["identify", "track/Order Completed", "page", "screen", "group", "alias"]


def send(make: Callable[[list[Any]], Any], calls: Callable[[Any], None]) -> list[Any]:
    """What the library reports as errors after all calls, from a thread of its own."""
    errors: list[Any] = []
    client = make(errors)
    calls(client)
    client.flush()
    client.join()
    return errors


@pytest.mark.parametrize("gzip", [False, True])
async def test_segment_python(bench: Bench, gzip: bool) -> None:
    source = await source_for(bench, "segment")

    def client(errors: list[Any]) -> SegmentClient:
        return SegmentClient(
            source.token,
            host=str(bench.api.base_url),
            gzip=gzip,
            max_retries=0,
            on_error=lambda error, items: errors.append(error),
        )

    assert await asyncio.to_thread(send, client, call_all) == []
    found = await events(source)
    assert [each["event_type"] for each in found] == EXPECTED
    track = found[1]
    assert track["idempotency_key"] == track["body"]["messageId"]
    assert track["occurred_at"] is not None
    assert track["received_through"] == "tracking"
    assert track["verification_status"] == "not_enforced:unverified"
    assert track["body"]["context"]["library"]["name"] == "analytics-python"
    assert "sentAt" in track["body"]
    assert source.token not in str(found)


@pytest.mark.parametrize("gzip", [False, True])
async def test_rudderstack_python(bench: Bench, gzip: bool) -> None:
    source = await source_for(bench, "rudderstack")

    def client(errors: list[Any]) -> RudderClient:
        return RudderClient(
            source.token,
            host=str(bench.api.base_url),
            gzip=gzip,
            max_retries=0,
            on_error=lambda error, items: errors.append(error),
        )

    assert await asyncio.to_thread(send, client, call_all) == []
    found = await events(source)
    assert [each["event_type"] for each in found] == EXPECTED
    preprocess = await bench.rows(
        "SELECT preprocess_output FROM event_payloads WHERE id = :id", id=found[0]["id"]
    )
    assert preprocess[0]["preprocess_output"]["traits"]["email"] == "ada@example.com"


async def test_rudderstack_python_is_told_why(bench: Bench) -> None:
    """Its library wants `code` and `message` in an error, and tries 4xx only once."""
    errors = await asyncio.to_thread(
        send,
        lambda errors: RudderClient(
            "nope",
            host=str(bench.api.base_url),
            on_error=lambda error, items: errors.append(error),
        ),
        lambda client: client.track("user_42", "Order Completed"),
    )
    assert len(errors) == 1
    assert "invalid_write_key" in str(errors[0])


async def test_segment_node(bench: Bench, node: Node) -> None:
    source = await source_for(bench, "segment")
    printed = await node.run_json("segment.js", str(bench.api.base_url).rstrip("/"), source.token)
    assert printed == {"errors": []}
    found = await events(source)
    assert [each["event_type"] for each in found] == ["identify", "track/Order Completed", "group"]
    assert found[0]["body"]["_metadata"]["nodeVersion"]
    refused = await node.run_json("segment.js", str(bench.api.base_url).rstrip("/"), "nope")
    assert refused["errors"]


@pytest.mark.parametrize("gzip", ["true", "false"])
async def test_rudderstack_node(bench: Bench, node: Node, gzip: str) -> None:
    source = await source_for(bench, "rudderstack")
    printed = await node.run_json("rudderstack.js", str(bench.api.base_url).rstrip("/"), source.token, gzip)
    assert printed == {"errors": []}
    found = await events(source)
    assert [each["event_type"] for each in found] == ["identify", "track/order_completed"]
    assert all(each["occurred_at"] for each in found)
    expected = "application/x-www-form-urlencoded" if gzip == "true" else "application/json"
    assert found[0]["headers"]["content-type"].startswith(expected)


async def test_jitsu(bench: Bench, node: Node) -> None:
    """Its library insists on a write key of two parts; the first one is free."""
    source = await source_for(bench, "jitsu")
    key = f"server:{source.token}"
    printed = await node.run_json("jitsu.js", str(bench.api.base_url).rstrip("/"), key)
    assert printed == {"errors": []}
    found = await events(source)
    assert [each["event_type"] for each in found] == ["identify", "track/user_signed_up", "group"]
    assert source.token not in str(found)


@pytest.mark.usefixtures("worker")
async def test_from_the_library_to_the_user(bench: Bench) -> None:
    source = await source_for(bench, "rudderstack")
    await asyncio.to_thread(
        send,
        lambda errors: RudderClient(source.token, host=str(bench.api.base_url)),
        lambda client: client.identify("user_42", {"email": "ada@example.com", "plan": "pro"}),
    )
    (received,) = await events(source)
    event = await bench.final(received["id"])
    assert event["status"] == "succeeded", event["error"]
    assert event["verification_status"] == "not_enforced:unverified"
    users = await bench.rows(
        "SELECT properties FROM directory_recipients WHERE environment = :environment AND id = 'user_42'",
        environment=bench.environment,
    )
    assert users[0]["properties"] == {"email": "ada@example.com", "plan": "pro"}
