"""One bad value takes no good one with it: what does not fit is left out of the call, and named."""

from typing import Any

import orjson
import pytest

from app.core import exact_json
from tests.bench import Bench, BenchSource
from tests.knock import KnockServer

pytestmark = pytest.mark.usefixtures("api", "worker")

IDENTIFY = {
    "id": "userId",
    "name": "name",
    "email": "email",
    "phone_number": "phone",
    "avatar": "avatar",
    "created_at": "created_at",
    "properties": "traits",
}

USER = {"value": "u1"}
TRIGGER = ("workflows_trigger", {"key": "w", "recipients": USER})
CANCEL = ("workflows_cancel", {"key": "w", "cancellation_key": {"value": 1}})
REMOVE = ("audiences_remove_member", {"key": "a", "members": USER})


async def source_of(bench: Bench, knock: KnockServer, action: str, parameters: dict[str, Any]) -> BenchSource:
    await bench.use_destination(knock.url)
    return await bench.source(
        "custom_http", secret=None, enforce_verification=False, mappings={"t": [(action, parameters)]}
    )


async def ran(source: BenchSource, body: dict[str, Any]) -> dict[str, Any]:
    """The event's one action, as the Management API shows it."""
    answer = await source.post(exact_json.dumps({"type": "t", **body}), {})
    event = await source.bench.final(answer.json()["id"])
    shown = await source.bench.api.get(f"/v1/sources/{source.key}/logs/{event['id']}")
    [action] = shown.json()["actions"]
    found: dict[str, Any] = action
    return found


async def test_a_user_is_saved_without_the_values_that_do_not_fit(bench: Bench, knock: KnockServer) -> None:
    source = await source_of(bench, knock, "users_identify", IDENTIFY)
    body = {
        "userId": "ada",
        "name": ["Ada"],
        "email": True,
        "phone": 15550100100,
        "avatar": {"url": "https://example.com/a.png"},
        "created_at": 1700000000,
        "traits": {
            "plan": "pro",
            "locale": 5,
            "timezone": {"a": 1},
            "created_at": "yesterday",
            "preferences": {"newsletter": True},
            "channel_data": "x",
            "settings": "x",
        },
    }
    action = await ran(source, body)
    assert action["action_status"] == "success"
    assert knock.calls[0].body == {
        "phone_number": "15550100100",
        "created_at": "2023-11-14T22:13:20Z",
        "plan": "pro",
        "locale": "5",
        "settings": "x",
    }
    moment = "a moment: ISO 8601 text, or seconds or milliseconds since 1970"
    assert [(each["parameter"], each["reason"]) for each in action["left_out"] or ()] == [
        ("name", "name is an array with 1 entries, expected a string"),
        ("email", "email is a boolean (true), expected a string"),
        ("avatar", "avatar is an object with 1 entries, expected a string"),
        ("properties.timezone", "properties.timezone is an object with 1 entries, expected a string"),
        ("properties.created_at", f"properties.created_at is a string ('yesterday'), expected {moment}"),
        ("properties.preferences", "is no custom property: to set it, map the parameter preferences"),
        ("properties.channel_data", "is no custom property: to set it, map the parameter channel_data"),
    ]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (1700000000, "2023-11-14T22:13:20Z"),
        (1700000000.5, "2023-11-14T22:13:20.500000Z"),
        (1700000000000, "2023-11-14T22:13:20Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        ("2023-11-14", "2023-11-14T00:00:00Z"),
        ("2023-11-14T22:13:20", "2023-11-14T22:13:20Z"),
        ("2023-11-14T22:13:20+02:00", "2023-11-14T22:13:20+02:00"),
        ("2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20.123Z"),
        ("soon", None),
        (10**30, None),
        (True, None),
    ],
)
async def test_moments_become_iso_8601(
    bench: Bench, knock: KnockServer, sent: Any, stored: str | None
) -> None:
    source = await source_of(bench, knock, "users_identify", {"id": "id", "created_at": "at"})
    action = await ran(source, {"id": "ada", "at": sent})
    assert knock.calls[0].body.get("created_at") == stored
    assert [each["parameter"] for each in action["left_out"] or ()] == ([] if stored else ["created_at"])


@pytest.mark.parametrize(
    ("sent", "text"), [(5, "5"), (1.5, "1.5"), (2**70, str(2**70)), (7.0, "7"), (1e300, None)]
)
async def test_numbers_become_text(bench: Bench, knock: KnockServer, sent: Any, text: str | None) -> None:
    source = await source_of(bench, knock, "users_identify", {"id": "id", "phone_number": "phone"})
    await ran(source, {"id": "ada", "phone": sent})
    assert knock.calls[0].body.get("phone_number") == text


async def test_null_clears_and_what_is_missing_is_left_alone(bench: Bench) -> None:
    source = await bench.source(
        "custom_http",
        secret=None,
        enforce_verification=False,
        mappings={"t": [("users_identify", IDENTIFY)]},
    )
    first: dict[str, Any] = {
        "userId": "ada",
        "email": "a@example.com",
        "name": "Ada",
        "phone": "+1",
        "traits": {"plan": "pro", "x": 1},
    }
    await ran(source, first)
    action = await ran(source, {"userId": "ada", "email": None, "created_at": None, "traits": {"plan": None}})
    assert action["action_payload"] == {
        "id": "ada",
        "email": None,
        "created_at": None,
        "properties": {"plan": None},
    }
    rows = await bench.rows(
        "SELECT properties FROM directory_recipients WHERE environment = :environment AND id = 'ada'",
        environment=bench.environment,
    )
    properties = rows[0]["properties"]
    assert {name: properties.get(name) for name in ("email", "name", "phone_number", "plan", "x")} == {
        "email": None,
        "name": "Ada",
        "phone_number": "+1",
        "plan": None,
        "x": 1,
    }


async def test_default_mappings_reach_no_structured_field(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("segment", enforce_verification=False)
    traits = {"preferences": {"newsletter": True}, "channel_data": [], "settings": "x", "plan": "pro"}
    for body in (
        {"type": "identify", "userId": "ada", "traits": traits},
        {"type": "group", "groupId": "acme", "userId": "ada", "traits": traits},
    ):
        common = {"messageId": body["type"], "timestamp": "2026-01-01T00:00:00Z"}
        answer = await source.post(orjson.dumps({**common, **body}), {})
        assert (await bench.final(answer.json()["id"]))["status"] == "succeeded"
    user, tenant = knock.calls
    assert user.body == {"plan": "pro", "settings": "x"}
    assert tenant.body == {"plan": "pro"}


async def test_an_identify_without_a_name_leaves_the_name_alone(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("segment", enforce_verification=False)
    for traits in ({"plan": "pro"}, {"plan": "pro", "name": None, "email": None}):
        body = {"type": "identify", "userId": "ada", "messageId": str(len(traits)), "traits": traits}
        answer = await source.post(orjson.dumps(body), {})
        await bench.final(answer.json()["id"])
    assert [call.body for call in knock.calls] == [
        {"plan": "pro"},
        {"plan": "pro", "name": None, "email": None},
    ]


@pytest.mark.parametrize(
    ("who", "sent", "left_out"),
    [
        (["u1", {"email": "x"}, "u3"], ["u1", "u3"], "recipient 2 of who is an object without an id"),
        ([{"id": None}, "u1"], ["u1"], "recipient 1 of who is an object without an id"),
        (["u1", True], ["u1"], "recipient 2 of who is a boolean (true)"),
        (["u1", None, ""], ["u1"], None),
    ],
)
async def test_a_bad_recipient_is_left_out(
    bench: Bench, knock: KnockServer, who: Any, sent: list[Any], left_out: str | None
) -> None:
    source = await source_of(bench, knock, "workflows_trigger", {"key": "w", "recipients": "who"})
    action = await ran(source, {"who": who})
    assert action["action_status"] == "success"
    assert knock.calls[0].body["recipients"] == sent
    assert [each["reason"].partition(", expected")[0] for each in action["left_out"] or ()] == (
        [left_out] if left_out else []
    )


@pytest.mark.parametrize(
    ("action", "parameters", "body", "says"),
    [
        (
            TRIGGER,
            {"recipients": "who"},
            {"who": [{"a": 1}]},
            "recipient 1 of who is an object without an id",
        ),
        (TRIGGER, {"recipients": "who"}, {"who": {"a": 1}}, "who is an object without an id"),
        # Without these the action would do more than is meant.
        (CANCEL, {"recipients": "who"}, {"who": ["u1", {}]}, "recipient 2 of who"),
        (REMOVE, {"tenant": "t"}, {"t": {}}, "tenant: t is an empty object"),
        (TRIGGER, {"settings": "s"}, {"s": "sandbox"}, "settings: s is a string"),
    ],
)
async def test_what_the_action_cannot_do_without_fails_it(
    bench: Bench,
    knock: KnockServer,
    action: tuple[str, dict[str, Any]],
    parameters: dict[str, Any],
    body: dict[str, Any],
    says: str,
) -> None:
    name, usual = action
    source = await source_of(bench, knock, name, {**usual, **parameters})
    found = await ran(source, body)
    assert found["action_status"] == "failed"
    assert says in found["error"]
    assert knock.calls == []


async def test_1001_recipients_go_in_two_calls(bench: Bench, knock: KnockServer) -> None:
    source = await source_of(bench, knock, "workflows_trigger", {"key": "w", "recipients": "who"})
    action = await ran(source, {"who": [f"u{number}" for number in range(1001)]})
    assert action["action_status"] == "success"
    assert [len(call.body["recipients"]) for call in knock.calls] == [1000, 1]
    assert len({call.idempotency_key for call in knock.calls}) == 2
    assert len(action["action_result"]["workflow_run_ids"]) == 2
    assert action["action_result"]["workflow_run_id"] == action["action_result"]["workflow_run_ids"][0]
