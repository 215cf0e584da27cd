"""Environments, their destinations and keys."""

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import JSONResponse, Response

from app.models.environment import Environment
from app.models.types import now
from app.runtime.resources import Runtime
from tests.api.management.conftest import fields
from tests.knock import KnockServer, error

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


async def test_destination(client: httpx.AsyncClient, runtime: Runtime, knock: KnockServer) -> None:
    assert (await client.get(DESTINATION)).json() == {"destination": None}
    wanted = {"url": f"{knock.url}/", "api_key": "sk_secret"}
    answer = await client.put(DESTINATION, json={"destination": wanted})
    assert answer.json() == {"destination": {"url": knock.url, "has_key": True}}
    assert (await client.get(DESTINATION)).json() == answer.json()
    assert runtime.configuration.destination("development").key == "sk_secret"
    same = {"destination": {"url": knock.url}}
    assert (await client.put(DESTINATION, json=same)).status_code == 200
    assert runtime.configuration.destination("development").key == "sk_secret"
    first, second = knock.calls
    assert (first.method, first.path, first.query, first.body) == ("GET", "/v1/users", "page_size=1", None)
    assert [call.headers["authorization"] for call in (first, second)] == ["Bearer sk_secret"] * 2
    elsewhere = {"destination": {"url": "https://example.com"}}
    assert fields(await client.put(DESTINATION, json=elsewhere)) == ["destination.api_key"]
    assert (await client.put(DESTINATION, json={"destination": None})).json() == {"destination": None}
    assert runtime.configuration.destination("development").key is None
    assert len(knock.calls) == 2


@pytest.mark.parametrize(
    ("answer", "field", "says"),
    [
        (
            error(401, "api_key_missing", "No such key"),
            "api_key",
            "is refused: 401 api_key_missing: No such key",
        ),
        (error(403, "authorization", "Not allowed"), "api_key", "is refused: 403 authorization: Not allowed"),
        (error(404, "not_found", "Nothing here"), "url", "is refused: 404 not_found: Nothing here"),
        (error(503, "down", "Later"), "url", "cannot be tried now: 503 down: Later"),
        (error(429, "too_many", "Slow down"), "url", "cannot be tried now: 429 too_many: Slow down"),
        (Response("<html>Welcome</html>"), "url", "its answer cannot be read"),
        (JSONResponse({"entries": None}), "url", "the destination's answer is not Knock's"),
        (JSONResponse([]), "url", "the destination's answer is not Knock's"),
    ],
    ids=["401", "403", "404", "503", "429", "html", "no entries", "list"],
)
async def test_a_destination_is_tried_before_it_is_saved(
    client: httpx.AsyncClient, runtime: Runtime, knock: KnockServer, answer: Response, field: str, says: str
) -> None:
    knock.answers.append(answer)
    wanted = {"url": knock.url, "api_key": "sk_secret"}
    refused = await client.put(DESTINATION, json={"destination": wanted})
    assert fields(refused) == [f"destination.{field}"]
    message = refused.json()["errors"][0]["message"]
    assert says in message
    assert message.endswith("To save it all the same, leave the check out (`verify: false`)")
    assert "sk_secret" not in refused.text
    assert (await client.get(DESTINATION)).json() == {"destination": None}
    knock.answers.append(answer)
    saved = await client.put(DESTINATION, json={"destination": {**wanted, "verify": False}})
    assert saved.json() == {"destination": {"url": knock.url, "has_key": True}}
    assert len(knock.calls) == 1


async def test_a_destination_out_of_reach(client: httpx.AsyncClient) -> None:
    wanted = {"url": "http://127.0.0.1:9", "api_key": "sk_secret"}
    refused = await client.put(DESTINATION, json={"destination": wanted})
    assert fields(refused) == ["destination.url"]
    assert "cannot be tried now: no connection to the destination" in refused.json()["errors"][0]["message"]
    assert (
        await client.put(DESTINATION, json={"destination": {**wanted, "verify": False}})
    ).status_code == 200


async def test_a_wrong_key_leaves_the_present_one(
    client: httpx.AsyncClient, runtime: Runtime, knock: KnockServer
) -> None:
    await client.put(DESTINATION, json={"destination": {"url": knock.url, "api_key": "sk_right"}})
    knock.answers.append(error(401, "authentication_required", "Wrong key"))
    wanted = {"url": knock.url, "api_key": "sk_wrong"}
    assert fields(await client.put(DESTINATION, json={"destination": wanted})) == ["destination.api_key"]
    await runtime.configuration.refresh()
    assert runtime.configuration.destination("development").key == "sk_right"


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


async def test_what_stands_beside_the_destination_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.put(DESTINATION, json={"destination": None, "verify": False})
    assert fields(answer) == ["verify"]
    assert "is not a field that can be set here" in answer.json()["errors"][0]["message"]


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
    for name in ("", "  "):
        assert fields(await client.post(KEYS, json={"key": {"name": name}})) == ["key.name"]
    assert (await client.post("/v1/environments/staging/keys")).status_code == 404
