"""Signing secrets: written, never read back, rotated with an overlap."""

from datetime import datetime, timedelta

import httpx
import pytest

from app.models.types import now
from app.runtime.resources import Runtime
from tests.api.management.conftest import Put, fields

PATH = "/v1/sources/stripe/secrets?environment=development"


@pytest.fixture(autouse=True)
async def source(put: Put) -> None:
    await put("stripe", {"name": "Stripe", "preconfigured_provider": "stripe"})
    await put("clerk", {"name": "Clerk", "preconfigured_provider": "clerk"})


async def add(client: httpx.AsyncClient, path: str = PATH, **secret: object) -> httpx.Response:
    return await client.post(path, json={"secret": secret})


async def test_a_secret_verifies_at_once_and_is_never_shown(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    answer = await add(client, value="whsec_first")
    assert answer.status_code == 201
    assert answer.json()["secret"].keys() == {"id", "created_at", "expires_at", "last_matched_at"}
    endpoint = runtime.configuration.endpoint("development", "stripe")
    assert endpoint is not None
    assert [each.value for each in endpoint.secrets] == ["whsec_first"]
    elsewhere = runtime.configuration.endpoint("production", "stripe")
    assert elsewhere is not None
    assert elsewhere.secrets == ()
    listed = await client.get(PATH)
    assert listed.json() == {"entries": [answer.json()["secret"]]}
    assert "whsec" not in listed.text


async def test_rotation_with_an_overlap(client: httpx.AsyncClient) -> None:
    soon = now() + timedelta(minutes=30)
    await add(client, value="one")
    await add(client, value="two", expires_at=soon.isoformat())
    before = now()
    await add(client, value="three", expire_others_in_seconds=3600)
    after = now()
    three, two, one = (await client.get(PATH)).json()["entries"]
    assert three["expires_at"] is None
    assert datetime.fromisoformat(two["expires_at"]) == soon
    assert before <= datetime.fromisoformat(one["expires_at"]) - timedelta(hours=1) <= after


async def test_deletion(client: httpx.AsyncClient, runtime: Runtime) -> None:
    identifier = (await add(client, value="one")).json()["secret"]["id"]
    elsewhere = f"/v1/sources/stripe/secrets/{identifier}?environment=production"
    assert (await client.delete(elsewhere)).status_code == 404
    path = f"/v1/sources/stripe/secrets/{identifier}?environment=development"
    assert (await client.delete(path)).status_code == 204
    assert (await client.delete(path)).status_code == 404
    endpoint = runtime.configuration.endpoint("development", "stripe")
    assert endpoint is not None
    assert endpoint.secrets == ()


@pytest.mark.parametrize(
    ("secret", "field"),
    [
        ({}, "secret.value"),
        ({"value": ""}, "secret.value"),
        ({"value": None}, "secret.value"),
        ({"value": "x" * 1025}, "secret.value"),
        ({"value": "whsec_abc\n"}, "secret.value"),
        ({"value": " whsec_abc"}, "secret.value"),
        ({"value": "ok", "expires_at": "2020-01-01T00:00:00Z"}, "secret.expires_at"),
        ({"value": "ok", "expires_at": "2099-01-01T00:00:00"}, "secret.expires_at"),
        ({"value": "ok", "expire_others_in_seconds": -1}, "secret.expire_others_in_seconds"),
        ({"value": "ok", "expires": None}, "secret.expires"),
    ],
)
async def test_bad_secrets(client: httpx.AsyncClient, secret: dict[str, object], field: str) -> None:
    answer = await add(client, **secret)
    assert fields(answer) == [field]
    assert "whsec_abc" not in answer.text


async def test_a_secret_that_the_provider_cannot_use(client: httpx.AsyncClient) -> None:
    path = "/v1/sources/clerk/secrets?environment=development"
    refused = await add(client, path, value="whsec_not base64!")
    assert fields(refused) == ["secret.value"]
    assert "whsec_ followed by base64" in refused.json()["message"]
    assert (await add(client, path, value="whsec_dGVzdC1zZWNyZXQ=")).status_code == 201


async def test_too_many(client: httpx.AsyncClient) -> None:
    for number in range(10):
        assert (await add(client, value=f"secret-{number}")).status_code == 201
    assert fields(await add(client, value="one more")) == ["secret"]


async def test_unknown_sources_and_environments(client: httpx.AsyncClient) -> None:
    missing = await add(client, "/v1/sources/none/secrets?environment=development", value="x")
    assert missing.status_code == 404
    assert fields(await client.get("/v1/sources/stripe/secrets?environment=staging")) == ["environment"]


async def test_a_public_key_is_a_secret_too(client: httpx.AsyncClient, put: Put) -> None:
    """It verifies, though nobody here can sign with it."""
    await put("standard", {"name": "Standard", "preconfigured_provider": "standard_webhooks"})
    path = PATH.replace("stripe", "standard")
    key = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    assert (await add(client, path, value=key)).status_code == 201
    assert fields(await add(client, path, value=key[:-8])) == ["secret.value"]
