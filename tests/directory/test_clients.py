"""The directory as Knock's own clients see it: each test runs with the Python one and with the JavaScript
one."""

from typing import Any

import pytest

from tests.directory.clients import Client, Refused
from tests.servers import eventually


async def test_identify_merges_with_what_the_user_has(client: Client) -> None:
    await client.call(
        "users.update", "ada", name="Ada", custom={"address": {"city": "London", "zip": "W1"}, "plan": "free"}
    )
    await client.call(
        "users.update", "ada", email="ada@example.com", custom={"address": {"zip": "SW1"}, "plan": None}
    )
    user = await client.call("users.get", "ada")
    assert user["__typename"] == "User"
    assert (user["id"], user["name"], user["email"]) == ("ada", "Ada", "ada@example.com")
    assert user["address"] == {"city": "London", "zip": "SW1"}
    assert user["plan"] is None


async def test_ids_of_any_characters(client: Client) -> None:
    for id in ("team/ada", "ada lovelace?", "ä&b#c", "100%", "a%2Fb", "bulk"):
        await client.call("users.update", id, name="Ada")
        assert (await client.call("users.get", id))["id"] == id
        await client.call("objects.set", "pro/jects", id, name="Rocket")
        found = await client.call("objects.get", "pro/jects", id)
        assert (found["collection"], found["id"]) == ("pro/jects", id)
        await client.call("users.delete", id)
        with pytest.raises(Refused) as refused:
            await client.call("users.get", id)
        assert refused.value.status == 404


async def test_what_is_missing(client: Client) -> None:
    for method, path in [
        ("users.get", ["nobody"]),
        ("objects.get", ["projects", "none"]),
        ("tenants.get", ["none"]),
        ("bulk_operations.get", ["123e4567-e89b-12d3-a456-426614174000"]),
        ("audiences.list_members", ["none"]),
    ]:
        with pytest.raises(Refused) as refused:
            await client.call(method, *path)
        body = refused.value.body
        assert (body["code"], body["status"], body["type"]) == (
            "resource_missing",
            404,
            "invalid_request_error",
        )


async def test_deleting_what_is_not_there_succeeds(client: Client) -> None:
    await client.call("users.delete", "nobody")
    await client.call("objects.delete", "projects", "none")
    await client.call("tenants.delete", "none")


async def test_lists_are_paged_through(client: Client) -> None:
    ids = [f"user_{number:02}" for number in range(7)]
    for id in ids:
        await client.call("users.update", id, name=id)
        await client.call("objects.set", "projects", id, name=id)
    assert [each["id"] for each in await client.collect("users.list", page_size=3)] == ids
    assert [each["id"] for each in await client.collect("objects.list", "projects", page_size=2)] == ids
    first = await client.call("users.list", page_size=3)
    assert first["page_info"]["page_size"] == 3
    after = first["page_info"]["after"]
    second = await client.call("users.list", page_size=3, after=after)
    assert [each["id"] for each in second["entries"]] == ids[3:6]
    back = await client.call("users.list", page_size=3, before=second["page_info"]["before"])
    assert [each["id"] for each in back["entries"]] == ids[:3]


async def test_preferences_are_included_when_asked_for(client: Client) -> None:
    await client.call(
        "users.update", "ada", preferences={"default": {"channel_types": {"email": True, "sms": False}}}
    )
    await client.call("users.update", "ada", preferences={"default": {"channel_types": {"sms": True}}})
    (user,) = await client.collect("users.list", include=["preferences"])
    assert user["preferences"]["default"]["channel_types"] == {"email": True, "sms": True}
    replaced = {"__persistence_strategy__": "replace", "channel_types": {"push": True}}
    await client.call("users.update", "ada", preferences={"default": replaced})
    (user,) = await client.collect("users.list", include=["preferences"])
    assert user["preferences"]["default"]["channel_types"] == {"push": True}
    assert "__persistence_strategy__" not in user["preferences"]["default"]
    (plain,) = await client.collect("users.list")
    assert "preferences" not in plain


async def test_objects(client: Client) -> None:
    stored = await client.call("objects.set", "projects", "p1", name="Rocket", custom={"price": 100})
    assert stored["__typename"] == "Object"
    assert (stored["collection"], stored["id"]) == ("projects", "p1")
    assert stored["properties"] == {"name": "Rocket", "price": 100}
    await client.call("objects.set", "projects", "p1", custom={"price": 120})
    assert (await client.call("objects.get", "projects", "p1"))["properties"] == {
        "name": "Rocket",
        "price": 120,
    }
    assert await client.collect("objects.list", "others") == []


async def test_tenants(client: Client) -> None:
    branding = {"primary_color": "#112233"}
    await client.call(
        "tenants.set",
        "t1",
        name="Engines",
        settings={"branding": branding, "preference_set": {"channel_types": {"email": True}}},
        custom={"plan": "pro"},
    )
    await client.call("tenants.set", "t1", settings={"branding": {"logo_url": "https://example.com/l.png"}})
    tenant = await client.call("tenants.get", "t1")
    assert (tenant["__typename"], tenant["id"], tenant["name"]) == ("Tenant", "t1", "Engines")
    assert tenant["plan"] == "pro"
    shown = {name: value for name, value in tenant["settings"]["branding"].items() if value is not None}
    assert shown == {"primary_color": "#112233", "logo_url": "https://example.com/l.png"}
    assert tenant["settings"]["preference_set"]["id"] == "default"
    assert tenant["settings"]["preference_set"]["channel_types"] == {"email": True}
    await client.call("tenants.set", "t2", name="Looms")
    assert [each["id"] for each in await client.collect("tenants.list", page_size=1)] == ["t1", "t2"]
    assert [each["id"] for each in await client.collect("tenants.list", name="Looms")] == ["t2"]
    assert [each["id"] for each in await client.collect("tenants.list", tenant_id="t1")] == ["t1"]
    resolved = await client.call("tenants.get", "t2", resolve_full_preference_settings=True)
    assert resolved["settings"]["preference_set"]["id"] == "default"
    await client.call("tenants.delete", "t1")
    assert [each["id"] for each in await client.collect("tenants.list")] == ["t2"]


async def test_subscriptions(client: Client) -> None:
    await client.call("objects.set", "projects", "p1", name="Rocket")
    added = await client.call(
        "objects.add_subscriptions",
        "projects",
        "p1",
        recipients=["ada", {"id": "bob", "name": "Bob"}, {"id": "t1", "collection": "teams", "name": "T"}],
        properties={"role": "owner"},
    )
    assert {each["recipient"]["id"] for each in added} == {"ada", "bob", "t1"}
    assert all(each["__typename"] == "Subscription" for each in added)
    assert all(each["object"]["id"] == "p1" and each["properties"] == {"role": "owner"} for each in added)
    assert (await client.call("users.get", "bob"))["name"] == "Bob"

    listed = await client.collect("objects.list_subscriptions", "projects", "p1", page_size=2)
    assert {each["recipient"]["id"] for each in listed} == {"ada", "bob", "t1"}
    some = await client.collect(
        "objects.list_subscriptions",
        "projects",
        "p1",
        recipients=["ada", {"id": "t1", "collection": "teams"}],
    )
    assert {each["recipient"]["id"] for each in some} == {"ada", "t1"}
    team = await client.collect("objects.list_subscriptions", "teams", "t1", mode="recipient")
    assert [each["object"]["id"] for each in team] == ["p1"]

    removed = await client.call(
        "objects.delete_subscriptions",
        "projects",
        "p1",
        recipients=["bob", "nobody", {"id": "t1", "collection": "teams"}],
    )
    assert {each["recipient"]["id"] for each in removed} == {"bob", "t1"}
    left = await client.collect("objects.list_subscriptions", "projects", "p1")
    assert [each["recipient"]["id"] for each in left] == ["ada"]


async def test_subscriptions_of_a_user_are_the_newest_first(client: Client) -> None:
    for id in ("p1", "p2", "p3"):
        await client.call("objects.set", "projects", id, name=id)
        await client.call("objects.add_subscriptions", "projects", id, recipients=["ada"])
    found = await client.collect("users.list_subscriptions", "ada", page_size=1)
    assert [each["object"]["id"] for each in found] == ["p3", "p2", "p1"]
    only = await client.collect(
        "users.list_subscriptions",
        "ada",
        objects=[{"id": "p1", "collection": "projects"}, {"id": "p3", "collection": "projects"}],
    )
    assert [each["object"]["id"] for each in only] == ["p3", "p1"]


async def test_subscribing_to_an_object_that_is_not_there(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        await client.call(
            "objects.add_subscriptions", "projects", "none", recipients=[{"id": "ada", "name": "Ada"}]
        )
    assert (refused.value.status, refused.value.body["code"]) == (404, "resource_missing")
    with pytest.raises(Refused):
        await client.call("users.get", "ada")


async def test_audiences(client: Client) -> None:
    members = [
        {"user": {"id": "ada", "name": "Ada"}},
        {"user": {"id": "ada"}, "tenant": "t1"},
        {"user": {"id": "bob"}, "tenant": "t1"},
    ]
    with pytest.raises(Refused) as refused:
        await client.call("audiences.add_members", "trial", members=members)
    assert refused.value.status == 404
    await client.call("audiences.add_members", "trial", members=members, create_audience=True)
    await client.call("audiences.add_members", "trial", members=members)
    listed = await client.call("audiences.list_members", "trial")
    assert [(each["user_id"], each["tenant"]) for each in listed["entries"]] == [
        ("ada", None),
        ("ada", "t1"),
        ("bob", "t1"),
    ]
    assert listed["entries"][0]["user"]["name"] == "Ada"
    await client.call(
        "audiences.remove_members", "trial", members=[{"user": {"id": "ada"}}, {"user": {"id": "bob"}}]
    )
    listed = await client.call("audiences.list_members", "trial")
    assert [(each["user_id"], each["tenant"]) for each in listed["entries"]] == [("ada", "t1"), ("bob", "t1")]
    await client.call("users.delete", "bob")
    listed = await client.call("audiences.list_members", "trial")
    assert [each["user_id"] for each in listed["entries"]] == ["ada"]


async def test_merge(client: Client) -> None:
    await client.call("objects.set", "projects", "p1", name="Rocket")
    await client.call("objects.set", "projects", "p2", name="Loom")
    await client.call(
        "users.update",
        "invited",
        name="Invited",
        email="ada@example.com",
        custom={"address": {"city": "London"}},
    )
    await client.call("users.update", "ada", name="Ada", custom={"address": {"zip": "W1"}})
    for id in ("p1", "p2"):
        await client.call("objects.add_subscriptions", "projects", id, recipients=["invited"])
    await client.call("objects.add_subscriptions", "projects", "p1", recipients=["ada"])
    await client.call(
        "audiences.add_members", "trial", members=[{"user": {"id": "invited"}}], create_audience=True
    )
    await client.call("workflows.trigger", "welcome", recipients=["invited"], actor="invited")

    merged = await client.call("users.merge", "ada", from_user_id="invited")
    assert (merged["id"], merged["name"], merged["email"]) == ("ada", "Ada", "ada@example.com")
    assert merged["address"] == {"city": "London", "zip": "W1"}
    with pytest.raises(Refused):
        await client.call("users.get", "invited")
    subscribed = await client.collect("users.list_subscriptions", "ada")
    assert {each["object"]["id"] for each in subscribed} == {"p1", "p2"}
    members = await client.call("audiences.list_members", "trial")
    assert [each["user_id"] for each in members["entries"]] == ["ada"]


async def test_merging_what_cannot_be(client: Client) -> None:
    await client.call("users.update", "ada", name="Ada")
    for into, merged, status in [("nobody", "ada", 404), ("ada", "nobody", 422), ("ada", "ada", 422)]:
        with pytest.raises(Refused) as refused:
            await client.call("users.merge", into, from_user_id=merged)
        assert refused.value.status == status
    assert (await client.call("users.get", "ada"))["name"] == "Ada"


async def test_trigger_identifies_inline(client: Client) -> None:
    answer = await client.call(
        "workflows.trigger",
        "welcome",
        recipients=["ada", {"id": "bob", "name": "Bob"}, {"id": "p1", "collection": "projects", "name": "P"}],
        actor={"id": "eve", "name": "Eve"},
        tenant={"id": "t1", "name": "Engines"},
        data={"plan": "pro"},
    )
    assert answer["workflow_run_id"]
    assert (await client.call("users.get", "bob"))["name"] == "Bob"
    assert (await client.call("users.get", "eve"))["name"] == "Eve"
    assert (await client.call("tenants.get", "t1"))["name"] == "Engines"
    assert (await client.call("objects.get", "projects", "p1"))["properties"] == {"name": "P"}


async def test_trigger_once_a_key(client: Client) -> None:
    first = await client.call("workflows.trigger", "welcome", recipients=["ada"], idempotency_key="k1")
    again = await client.call("workflows.trigger", "welcome", recipients=["ada"], idempotency_key="k1")
    assert again == first
    with pytest.raises(Refused) as refused:
        await client.call("workflows.trigger", "welcome", recipients=["bob"], idempotency_key="k1")
    assert refused.value.status == 400


async def test_cancel(client: Client) -> None:
    await client.call("workflows.cancel", "welcome", cancellation_key="order-1", recipients=["ada"])


async def completed(client: Client, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation when it is done."""

    async def look() -> dict[str, Any] | None:
        found = await client.call("bulk_operations.get", operation["id"])
        assert isinstance(found, dict)
        return found if found["status"] in ("completed", "failed") else None

    return await eventually(look)  # type: ignore[return-value]


@pytest.mark.usefixtures("worker")
async def test_bulk_operations(client: Client) -> None:
    users = [{"id": f"u{number}", "name": f"User {number}"} for number in range(3)]
    operation = await client.call("users.bulk.identify", users=users)
    assert (operation["__typename"], operation["status"]) == ("BulkOperation", "queued")
    assert (operation["name"], operation["estimated_total_rows"]) == ("users.identify", 3)
    done = await completed(client, operation)
    assert (done["status"], done["processed_rows"], done["success_count"]) == ("completed", 3, 3)
    assert (done["error_count"], done["error_items"]) == (0, [])
    assert done["started_at"] is not None
    assert done["completed_at"] is not None
    assert [each["name"] for each in await client.collect("users.list")] == ["User 0", "User 1", "User 2"]

    objects = [{"id": "p1", "name": "Rocket"}, {"id": "p2"}]
    await completed(client, await client.call("objects.bulk.set", "projects", objects=objects))
    assert [each["id"] for each in await client.collect("objects.list", "projects")] == ["p1", "p2"]

    subscriptions = [
        {"id": "p1", "recipients": ["u0", {"id": "new", "name": "New"}], "properties": {"role": "owner"}},
        {"id": "missing", "recipients": ["u0"]},
    ]
    operation = await client.call("objects.bulk.add_subscriptions", "projects", subscriptions=subscriptions)
    done = await completed(client, operation)
    assert (done["status"], done["success_count"], done["error_count"]) == ("completed", 1, 1)
    assert done["error_items"] == [{"id": "missing", "collection": "projects"}]
    subscribed = await client.collect("objects.list_subscriptions", "projects", "p1")
    assert {each["recipient"]["id"] for each in subscribed} == {"u0", "new"}

    operation = await client.call(
        "objects.bulk.delete_subscriptions", "projects", subscriptions=[{"id": "p1", "recipients": ["u0"]}]
    )
    await completed(client, operation)
    subscribed = await client.collect("objects.list_subscriptions", "projects", "p1")
    assert [each["recipient"]["id"] for each in subscribed] == ["new"]

    await completed(client, await client.call("objects.bulk.delete", "projects", object_ids=["p1", "none"]))
    assert [each["id"] for each in await client.collect("objects.list", "projects")] == ["p2"]

    tenants = ["t1", {"id": "t2", "name": "Looms"}]
    await completed(client, await client.call("tenants.bulk.set", tenants=tenants))
    assert [each["name"] for each in await client.collect("tenants.list")] == [None, "Looms"]
    await completed(client, await client.call("tenants.bulk.delete", tenant_ids=["t1", "t2"]))
    assert await client.collect("tenants.list") == []

    await completed(client, await client.call("users.bulk.delete", user_ids=["u0", "u1"]))
    assert {each["id"] for each in await client.collect("users.list")} == {"u2", "new"}
