"""Conditions on mappings: an event that does not meet them does not run the action, and the log says which
value decided."""

from typing import Any

import orjson
import pytest

from tests.bench import Bench, BenchSource
from tests.knock import KnockServer
from tests.servers import eventually

PRO = {"all": [{"variable": "body.plan", "operator": "equal_to", "argument": "pro"}]}
IDENTIFY = {"id": "userId", "properties": "traits"}


def mappings_path(source: BenchSource, *parts: str) -> str:
    path = "/".join(("mappings", *parts))
    return f"/v1/sources/{source.key}/{path}?environment={source.bench.environment}"


async def mapped(source: BenchSource, event_type: str, action_type: str, **fields: Any) -> dict[str, Any]:
    answer = await source.bench.api.post(
        mappings_path(source),
        json={"mapping": {"event_type": event_type, "action_type": action_type, **fields}},
    )
    assert answer.status_code == 201, answer.text
    mapping: dict[str, Any] = answer.json()["mapping"]
    return mapping


async def sent(source: BenchSource, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    answer = await source.post(orjson.dumps({"type": "a", "userId": "ada", **body}), headers or {})
    assert answer.status_code == 200, answer.text
    event = await source.bench.final(answer.json()["id"])
    return {**event, "actions": await source.bench.actions(event["id"])}


@pytest.fixture
async def source(bench: Bench, knock: KnockServer, worker: None) -> BenchSource:
    await bench.use_destination(knock.url)
    return await bench.source(
        "custom_http", mappings={}, secret=None, enforce_verification=False, idempotency_key_path="body.id"
    )


async def test_an_unmet_condition_skips_and_names_the_value(source: BenchSource, knock: KnockServer) -> None:
    await mapped(source, "a", "users_identify", action_parameters=IDENTIFY, conditions=PRO)
    skipped = await sent(source, plan="free", traits={"plan": "free"})
    (action,) = skipped["actions"]
    assert (skipped["status"], action["status"]) == ("succeeded", "skipped")
    assert action["error"] == 'conditions not met: body.plan is "free", and must be equal to "pro"'
    ran = await sent(source, plan="pro", traits={"plan": "pro"})
    assert [each["status"] for each in ran["actions"]] == ["succeeded"]
    assert [each.body for each in knock.done] == [{"plan": "pro"}]


async def test_an_unmet_condition_is_a_decision_that_a_repeat_repeats(source: BenchSource) -> None:
    await mapped(source, "a", "users_identify", action_parameters=IDENTIFY, conditions=PRO)
    assert (await sent(source, id="evt_1", plan="free"))["status"] == "succeeded"
    assert (await sent(source, id="evt_1", plan="free"))["status"] == "idempotent"


async def test_roots_and_variables(source: BenchSource) -> None:
    await source.bench.api.put("/v1/variables/tier", json={"variable": {"type": "public", "value": "pro"}})
    await source.bench.api.put("/v1/variables/hidden", json={"variable": {"type": "secret", "value": "pro"}})
    conditions = {
        "any": [
            {"all": [
                {"variable": "headers.X-Kind", "operator": "contains", "argument": "vip"},
                {"variable": "vars.tier", "operator": "equal_to", "argument": "body.plan"},
                {"variable": 'body."a.b"', "operator": "greater_than", "argument": "3"},
            ]},
            {"variable": "vars.hidden", "operator": "exists"},
        ]
    }  # fmt: skip
    await mapped(source, "a", "users_identify", action_parameters=IDENTIFY, conditions=conditions)
    met = await sent(source, {"x-kind": "a vip"}, plan="pro", **{"a.b": 4})
    assert [each["status"] for each in met["actions"]] == ["succeeded"]
    (unmet,) = (await sent(source, {"x-kind": "a vip"}, plan="free", **{"a.b": 1}))["actions"]
    assert unmet["error"] == (
        'conditions not met: vars.tier is "pro", and must be equal to body.plan ("free"); '
        'body."a.b" is 1, and must be greater than 3; vars.hidden has no value, and must exist'
    )


async def test_what_is_too_large_to_compare_fails_the_action_and_names_the_condition(
    source: BenchSource,
) -> None:
    conditions = {"all": [{"variable": "body.a", "operator": "contains_all", "argument": "body.b"}]}
    await mapped(source, "a", "users_identify", action_parameters=IDENTIFY, conditions=conditions)
    numbers = list(range(2000))
    event = await sent(source, a=numbers, b=numbers)
    (action,) = event["actions"]
    assert (event["status"], action["status"]) == ("failed", "failed")
    assert action["error"] == (
        "condition body.a contains_all body.b: 2000 values are too many to look for among 2000"
    )


async def test_segments_boolean_audiences(bench: Bench, knock: KnockServer, worker: None) -> None:
    """Engage sends an `identify` whose trait says whether the user is in the audience."""
    await bench.use_destination(knock.url)
    source = await bench.source("segment", mappings={}, secret=None, enforce_verification=False)
    member = {"key": "high-value", "members": "userId"}
    for action, argument in (("audiences_add_member", "true"), ("audiences_remove_member", "false")):
        condition = {"variable": "body.traits.high_value", "operator": "equal_to", "argument": argument}
        await mapped(source, "identify", action, action_parameters=member, conditions={"all": [condition]})
    for is_in in (True, False):
        body = {
            "type": "identify",
            "userId": "ada",
            "traits": {"high_value": is_in},
            "context": {"personas": {"computation_key": "high_value", "computation_class": "audience"}},
            "messageId": f"m-{is_in}",
            "timestamp": "2026-01-01T00:00:00Z",
        }
        answer = await source.post(orjson.dumps(body), {})
        assert answer.status_code == 200, answer.text

        async def over(number: int = 1 if is_in else 2) -> bool:
            return len(knock.done) == number

        await eventually(over)
    assert [(each.method, each.path) for each in knock.done] == [
        ("POST", "/v1/audiences/high-value/members"),
        ("DELETE", "/v1/audiences/high-value/members"),
    ]


@pytest.mark.parametrize(
    ("conditions", "field", "message"),
    [
        ({}, "", "must have either all or any"),
        ({"all": [{"variable": "plan", "operator": "exists"}]}, ".all.0.variable", "write body.plan"),
        (
            {"any": [{"all": [{"variable": "body.a", "operator": "is"}]}]},
            ".any.0.all.0.operator",
            "'equal_to'",
        ),
        ({"all": [{"variable": "body.a", "operator": "equal_to"}]}, ".all.0.argument", "is required with"),
        (
            {"any": [{"variable": "body.a", "operator": "equal_to", "argument": True}]},
            ".any.0.argument",
            'write it as JSON in quotes, "true"',
        ),
        (
            {"all": [{"variable": "body.a[0]", "operator": "exists"}]},
            ".all.0.variable",
            "write body.a.0",
        ),
        (
            {"all": [{"variable": "body.a", "operator": "equal_to", "argument": "body.b c"}]},
            ".all.0.argument",
            "body.b c",
        ),
        (
            {"all": [{"variable": "body.a", "operator": "exists", "argument": "x"}]},
            ".all.0.argument",
            "must be left out with exists",
        ),
        ({"any": ["x"]}, ".any.0", "is not an object"),
        ({"all": [{"variable": "body.a", "operator": "exists"}] * 101}, "", "has more than 100 conditions"),
        (
            {"any": [{"all": [{"variable": "body.a", "operator": "exists"}] * 60}] * 2},
            "",
            "has more than 100 conditions",
        ),
    ],
)
async def test_what_cannot_be_evaluated_is_refused_at_its_place(
    source: BenchSource, conditions: dict[str, Any], field: str, message: str
) -> None:
    answer = await source.bench.api.post(
        mappings_path(source),
        json={"mapping": {
            "event_type": "a",
            "action_type": "users_identify",
            "action_parameters": IDENTIFY,
            "conditions": conditions,
        }},
    )  # fmt: skip
    assert answer.status_code == 422, answer.text
    found = {each["field"]: each["message"] for each in answer.json()["errors"]}
    assert list(found) == [f"mapping.conditions{field}"]
    assert message in found[f"mapping.conditions{field}"]


async def test_kept_until_named_tested_and_audited(source: BenchSource) -> None:
    mapping = await mapped(source, "a", "users_identify", action_parameters=IDENTIFY, conditions=PRO)
    assert mapping["conditions"] == PRO
    # The same action without conditions, and with others, is another mapping; twice the same is none.
    other = {"all": [{"variable": "body.plan", "operator": "equal_to", "argument": "max"}]}
    await mapped(source, "a", "users_identify", action_parameters=IDENTIFY, conditions=other)
    path = mappings_path(source, mapping["id"])
    plain = {"event_type": "a", "action_type": "users_identify", "action_parameters": IDENTIFY}
    again = await source.bench.api.post(mappings_path(source), json={"mapping": {**plain, "conditions": PRO}})
    assert again.status_code == 422
    kept = await source.bench.api.put(path, json={"mapping": {**plain, "active": False}})
    assert kept.json()["mapping"]["conditions"] == PRO
    await source.bench.api.put(path, json={"mapping": {**plain, "active": True}})
    tried = await source.bench.api.post(
        mappings_path(source, "test"),
        json={"event_type": "a", "payload": {"body": {"type": "a", "plan": "max"}}},
    )
    found = {each["mapping_id"]: each for each in tried.json()["mappings"]}[mapping["id"]]
    assert (found["status"], found["met"], found["conditions"]) == ("skipped", False, PRO)
    assert found["error"] == 'conditions not met: body.plan is "max", and must be equal to "pro"'
    cleared = await source.bench.api.put(path, json={"mapping": {**plain, "conditions": None}})
    assert cleared.json()["mapping"]["conditions"] is None
    entries = (await source.bench.api.get("/v1/audit_log", params={"resource_key": source.key})).json()
    latest = next(each for each in entries["entries"] if each["action"] == "mapping.updated")
    assert (latest["before"]["conditions"], latest["after"]["conditions"]) == (PRO, None)
