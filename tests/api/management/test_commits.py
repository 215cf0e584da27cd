"""Commits, as an account without pending changes answers."""

import httpx

from tests.api.management.conftest import fields

DEVELOPMENT = {"environment": "development"}


async def test_there_is_nothing_to_commit(client: httpx.AsyncClient) -> None:
    listed = await client.get("/v1/commits", params={**DEVELOPMENT, "promoted": "false", "limit": 5})
    assert listed.json() == {"entries": [], "page_info": {"after": None, "before": None, "page_size": 5}}
    committed = await client.put("/v1/commits", params={**DEVELOPMENT, "commit_message": "all"})
    assert committed.json()["result"] == "success"
    promoted = await client.put("/v1/commits/promote", params={"to_environment": "production"})
    assert promoted.json()["result"] == "success"
    assert "/v1/sources/{key}/promote" in promoted.json()["message"]


async def test_no_commit_exists(client: httpx.AsyncClient) -> None:
    for answer in (await client.get("/v1/commits/c1"), await client.put("/v1/commits/c1/promote")):
        assert (answer.status_code, answer.json()["code"]) == (404, "resource_missing")


async def test_wrong_parameters(client: httpx.AsyncClient) -> None:
    assert fields(await client.get("/v1/commits")) == ["environment"]
    assert fields(await client.get("/v1/commits", params={**DEVELOPMENT, "resource_type": "x"})) == [
        "resource_type.0"
    ]
    wrong = await client.put("/v1/commits/promote", params={"to_environment": "staging"})
    assert fields(wrong) == ["to_environment"]
    assert fields(await client.put("/v1/commits", params={**DEVELOPMENT, "branch": "x"})) == ["branch"]
