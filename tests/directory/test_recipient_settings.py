"""Preferences and channel data through Knock's own clients: what identifying wrote is read back."""

import pytest

from tests.bench import Api
from tests.directory.clients import Client, Refused

EMPTY = {"categories": None, "channel_types": None, "workflows": None}


@pytest.mark.parametrize(("kind", "path"), [("users", ("ada",)), ("objects", ("projects", "p1"))])
async def test_preferences(client: Client, kind: str, path: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as missing:
        await client.call(f"{kind}.get_preferences", *path, "default")
    assert missing.value.status == 404
    identify = "users.update" if kind == "users" else "objects.set"
    await client.call(identify, *path, preferences={"default": {"workflows": {"a": False}}})
    read = await client.call(f"{kind}.get_preferences", *path, "default")
    assert read["workflows"] == {"a": False}
    saved = await client.call(f"{kind}.set_preferences", *path, "default", categories={"news": True})
    assert (saved["categories"], saved.get("workflows")) == ({"news": True}, None)
    await client.call(f"{kind}.set_preferences", *path, "tenant_1", channel_types={"email": False})
    sets = await client.call(f"{kind}.list_preferences", *path)
    assert [each["id"] for each in sets] == ["default", "tenant_1"]
    await client.call(f"{kind}.unset_preferences", *path, "tenant_1")
    sets = await client.call(f"{kind}.list_preferences", *path)
    assert [each["id"] for each in sets] == ["default"]
    unset = await client.call(f"{kind}.get_preferences", *path, "tenant_1")
    assert unset["id"] == "tenant_1"
    assert unset.get("channel_types") is None


@pytest.mark.parametrize(("kind", "path"), [("users", ("ada",)), ("objects", ("projects", "p1"))])
async def test_channel_data(client: Client, kind: str, path: tuple[str, ...]) -> None:
    identify = "users.update" if kind == "users" else "objects.set"
    await client.call(identify, *path, channel_data={"apns": {"tokens": ["t1"]}})
    read = await client.call(f"{kind}.get_channel_data", *path, "apns")
    assert (read["channel_id"], read["data"]["tokens"]) == ("apns", ["t1"])
    await client.call(f"{kind}.set_channel_data", *path, "apns", data={"tokens": ["t2"]})
    read = await client.call(f"{kind}.get_channel_data", *path, "apns")
    assert read["data"]["tokens"] == ["t2"]
    await client.call(f"{kind}.unset_channel_data", *path, "apns")
    with pytest.raises(Refused) as missing:
        await client.call(f"{kind}.get_channel_data", *path, "apns")
    assert missing.value.status == 404


async def test_merging_keeps_what_is_stored(directory: Api) -> None:
    path = "/v1/users/ada/preferences/default"
    await directory.put(path, json={"workflows": {"a": False}})
    merged = await directory.put(
        path, json={"__persistence_strategy__": "merge", "workflows": {"b": True}, "id": "default"}
    )
    assert merged.json() == {**EMPTY, "id": "default", "workflows": {"a": False, "b": True}}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/users/ada/preferences/default", {"workflow": {}}, "workflow"),
        ("/v1/users/ada/preferences/default", {"workflows": {"a": "no"}}, None),
        ("/v1/users/ada/channel_data/apns", {"tokens": []}, "data"),
        ("/v1/users/ada/channel_data/apns", {"data": 1}, "data"),
    ],
)
async def test_bodies_that_do_not_fit(directory: Api, path: str, body: object, field: str | None) -> None:
    answer = await directory.put(path, json=body)
    assert answer.status_code == 422, answer.text
    assert field is None or field in [each["field"] for each in answer.json()["errors"]]
    assert (await directory.get("/v1/users/ada")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/v1/bulk_operations/nope", "/v1/workflow_recipient_runs/nope", "/v1/messages/nope"]
)
async def test_ids_of_nothing(directory: Api, path: str) -> None:
    answer = await directory.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "resource_missing")


async def test_an_unknown_mark_is_an_unknown_path(directory: Api) -> None:
    answer = await directory.put("/v1/messages/01a20df1-e8fc-72f9-a988-19f172a42afd/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
