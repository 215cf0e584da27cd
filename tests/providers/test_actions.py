"""What is peculiar to a provider, all the way to the calls that reach the destination."""

import pytest

from tests.bench import Bench
from tests.knock import KnockServer

pytestmark = pytest.mark.usefixtures("worker")


async def test_amplitude_cohort_changes_the_audience_in_one_call(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("amplitude", secret="sesame")
    for event_type in ("cohort.entered", "cohort.exited"):
        event = await bench.final(await source.send(event_type))
        assert event["status"] == "succeeded", event["error"]
    added, removed = knock.calls
    members = {"members": [{"user": {"id": "user_42"}}, {"user": {"id": "user_43"}}]}
    assert (added.method, added.path, added.body) == ("POST", "/v1/audiences/amplitude-c1/members", members)
    assert (removed.method, removed.path, removed.body) == ("DELETE", added.path, members)


async def test_supabase_secrets_reach_neither_destination_nor_log(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    trigger = {"key": "welcome", "recipients": "body.record.id", "data": "body"}
    leak = {"id": "body.record.id", "name": "body.record.encrypted_password"}
    mappings = {"auth.users:UPDATE": [("workflows_trigger", trigger), ("users_identify", leak)]}
    source = await bench.source("supabase", secret="sesame", mappings=mappings)
    row = {
        "id": "u1",
        "email": "ada@example.com",
        "encrypted_password": "$2a$10$HASH",
        "recovery_token": "TOKEN",
    }
    event = await bench.final(
        await source.send(
            "auth.users:UPDATE", record=row, old_record={**row, "reauthentication_token": "TOKEN"}
        )
    )
    assert event["status"] == "succeeded", event["error"]

    identify, call = sorted(knock.calls, key=lambda each: each.method, reverse=True)
    assert identify.body == {}
    shown = {"id": "u1", "email": "ada@example.com"}
    assert call.body["data"]["record"] == shown
    assert call.body["data"]["old_record"] == shown
    logged = await bench.api.get(
        f"/v1/sources/{source.key}/logs", params={"environment": bench.environment, "include": "actions"}
    )
    assert "HASH" not in logged.text
    assert "TOKEN" not in logged.text
    data = logged.json()["entries"][0]["data"]
    assert data["record"] == {**shown, "encrypted_password": "[redacted]", "recovery_token": "[redacted]"}
    sample = await bench.api.get(
        f"/v1/sources/{source.key}/events/auth.users:UPDATE/sample", params={"environment": bench.environment}
    )
    assert sample.json()["body"] == data
    assert sample.json()["headers"]["x-webhook-secret"] == "[redacted]"


async def test_clay_row_without_an_address_identifies_nobody(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("clay", secret="sesame")
    event = await bench.final(await source.send("lead.enriched", email=""))
    (action,) = await bench.actions(event["id"])
    assert action["status"] == "skipped"
    assert action["error"] == "id is required and body.email is a string ('') in this event"
    assert knock.calls == []


async def test_shopify_order_of_a_guest_is_skipped_with_the_reason(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("shopify", secret="shpss_1", event_type_path="body.topic")
    event = await bench.final(await source.send("orders/create", topic="orders/create", customer=None))
    assert event["status"] == "succeeded", event["error"]
    actions = await bench.actions(event["id"])
    assert {action["status"] for action in actions} == {"skipped"}
    assert all("body.customer.id has no value" in action["error"] for action in actions)
    assert knock.calls == []
