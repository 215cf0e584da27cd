"""Environments, their destinations and keys."""

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.environment import Environment
from app.models.types import now
from app.runtime import Runtime
from tests.api.management.conftest import fields

DESTINATION = "/v1/environments/development/destination"
KEYS = "/v1/environments/development/keys"
FIELDS = {
    "slug",
    "name",
    "order",
    "owner",
    "label_color",
    "hide_pii_data",
    "last_commit_at",
    "created_at",
    "updated_at",
    "deleted_at",
    "is_production",
}


async def test_list_and_get(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/environments")).json()
    assert [each["slug"] for each in answer["entries"]] == ["development", "production"]
    assert answer["page_info"] == {"after": None, "before": None, "page_size": 25}
    assert all(each.keys() == FIELDS for each in answer["entries"])
    assert answer["entries"][0]["created_at"].endswith("Z")
    one = await client.get("/v1/environments/production")
    assert one.json() == answer["entries"][1]
    missing = await client.get("/v1/environments/staging")
    assert missing.status_code == 404
    assert "development, production" in missing.json()["message"]


async def test_pages(client: httpx.AsyncClient, runtime: Runtime) -> None:
    async with AsyncSession(runtime.engine) as session:
        session.add_all(Environment(slug=f"e{number}", name="E", order=2) for number in range(3))
        session.add(Environment(slug="gone", name="G", order=2, deleted_at=now()))
        await session.commit()
    seen, cursor = [], ""
    while cursor is not None:
        page = (await client.get("/v1/environments", params={"limit": 2, "after": cursor})).json()
        seen.append([each["slug"] for each in page["entries"]])
        cursor = page["page_info"]["after"]
    assert seen == [["development", "production"], ["e0", "e1"], ["e2"]]
    back = (await client.get("/v1/environments?limit=2&before=e2")).json()
    assert [each["slug"] for each in back["entries"]] == ["e0", "e1"]
    assert back["page_info"] == {"after": "e1", "before": "e0", "page_size": 2}
    assert fields(await client.get("/v1/environments?after=nope&limit=1")) == ["after"]
    assert fields(await client.get("/v1/environments?limit=0")) == ["limit"]


async def test_destination(client: httpx.AsyncClient, runtime: Runtime) -> None:
    assert (await client.get(DESTINATION)).json() == {"destination": None}
    wanted = {"url": "https://api.knock.app/", "api_key": "sk_secret"}
    answer = await client.put(DESTINATION, json={"destination": wanted})
    assert answer.json() == {"destination": {"url": "https://api.knock.app", "has_key": True}}
    assert (await client.get(DESTINATION)).json() == answer.json()
    assert runtime.configuration.destination("development").key == "sk_secret"
    same = {"destination": {"url": "https://api.knock.app"}}
    assert (await client.put(DESTINATION, json=same)).status_code == 200
    assert runtime.configuration.destination("development").key == "sk_secret"
    elsewhere = {"destination": {"url": "https://example.com"}}
    assert fields(await client.put(DESTINATION, json=elsewhere)) == ["destination.api_key"]
    assert (await client.put(DESTINATION, json={"destination": None})).json() == {"destination": None}
    assert runtime.configuration.destination("development").key is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.knock.app",
        "ftp://example.com",
        "http://",
        "http://[x",
        "http://h:99999",
        "https://u:p@host",
        "https://host/?a=b",
    ],
)
async def test_bad_destinations(client: httpx.AsyncClient, url: str) -> None:
    answer = await client.put(DESTINATION, json={"destination": {"url": url, "api_key": "sk_x"}})
    assert fields(answer) == ["destination.url"]


async def test_keys(client: httpx.AsyncClient) -> None:
    issued = await client.post(KEYS, json={"key": {"name": "backend"}})
    assert issued.status_code == 201
    key = issued.json()["key"]
    assert key["api_key"].startswith("sk_")
    assert (await client.post(KEYS)).status_code == 201
    listed = (await client.get(KEYS)).json()["entries"]
    assert [each["name"] for each in listed] == ["API", "backend"]
    assert all(each.keys() == {"id", "name", "created_at", "revoked_at"} for each in listed)
    assert (await client.delete(f"/v1/environments/production/keys/{key['id']}")).status_code == 404
    assert (await client.delete(f"{KEYS}/{key['id']}")).status_code == 204
    assert (await client.get(KEYS)).json()["entries"][1]["revoked_at"] is not None
    assert fields(await client.post(KEYS, json={"key": {"name": ""}})) == ["key.name"]
    assert (await client.post("/v1/environments/staging/keys")).status_code == 404
