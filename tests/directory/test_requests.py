"""What the directory refuses, with Knock's error bodies that name the field, and what only plain HTTP
shows."""

import asyncio
from typing import Any

import orjson

from app.account.tokens import issue_key
from app.api.storable import MAXIMUM_BODY_BYTES
from app.runtime.resources import Runtime
from tests.bench import Api


def fields(answer: Any) -> list[str]:
    body = answer.json()
    assert (answer.status_code, body["code"], body["status"]) == (422, "invalid_params", 422), answer.text
    return [each["field"] for each in body["errors"]]


async def test_without_a_key(api: Api) -> None:
    for headers in ({}, {"authorization": "Basic eDp5"}):
        api.headers = headers
        answer = await api.get("/v1/users")
        assert answer.status_code == 401
        assert answer.json()["code"] == "api_key_missing"
        assert answer.json()["type"] == "authentication_error"


async def test_with_a_key_that_opens_nothing(api: Api) -> None:
    answer = await api.get("/v1/users", headers={"authorization": "Bearer sk_unknown"})
    assert (answer.status_code, answer.json()["code"]) == (401, "api_key_invalid")


async def test_a_service_token_is_told_apart(api: Api) -> None:
    answer = await api.get("/v1/users", headers={"authorization": "Bearer dbl_st_whatever"})
    assert (answer.status_code, answer.json()["code"]) == (401, "incorrect_token_type")
    assert "doorbell key create" in answer.json()["message"]


async def test_a_key_opens_its_environment_only(api: Api, directory: Api, runtime: Runtime) -> None:
    await directory.put("/v1/users/ada", json={"name": "Ada"})
    other = await issue_key(runtime.settings, "development", "other")
    answer = await api.get("/v1/users", headers={"authorization": f"Bearer {other}"})
    assert answer.json()["entries"] == []


async def test_refusals_name_the_field(directory: Api) -> None:
    refused: list[tuple[str, Any, str]] = [
        ("/v1/objects/c/o/subscriptions", {}, "recipients"),
        ("/v1/objects/c/o/subscriptions", {"recipients": "ada"}, "recipients"),
        ("/v1/objects/c/o/subscriptions", {"recipients": ["u"] * 101}, "recipients"),
        ("/v1/objects/c/o/subscriptions", {"recipients": [{"name": "x"}]}, "recipients.0.id"),
        ("/v1/objects/c/o/subscriptions", {"recipients": ["u", ""]}, "recipients.1"),
        ("/v1/objects/c/o/subscriptions", {"recipients": ["ü" * 255, "語" * 201]}, "recipients.1"),
        ("/v1/objects/c/o/subscriptions", {"recipients": [], "properties": 1}, "properties"),
        ("/v1/objects/$users/o/subscriptions", {"recipients": []}, "collection"),
        ("/v1/audiences/k/members", {"members": [{"user": {"id": "u"}}] * 1001}, "members"),
        ("/v1/audiences/k/members", {"members": [{"user": {}}]}, "members.0.user.id"),
        ("/v1/audiences/k/members", {"members": [{"user": {"id": "u"}, "tenant": 1}]}, "members.0.tenant"),
        ("/v1/users/bulk/identify", {"users": [{"id": "u"}] * 1001}, "users"),
        ("/v1/users/bulk/identify", {"users": [{"id": 1}]}, "users.0.id"),
        ("/v1/users/bulk/delete", {"user_ids": ["u"] * 1001}, "user_ids"),
        ("/v1/objects/c/bulk/set", {"objects": [{"name": "x"}]}, "objects.0.id"),
        ("/v1/objects/c/bulk/delete", {}, "object_ids"),
        (
            "/v1/objects/c/bulk/subscriptions/add",
            {"subscriptions": [{"id": "o", "recipients": ["u"] * 101}]},
            "subscriptions.0.recipients",
        ),
        (
            "/v1/objects/c/bulk/subscriptions/delete",
            {"subscriptions": [{"id": "o", "recipients": [{"id": "u"}]}]},
            "subscriptions.0.recipients.0.collection",
        ),
        ("/v1/tenants/bulk/set", {"tenants": ["t", {"settings": {}}]}, "tenants.1.id"),
        ("/v1/tenants/bulk/delete", {}, "tenant_ids"),
        ("/v1/users/ada/merge", {}, "from_user_id"),
    ]
    found = [(path, body, *fields(await directory.post(path, json=body))) for path, body, _ in refused]
    assert found == refused


async def test_properties_are_bounded(directory: Api) -> None:
    answer = await directory.put("/v1/users/ada", json={"notes": "x" * 300_000})
    assert fields(answer) == ["properties"]
    assert (await directory.get("/v1/users/ada")).status_code == 404


async def test_bodies_that_cannot_be_read_or_stored(directory: Api) -> None:
    async def put(content: bytes) -> tuple[int, str]:
        answer = await directory.put("/v1/objects/c/o", content=content)
        return answer.status_code, answer.json()["code"]

    assert await put(b"{") == (400, "invalid_json")
    assert await put(b"[]") == (422, "invalid_params")
    assert await put(b'{"name": "\\u0000"}') == (422, "invalid_params")
    assert await put(b'{"a":' * 200 + b"1" + b"}" * 200) == (422, "invalid_params")
    assert await put(b'"' + b"x" * MAXIMUM_BODY_BYTES + b'"') == (413, "request_too_large")


async def test_pages_are_bounded_and_cursors_checked(directory: Api) -> None:
    answer = await directory.get("/v1/users?page_size=500")
    assert answer.json()["page_info"] == {
        "__typename": "PageInfo",
        "after": None,
        "before": None,
        "page_size": 50,
    }
    assert fields(await directory.get("/v1/users?page_size=0")) == ["page_size"]
    for cursor in ("nonsense", "eyJ9", "WyJhIiwiYiJd"):
        assert fields(await directory.get(f"/v1/users?after={cursor}")) == ["after"]
    await directory.put("/v1/objects/c/o", json={})
    cursor = "WyJhIiwiYiIsImMiXQ"
    answer = await directory.get(f"/v1/objects/c/o/subscriptions?before={cursor}")
    assert fields(answer) == ["before"]


async def test_members_are_removed_as_the_query_says(directory: Api) -> None:
    members = [{"user": {"id": "ada"}}, {"user": {"id": "bob"}, "tenant": "t1"}]
    added = await directory.post("/v1/audiences/k/members?create_audience=true", json={"members": members})
    assert (added.status_code, added.content) == (204, b"")
    path = "/v1/audiences/k/members"
    removed = await directory.delete(path, params={"members": orjson.dumps(members[1:]).decode()})
    assert (removed.status_code, removed.content) == (204, b"")
    listed = (await directory.get(path)).json()["entries"]
    assert [each["user_id"] for each in listed] == ["ada"]
    assert fields(await directory.delete(path)) == ["members"]
    assert fields(await directory.delete(path, params={"members": "[{"})) == ["members"]
    assert fields(await directory.delete(path, params={"members": "[{}]"})) == ["members.0.user"]


async def test_what_is_set_at_once_is_all_kept(directory: Api) -> None:
    """Concurrent requests merge with each other, none is lost."""
    answers = await asyncio.gather(
        *(
            directory.put("/v1/users/ada", json={f"p{number}": number, "deep": {f"p{number}": number}})
            for number in range(12)
        )
    )
    assert {each.status_code for each in answers} == {200}
    user = (await directory.get("/v1/users/ada")).json()
    wanted = {f"p{number}": number for number in range(12)}
    assert {name: user.get(name) for name in wanted} == wanted
    assert user["deep"] == wanted


async def test_users_who_are_merged_both_ways_at_once(directory: Api) -> None:
    """One of the two remains, whichever request is first."""
    for name in ("ada", "bob"):
        await directory.put(f"/v1/users/{name}", json={name: True})
    answers = await asyncio.gather(
        directory.post("/v1/users/ada/merge", json={"from_user_id": "bob"}),
        directory.post("/v1/users/bob/merge", json={"from_user_id": "ada"}),
    )
    assert sorted(each.status_code for each in answers) in ([200, 404], [200, 422])
    (user,) = (await directory.get("/v1/users")).json()["entries"]
    assert (user["ada"], user["bob"]) == (True, True)


async def test_merging_moves_runs(directory: Api) -> None:
    for name in ("ada", "invited"):
        await directory.put(f"/v1/users/{name}", json={})
    await directory.post(
        "/v1/workflows/welcome/trigger", json={"recipients": ["invited"], "actor": "invited"}
    )
    await directory.post("/v1/users/ada/merge", json={"from_user_id": "invited"})
    (run,) = (await directory.get("/v1/workflow_recipient_runs")).json()["items"]
    assert (run["recipient"], run["actor"]) == ("ada", "ada")


async def test_deleting_takes_subscriptions_along(directory: Api) -> None:
    for id in ("p1", "p2"):
        await directory.put(f"/v1/objects/projects/{id}", json={})
        await directory.post(
            f"/v1/objects/projects/{id}/subscriptions",
            json={"recipients": ["ada", {"id": "p1", "collection": "projects"}]},
        )
    await directory.delete("/v1/objects/projects/p1")
    listed = (await directory.get("/v1/users/ada/subscriptions")).json()["entries"]
    assert [each["object"]["id"] for each in listed] == ["p2"]
    listed = (await directory.get("/v1/objects/projects/p2/subscriptions")).json()["entries"]
    assert [each["recipient"]["id"] for each in listed] == ["ada"]
    await directory.delete("/v1/users/ada")
    listed = (await directory.get("/v1/objects/projects/p2/subscriptions")).json()["entries"]
    assert listed == []
    assert (await directory.get("/v1/users/ada/subscriptions")).status_code == 404


async def test_a_subscription_that_is_there_is_updated(directory: Api) -> None:
    await directory.put("/v1/objects/projects/p1", json={})
    path = "/v1/objects/projects/p1/subscriptions"
    first = await directory.post(path, json={"recipients": ["ada"], "properties": {"role": "owner", "n": 1}})
    again = await directory.post(path, json={"recipients": ["ada", "ada"], "properties": {"n": 2}})
    (before,), (after,) = first.json(), again.json()
    assert after["properties"] == {"role": "owner", "n": 2}
    assert after["inserted_at"] == before["inserted_at"]
    assert after["updated_at"] > before["updated_at"]


async def test_subscriptions_are_paged_both_ways(directory: Api) -> None:
    await directory.put("/v1/objects/projects/p1", json={})
    path = "/v1/objects/projects/p1/subscriptions"
    await directory.post(path, json={"recipients": [f"u{number}" for number in range(5)]})

    async def page(**query: str) -> dict[str, Any]:
        found = (await directory.get(path, params={"page_size": "2", **query})).json()
        assert isinstance(found, dict)
        return found

    first = await page()
    second = await page(after=first["page_info"]["after"])
    third = await page(after=second["page_info"]["after"])
    assert third["page_info"]["after"] is None
    back = await page(before=third["page_info"]["before"])
    assert back["entries"] == second["entries"]
    seen = [each["recipient"]["id"] for each in first["entries"] + second["entries"] + third["entries"]]
    assert sorted(seen) == ["u0", "u1", "u2", "u3", "u4"]


async def test_preferences_of_subscribers(directory: Api) -> None:
    await directory.put("/v1/objects/projects/p1", json={})
    path = "/v1/objects/projects/p1/subscriptions"
    preferences = {"default": {"channel_types": {"email": False}}}
    await directory.post(path, json={"recipients": [{"id": "ada", "preferences": preferences}]})
    (plain,) = (await directory.get(path)).json()["entries"]
    assert "preferences" not in plain["recipient"]
    (included,) = (await directory.get(path, params={"include[]": "preferences"})).json()["entries"]
    assert included["recipient"]["preferences"]["default"]["channel_types"] == {"email": False}


async def test_a_tenants_preference_set_is_merged_or_replaced(directory: Api) -> None:
    async def put(preference_set: Any) -> Any:
        answer = await directory.put("/v1/tenants/t1", json={"settings": {"preference_set": preference_set}})
        return answer.json()["settings"]["preference_set"]

    await put({"channel_types": {"email": True}})
    assert (await put({"channel_types": {"sms": True}}))["channel_types"] == {"email": True, "sms": True}
    replaced = await put({"__persistence_strategy__": "replace", "channel_types": {"push": True}})
    assert replaced["channel_types"] == {"push": True}
    assert replaced["id"] == "default"
    assert (await put(None))["channel_types"] is None
    assert (await directory.put("/v1/tenants/t1", json={"settings": None})).status_code == 200
