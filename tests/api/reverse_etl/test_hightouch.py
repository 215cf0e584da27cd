"""Hightouch's Embedded Destination, message by message as Hightouch sends them."""

from typing import Any

import pytest

from tests.api.reverse_etl.keys import Caller, environment_key, events, source_key
from tests.bench import Bench

PATH = "/v1/integrations/hightouch/embedded-destination"
CONFIGURATION = {
    "object": "audiences",
    "mode": "mirror",
    "identifierMapping": {"from": "uid", "to": "user_id"},
    "mappings": [{"from": "uid", "to": "user_id"}, {"from": "org", "to": "tenant"}],
    "audience_key": "new-signups",
}


class Hightouch:
    """Sends what Hightouch sends."""

    def __init__(self, call: Caller) -> None:
        self._call = call
        self._sent = 0

    async def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._sent += 1
        request = {"jsonrpc": "2.0", "id": str(self._sent), "method": method, "params": params}
        answer = await self._call("POST", PATH, json=request)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert (body["jsonrpc"], body["id"]) == ("2.0", str(self._sent))
        return body

    async def __call__(self, method: str, **params: Any) -> Any:
        return (await self.answer(method, params))["result"]

    async def sync(self, method: str, *rows: Any, **changes: Any) -> list[dict[str, Any]]:
        configuration = {**CONFIGURATION, **changes}
        result = await self(method, idColumn="id", configuration=configuration, rows=list(rows))
        rejected: list[dict[str, Any]] = result["rejectedRows"]
        return rejected


async def with_source_key(bench: Bench) -> tuple[Hightouch, Any]:
    source = await bench.source("hightouch", secret=None)
    return Hightouch(Caller(bench, await source_key(source))), source


async def configure(hightouch: Hightouch) -> None:
    """The calls with which Hightouch draws its form and checks it."""
    (found,) = (await hightouch("list_objects"))["objects"]
    assert found == {"id": "audiences", "label": "Audiences"}
    modes = (await hightouch("list_modes", object="audiences"))["modes"]
    assert [each["label"] for each in modes] == ["Insert only", "Mirror"]
    fields = (await hightouch("list_fields", object="audiences", mode="mirror"))["fields"]
    assert [(each["label"], each["type"], each.get("identifier")) for each in fields] == [
        ("User ID", "STRING", True),
        ("Tenant", "STRING", None),
    ]
    options = (await hightouch("list_options", object="audiences"))["options"]
    assert options["schema"]["required"] == ["audience_key"]
    assert options["schema"]["properties"]["audience_key"]["title"] == "Audience Key"
    assert await hightouch("validate", configuration=CONFIGURATION) == {"errors": []}
    behavior = await hightouch("behavior", configuration=CONFIGURATION)
    assert behavior == {
        "batchSize": 1000,
        "operations": {"add": True, "change": False, "remove": True},
        "skipInitialRun": False,
    }
    insert = await hightouch("behavior", configuration={**CONFIGURATION, "mode": "insert"})
    assert insert["operations"] == {"add": True, "change": False, "remove": False}
    assert await hightouch("change", idColumn="id", configuration=CONFIGURATION, rows=[]) is None


async def test_configuring(bench: Bench) -> None:
    await configure((await with_source_key(bench))[0])
    await configure(Hightouch(Caller(bench, await environment_key(bench))))


async def test_rows_with_a_source_key_become_events(bench: Bench) -> None:
    hightouch, source = await with_source_key(bench)
    rejected = await hightouch.sync(
        "add",
        {"id": 1, "uid": "u1", "org": "acme", "unmapped": {"deep": [1]}},
        {"id": 2, "uid": 2, "org": None},
        {"id": 3, "org": "acme"},
        {"id": 4, "uid": "u4", "org": ""},
        {"id": 5, "uid": "u5", "org": ["odd"]},
        "not a row",
    )
    assert [each["index"] for each in rejected] == [2, 4, 5]
    assert rejected[0]["row"] == {"id": 3, "org": "acme"}
    assert all(each["reason"] for each in rejected)
    (event,) = await events(source)
    assert event["body"] == {
        "type": "audiences:add",
        "audience": "new-signups",
        "members": [
            {"user": {"id": "u1"}, "tenant": "acme"},
            {"user": {"id": "2"}},
            {"user": {"id": "u4"}},
        ],
        "create_audience": True,
    }
    assert await hightouch.sync("remove", {"id": 1, "uid": "u1", "org": "acme"}) == []
    assert (await events(source))[-1]["body"] == {
        "type": "audiences:remove",
        "audience": "new-signups",
        "members": [{"user": {"id": "u1"}, "tenant": "acme"}],
    }


async def test_rows_with_an_environments_key_change_the_directory(bench: Bench) -> None:
    call = Caller(bench, await environment_key(bench))
    hightouch = Hightouch(call)
    rows = [{"id": number, "uid": f"u{number}", "org": "acme"} for number in range(1500)]
    assert await hightouch.sync("add", *rows) == []
    assert await hightouch.sync("remove", *rows[2:]) == []
    found = (await call("GET", "/v1/audiences/new-signups/members")).json()["entries"]
    assert [(each["user_id"], each["tenant"]) for each in found] == [("u0", "acme"), ("u1", "acme")]
    rejected = await hightouch.sync("remove", rows[0], audience_key="nowhere")
    assert [each["index"] for each in rejected] == [0]
    assert "404" in rejected[0]["reason"]


@pytest.mark.usefixtures("worker")
async def test_from_a_row_to_the_member(bench: Bench) -> None:
    hightouch, source = await with_source_key(bench)
    await hightouch.sync("add", {"id": 1, "uid": "u1", "org": "acme"})
    for each in await events(source):
        event = await bench.final(each["id"])
        assert event["status"] == "succeeded", event["error"]
    call = Caller(bench, await environment_key(bench))
    (member,) = (await call("GET", "/v1/audiences/new-signups/members")).json()["entries"]
    assert (member["user_id"], member["tenant"]) == ("u1", "acme")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("list_fields", {"object": "users", "mode": "mirror"}),
        ("list_modes", {"object": None}),
        ("validate", {}),
        ("validate", {"configuration": []}),
        ("behavior", {"configuration": None}),
        ("behavior", {"configuration": {**CONFIGURATION, "mode": "upsert"}}),
        ("add", {"configuration": {**CONFIGURATION, "mode": "upsert"}, "rows": []}),
        ("add", {"configuration": {**CONFIGURATION, "mode": None}, "rows": []}),
        ("add", {"configuration": {**CONFIGURATION, "object": "users"}, "rows": []}),
        ("remove", {"configuration": {**CONFIGURATION, "mode": "all"}, "rows": [{"uid": "u1"}]}),
        ("remove", {"configuration": {**CONFIGURATION, "mode": ["mirror"]}, "rows": [{"uid": "u1"}]}),
        ("remove", {"configuration": {**CONFIGURATION, "mode": "insert"}, "rows": [{"uid": "u1"}]}),
        ("add", {}),
        ("add", {"configuration": CONFIGURATION}),
        ("add", {"configuration": CONFIGURATION, "rows": {}}),
        ("add", {"configuration": CONFIGURATION, "rows": [{}] * 10_001}),
        ("add", {"configuration": {**CONFIGURATION, "audience_key": ""}, "rows": []}),
        ("remove", {"configuration": {**CONFIGURATION, "audience_key": ["a"]}, "rows": []}),
        ("add", {"configuration": {"audience_key": "a", "mappings": 7}, "rows": [{}]}),
        ("add", {"configuration": {"audience_key": "a", "mappings": [1, {"to": []}, {}]}, "rows": [{}]}),
    ],
)
async def test_malformed(bench: Bench, method: str, params: dict[str, Any]) -> None:
    hightouch, source = await with_source_key(bench)
    error = (await hightouch.answer(method, params))["error"]
    assert error["code"] == -32602
    assert error["message"]
    assert await events(source) == []


async def test_validation_names_what_is_missing(bench: Bench) -> None:
    hightouch, _ = await with_source_key(bench)
    found = await hightouch("validate", configuration={"mappings": []})
    assert [each["field"] for each in found["errors"]] == ["audience_key", "user_id"]
    wrong = {**CONFIGURATION, "mode": "upsert", "object": "users"}
    found = await hightouch("validate", configuration=wrong)
    assert [each["field"] for each in found["errors"]] == ["object", "mode"]


async def test_unknown_method(bench: Bench) -> None:
    hightouch, _ = await with_source_key(bench)
    assert (await hightouch.answer("list_everything", {}))["error"]["code"] == -32601
