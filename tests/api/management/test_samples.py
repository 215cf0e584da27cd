"""Samples of event types: the latest that was received, else the provider's example."""

from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.event import Event, EventPayload
from app.models.types import first_id_at, new_id, now
from app.runtime.resources import Runtime
from tests.api.management.conftest import Put


@pytest.fixture(autouse=True)
async def sources(put: Put) -> None:
    for key in ("stripe", "shopify", "supabase"):
        await put(key, {"name": key, "preconfigured_provider": key})


async def received(
    runtime: Runtime,
    source: str,
    event_type: str,
    body: dict[str, Any] | None,
    *,
    preprocess: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    **columns: Any,
) -> Event:
    """An event in the log; without a body its payload is past retention."""
    event = Event(
        **{
            "id": new_id(),
            "environment": "development",
            "source_key": source,
            "event_type": event_type,
            "status": "succeeded",
            "verification_status": "enforced:verified",
            **columns,
        }
    )
    async with AsyncSession(runtime.engine, expire_on_commit=False) as session:
        session.add(event)
        if body is not None:
            session.add(
                EventPayload(
                    id=event.id, body=orjson.dumps(body), headers=headers or {}, preprocess_output=preprocess
                )
            )
        await session.commit()
    return event


async def sample(client: httpx.AsyncClient, source: str, event_type: str, **where: str) -> httpx.Response:
    path = f"/v1/sources/{source}/events/{event_type}/sample"
    return await client.get(path, params={"environment": "development", **where})


async def test_the_latest_received(client: httpx.AsyncClient, runtime: Runtime) -> None:
    await received(runtime, "stripe", "invoice.paid", {"n": 1})
    latest = await received(
        runtime, "stripe", "invoice.paid", {"n": 2}, headers={"x": "y"}, preprocess={"a": 1}
    )
    await received(runtime, "stripe", "invoice.created", {"n": 3})
    await received(runtime, "stripe", "invoice.paid", {"n": 4}, environment="production")
    await received(runtime, "stripe", "invoice.paid", {"n": 5}, origin="rehearsal")
    answer = (await sample(client, "stripe", "invoice.paid")).json()
    assert answer == {
        "event": "invoice.paid",
        "origin": "received",
        "body": {"n": 2},
        "headers": {"x": "y"},
        "preprocess": {"a": 1},
        "log_id": str(latest.id),
        "received_at": answer["received_at"],
    }
    assert answer["received_at"] is not None


async def test_an_event_whose_payload_is_gone_is_passed_over(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    await received(runtime, "stripe", "invoice.paid", {"n": 1})
    await received(runtime, "stripe", "invoice.paid", None)
    assert (await sample(client, "stripe", "invoice.paid")).json()["body"] == {"n": 1}


async def test_the_providers_example_when_none_came_lately(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    await received(runtime, "shopify", "orders/create", {"n": 1}, id=first_id_at(now() - timedelta(days=31)))
    answer = (await sample(client, "shopify", "orders/create")).json()
    assert answer["origin"] == "example"
    assert answer["body"]["customer"]["id"] == 7001
    assert answer["headers"]["x-shopify-topic"] == "orders/create"
    assert answer["preprocess"] == {"name": "Ada Example"}
    assert answer["log_id"] is answer["received_at"] is None


async def test_sensitive_values_are_redacted(client: httpx.AsyncClient, runtime: Runtime) -> None:
    body = {
        "record": {"encrypted_password": "HASH", "recovery_token": "", "email": "a@b.c"},
        "old_record": None,
    }
    await received(runtime, "supabase", "auth.users:INSERT", body)
    answer = (await sample(client, "supabase", "auth.users:INSERT")).json()
    assert answer["body"] == {
        "record": {"encrypted_password": "[redacted]", "recovery_token": "", "email": "a@b.c"},
        "old_record": None,
    }


async def test_neither_received_nor_known(client: httpx.AsyncClient) -> None:
    for event_type in ("no.such.event", "a/b/c", "sample"):
        answer = await sample(client, "stripe", event_type)
        assert answer.status_code == 404
        assert answer.json()["code"] == "resource_missing"
        assert event_type in answer.json()["message"]
    assert (await sample(client, "nosuch", "invoice.paid")).status_code == 404
