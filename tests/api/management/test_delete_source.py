"""A source is deleted: what stops, what goes on, what stays."""

from typing import Any

import httpx
import pytest

from tests.api.management.conftest import Put
from tests.bench import Api, Bench
from tests.servers import eventually

DEVELOPMENT = {"environment": "development"}


async def test_it_is_gone_with_all_that_it_had(client: httpx.AsyncClient, put: Put) -> None:
    settings = {"signing_secret": "open-sesame"}
    source = {"name": "Shop", "environment_settings": {"development": {"settings": settings}}}
    await put("shop", source)
    tag = (await client.get("/v1/sources/shop")).headers["etag"]
    await put("shop", {**source, "name": "Renamed"})
    stale = await client.delete("/v1/sources/shop", headers={"if-match": tag})
    assert stale.status_code == 412
    assert (await client.delete("/v1/sources/shop")).status_code == 204
    for answer in (
        await client.get("/v1/sources/shop"),
        await client.delete("/v1/sources/shop"),
        await client.get("/v1/sources/shop/mappings", params=DEVELOPMENT),
        await client.get("/v1/sources/shop/status", params=DEVELOPMENT),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "resource_missing")
        assert answer.json()["message"] == "There is no source 'shop'"
    entries = (await client.get("/v1/audit_log", params={"resource_type": "source"})).json()["entries"]
    [deleted] = [each for each in entries if each["action"] == "source.deleted"]
    assert deleted["before"]["name"] == "Renamed"
    again = (await put("shop", {"name": "Again"})).json()["source"]
    assert again["environment_settings"]["development"]["mappings"] == []


async def test_a_limited_token_deletes_no_source(client: httpx.AsyncClient, put: Put) -> None:
    await put("shop", {"name": "Shop"})
    for token in (
        {"name": "ci", "scope": "write", "environments": ["development"]},
        {"name": "reader", "scope": "read"},
    ):
        issued = await client.post("/v1/service_tokens", json={"service_token": token})
        headers = {"authorization": f"Bearer {issued.json()['service_token']['token']}"}
        refused = await client.delete("/v1/sources/shop", headers=headers)
        assert refused.status_code == 403, refused.text
    assert (await client.get("/v1/sources/shop")).status_code == 200


@pytest.mark.usefixtures("worker")
async def test_its_url_and_its_log(api: Api, bench: Bench) -> None:
    mappings: dict[str, list[tuple[str, dict[str, Any]]]] = {"a": [("users_identify", {"id": "body.user"})]}
    source = await bench.source("custom_http", secret=None, enforce_verification=False, mappings=mappings)
    accepted = await source.post(b'{"type": "a", "user": "ada"}', {})
    event = await bench.final(accepted.json()["id"])
    assert event["status"] == "succeeded"
    assert (await api.delete(f"/v1/sources/{source.key}")).status_code == 204

    async def closed() -> bool:
        return (await source.post(b'{"type": "a", "user": "ada"}', {})).status_code == 404

    await eventually(closed)
    logs = await api.get("/v1/logs", params={"environment": bench.environment, "source": source.key})
    assert str(event["id"]) in [each["id"] for each in logs.json()["entries"]], logs.text
