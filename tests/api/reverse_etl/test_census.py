"""Census's Custom Destination API, message by message as Census sends them."""

from typing import Any

import pytest

from tests.api.reverse_etl.keys import Caller, environment_key, events, source_key
from tests.bench import Bench
from tests.knock import KnockServer
from tests.knock import error as knock_error

PATH = "/v1/integrations/census/custom-destination"
OBJECT = {"object_api_name": "audiences", "label": "Audiences"}
ID = "d33ded2672b7877ff833c317892d748c"


class Census:
    """Sends what Census sends, with its headers."""

    def __init__(self, call: Caller) -> None:
        self._call = call

    async def answer(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self._call(
            "POST",
            PATH,
            json={"jsonrpc": "2.0", "method": method, "id": ID, "params": params or {}},
            headers={"user-agent": "Census https://www.getcensus.com", "accept": "*/*"},
        )
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert (body["jsonrpc"], body["id"]) == ("2.0", ID)
        assert ("result" in body) != ("error" in body)
        return body

    async def __call__(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = (await self.answer(method, params))["result"]
        return result

    async def sync(self, operation: str, records: list[Any]) -> list[dict[str, Any]]:
        field = {"label": "User ID", "identifier": True, "type": "string", "array": False}
        plan = {
            "object": OBJECT,
            "operation": operation,
            "sync_run_id": 3,
            "sync_id": 7,
            "schema": {
                "user_id": {"active_identifier": True, "field": {"field_api_name": "user_id", **field}}
            },
        }
        found: list[dict[str, Any]] = (await self("sync_batch", {"sync_plan": plan, "records": records}))[
            "record_results"
        ]
        return found


async def with_source_key(bench: Bench) -> tuple[Census, Any]:
    source = await bench.source("census", secret=None)
    return Census(Caller(bench, await source_key(source))), source


async def with_environment_key(bench: Bench) -> Census:
    return Census(Caller(bench, await environment_key(bench)))


async def plan(census: Census) -> None:
    """The calls with which Census gets to know a destination."""
    assert await census("test_connection") == {"success": True}
    (found,) = (await census("list_objects"))["objects"]
    assert found == OBJECT
    fields = (await census("list_fields", {"object": found}))["fields"]
    assert [(each["field_api_name"], each["identifier"], each["required"]) for each in fields] == [
        ("user_id", True, True),
        ("audience_key", False, True),
    ]
    for each in fields:
        assert each["type"] == "string"
        assert each.keys() >= {"label", "createable", "updateable", "array"}
    assert await census("supported_operations", {"object": found}) == {"operations": ["insert", "mirror"]}
    speed = await census("get_sync_speed")
    assert speed == {
        "maximum_batch_size": 500,
        "maximum_parallel_batches": 4,
        "maximum_records_per_second": 1000,
    }


async def test_planning(bench: Bench) -> None:
    await plan((await with_source_key(bench))[0])
    await plan(await with_environment_key(bench))


async def test_sync_with_a_source_key_becomes_events(bench: Bench) -> None:
    census, source = await with_source_key(bench)
    records = [
        {"user_id": "u1", "audience_key": "vip"},
        {"user_id": 2, "audience_key": "trial"},
        {"user_id": "u3", "audience_key": "vip"},
        {"audience_key": "vip"},
        {"user_id": "u5"},
        {"user_id": "", "audience_key": "vip"},
        {"user_id": {"a": 1}, "audience_key": "vip"},
        {"user_id": "u8", "audience_key": "nul\x00"},
        7,
    ]
    results = await census.sync("upsert", records)
    assert [each["success"] for each in results] == [True] * 3 + [False] * 6
    assert [each["identifier"] for each in results] == ["u1", 2, "u3", None, "u5", "", None, "u8", None]
    assert all(each["error_message"] for each in results[3:])
    vip, trial = await events(source)
    assert vip["body"] == {
        "type": "audiences:add",
        "audience": "vip",
        "members": [{"user": {"id": "u1"}}, {"user": {"id": "u3"}}],
        "create_audience": False,
    }
    assert trial["body"]["members"] == [{"user": {"id": "2"}}]
    assert vip["batch_id"] == trial["batch_id"] is not None

    (result,) = await census.sync("delete", [{"user_id": "u1", "audience_key": "vip"}])
    assert result == {"identifier": "u1", "success": True}
    assert (await events(source))[-1]["body"] == {
        "type": "audiences:remove",
        "audience": "vip",
        "members": [{"user": {"id": "u1"}}],
    }


async def test_sync_with_an_environments_key_changes_the_directory(bench: Bench) -> None:
    key = await environment_key(bench)
    call = Caller(bench, key)
    census = Census(call)
    (result,) = await census.sync("insert", [{"user_id": "u1", "audience_key": "vip"}])
    assert result["success"] is False
    assert "404" in result["error_message"]

    members = {"members": [{"user": {"id": "u0"}}]}
    await call("POST", "/v1/audiences/vip/members", json=members, params={"create_audience": "true"})
    results = await census.sync(
        "upsert", [{"user_id": name, "audience_key": key} for name in ("u1", "u2") for key in ("vip", "gone")]
    )
    assert [each["success"] for each in results] == [True, False, True, False]
    await census.sync("delete", [{"user_id": "u0", "audience_key": "vip"}])
    found = (await call("GET", "/v1/audiences/vip/members")).json()["entries"]
    assert {each["user_id"] for each in found} == {"u1", "u2"}


async def test_knock_as_destination(bench: Bench, knock: KnockServer) -> None:
    """With an environment's key, what Knock says of a group is what each of its records is told."""
    await bench.use_destination(knock.url)
    census = await with_environment_key(bench)
    knock.answers.append(knock_error(422, "invalid_params", "too many members"))
    results = await census.sync("upsert", [{"user_id": "u1", "audience_key": "a"}] * 2)
    assert [each["error_message"] for each in results] == ["422 invalid_params: too many members"] * 2
    knock.answers.append(knock_error(401, "api_key_invalid", "no"))
    assert await census("test_connection") == {
        "success": False,
        "error_message": "401 api_key_invalid: no",
    }
    added, _ = knock.calls
    assert (added.method, added.path) == ("POST", "/v1/audiences/a/members")


@pytest.mark.usefixtures("worker")
async def test_from_a_sync_to_the_members(bench: Bench) -> None:
    census, source = await with_source_key(bench)
    call = Caller(bench, await environment_key(bench))
    members = {"members": [{"user": {"id": "u0"}}]}
    await call("POST", "/v1/audiences/vip/members", json=members, params={"create_audience": "true"})
    await census.sync("upsert", [{"user_id": "u1", "audience_key": "vip"}])
    await census.sync("delete", [{"user_id": "u0", "audience_key": "vip"}])
    for each in await events(source):
        event = await bench.final(each["id"])
        assert event["status"] == "succeeded", event["error"]
    found = (await call("GET", "/v1/audiences/vip/members")).json()["entries"]
    assert [each["user_id"] for each in found] == ["u1"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"nonsense", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b"null", -32600),
        (b"[" + b",".join([b"1"] * 51) + b"]", -32600),
        (b'{"jsonrpc":"2.0","method":"list_objects","id":true}', -32600),
        (b'{"jsonrpc":"2.0","method":"list_objects","id":{}}', -32600),
        (b'{"jsonrpc":"1.0","method":"list_objects","id":"1"}', -32600),
        (b'{"method":"list_objects","id":"1"}', -32600),
        (b'{"jsonrpc":"2.0","method":7,"id":"1"}', -32600),
        (b'{"jsonrpc":"2.0","method":"__init__","id":"1"}', -32601),
        (b'{"jsonrpc":"2.0","method":"","id":"1"}', -32601),
        (b'{"jsonrpc":"2.0","method":"sync_data","id":"1"}', -32601),
        (b'{"jsonrpc":"2.0","method":"list_objects","id":"1","params":[]}', -32602),
        (b'{"jsonrpc":"2.0","method":"list_fields","id":"1"}', -32602),
        (b'{"jsonrpc":"2.0","method":"list_fields","id":"1","params":{"object":"audiences"}}', -32602),
        (
            b'{"jsonrpc":"2.0","method":"list_fields","id":"1","params":{"object":{"object_api_name":[]}}}',
            -32602,
        ),
        (b'{"jsonrpc":"2.0","method":"sync_batch","id":"1","params":{}}', -32602),
        (b'{"jsonrpc":"2.0","method":"sync_batch","id":"1","params":{"sync_plan":[]}}', -32602),
    ],
)
async def test_malformed(bench: Bench, body: bytes, code: int) -> None:
    source = await bench.source("census", secret=None)
    for key in (await source_key(source), await environment_key(bench)):
        answer = await Caller(bench, key)("POST", PATH, content=body)
        assert answer.status_code == 200
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["message"]
        assert answer.json()["jsonrpc"] == "2.0"
    assert await events(source) == []


async def test_json_rpc_as_specified(bench: Bench) -> None:
    """https://www.jsonrpc.org/specification, its sections 4.1 and 6."""
    source = await bench.source("census", secret=None)
    for key in (await source_key(source), await environment_key(bench)):
        call = Caller(bench, key)

        async def answered(body: Any, call: Caller = call) -> Any:
            answer = await call("POST", PATH, json=body)
            assert answer.status_code == (200 if answer.content else 204)
            return answer.json() if answer.content else None

        speed = {"jsonrpc": "2.0", "method": "get_sync_speed"}
        assert await answered(speed) is None
        assert await answered({**speed, "method": "nope"}) is None
        assert await answered([speed, {**speed, "params": []}]) is None
        nameless = await answered({**speed, "id": None})
        assert (nameless["id"], "result" in nameless) == (None, True)
        found = await answered(
            [{**speed, "id": 1}, speed, 1, {"id": 2}, {**speed, "id": "x", "method": "no"}]
        )
        assert [(each["id"], each.get("error", {}).get("code")) for each in found] == [
            (1, None),
            (None, -32600),
            (2, -32600),
            ("x", -32601),
        ]
    assert await events(source) == []


async def test_a_notification_is_executed(bench: Bench) -> None:
    census, source = await with_source_key(bench)
    plan = {"object": OBJECT, "operation": "upsert"}
    params = {"sync_plan": plan, "records": [{"user_id": "u1", "audience_key": "vip"}]}
    request = {"jsonrpc": "2.0", "method": "sync_batch", "params": params}
    call = Caller(bench, await source_key(source))
    answer = await call("POST", PATH, json=[request])
    assert (answer.status_code, answer.content) == (204, b"")
    assert [each["event_type"] for each in await events(source)] == ["audiences:add"]
    assert await census.sync("upsert", []) == []


@pytest.mark.parametrize(
    "params",
    [
        {"sync_plan": {"object": OBJECT, "operation": "truncate"}, "records": []},
        {"sync_plan": {"object": OBJECT, "operation": ["upsert"]}, "records": []},
        {"sync_plan": {"object": OBJECT}, "records": []},
        {"sync_plan": {"object": {"object_api_name": "users"}, "operation": "upsert"}, "records": []},
        {"sync_plan": {"object": OBJECT, "operation": "upsert"}},
        {"sync_plan": {"object": OBJECT, "operation": "upsert"}, "records": {}},
        {"sync_plan": {"object": OBJECT, "operation": "upsert"}, "records": [{}] * 1001},
    ],
)
async def test_malformed_batch(bench: Bench, params: dict[str, Any]) -> None:
    census, source = await with_source_key(bench)
    assert (await census.answer("sync_batch", params))["error"]["code"] == -32602
    assert await events(source) == []


async def test_ids_and_empty_batches(bench: Bench) -> None:
    census, source = await with_source_key(bench)
    assert await census.sync("upsert", []) == []
    call = Caller(bench, await source_key(source))
    for identifier in ("a", 7, 0, ""):
        request = {"jsonrpc": "2.0", "method": "list_objects", "id": identifier}
        assert (await call("POST", PATH, json=request)).json()["id"] == identifier
    assert await events(source) == []


@pytest.mark.parametrize("key", ["", "sk_nope", "sk_src_nope", "dbl_st_test-admin-token"])
async def test_without_a_key(bench: Bench, key: str) -> None:
    request = {"jsonrpc": "2.0", "method": "list_objects", "id": "1"}
    answer = await bench.api.post(
        PATH, json=request, headers={"authorization": f"Bearer {key}"} if key else {"authorization": ""}
    )
    assert answer.status_code == 401
    assert answer.json()["type"] == "authentication_error"
