"""What each action sends: the official client against a real HTTP server that stands for Knock."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.actions.parameters import evaluate_parameters
from app.actions.paths import DecodedEvent
from app.actions.registry import action_types
from app.core.errors import Permanent
from app.outbound.knock import Knock, attempt, connect
from tests.knock import KnockServer, success
from tests.servers import serve

BODY = {
    "id": 7,
    "name": "Ada",
    "email": "ada@example.com",
    "phone": "not E.164",
    "extra": {"id": "other", "collection": "other", "name": "shadowed", "plan": "pro"},
    "channel_data": {"ch_1": {"tokens": ["t"]}},
    "preferences": {"default": {"workflows": {"w": False}}},
    "settings": {"branding": {"primary_color": "#336699"}},
    "users": ["u1", {"id": 2, "name": "Two"}],
    "objects": [{"id": 9, "collection": "teams", "name": "T"}],
    "at": "2026-01-01T00:00:00Z",
}
FIELDS = {name: name for name in ("name", "email", "channel_data", "preferences")} | {
    "phone_number": "phone",
    "avatar": {"value": "https://example.com/a.png"},
    "timezone": {"value": "Europe/London"},
    "locale": {"value": "en-GB"},
    "created_at": "at",
    "properties": "extra",
}
SENT_FIELDS = {
    "name": "Ada",
    "email": "ada@example.com",
    "phone_number": "not E.164",
    "avatar": "https://example.com/a.png",
    "timezone": "Europe/London",
    "locale": "en-GB",
    "created_at": "2026-01-01T00:00:00Z",
    "channel_data": {"ch_1": {"tokens": ["t"]}},
    "preferences": {"default": {"workflows": {"w": False}}},
    "plan": "pro",
}
INLINE = ["u1", {"id": "2", "name": "Two"}]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in SENT_FIELDS.items() if name not in names}


# action, parameters, method, path, query, body, result
CASES: list[tuple[str, dict[str, Any], str, str, str, Any, Any]] = [
    ("users_identify", {"id": "id", **FIELDS}, "PUT", "/v1/users/7", "", {**SENT_FIELDS, "collection": "other"},
     {"__typename": "User", "id": "7", "updated_at": "2026-01-01T00:00:00Z"}),
    ("users_identify", {"id": "id"}, "PUT", "/v1/users/7", "", {}, ...),
    ("users_merge", {"user_id": "id", "previous_id": "name"}, "POST", "/v1/users/7/merge", "", {"from_user_id": "Ada"}, ...),
    ("users_delete", {"user_id": "id"}, "DELETE", "/v1/users/7", "", None, None),
    ("objects_set", {"collection": "teams", "object_id": "id", **{k: v for k, v in FIELDS.items() if k not in ("email", "phone_number", "avatar", "created_at")}},
     "PUT", "/v1/objects/teams/7", "", without("email", "phone_number", "avatar", "created_at"), ...),
    ("objects_delete", {"collection": "teams", "id": "id"}, "DELETE", "/v1/objects/teams/7", "", None, None),
    ("tenants_set", {"id": "id", "name": "name", "settings": "settings", "channel_data": "channel_data", "properties": "extra"},
     "PUT", "/v1/tenants/7", "", {"name": "Ada", "settings": BODY["settings"], "channel_data": BODY["channel_data"], "plan": "pro", "collection": "other"}, ...),
    ("tenants_delete", {"tenant_id": "id"}, "DELETE", "/v1/tenants/7", "", None, None),
    ("objects_subscribe", {"collection": "teams", "id": "id", "recipients": ["users.0", "users.1", "objects.0"], "properties": {"role": {"value": "lead"}}},
     "POST", "/v1/objects/teams/7/subscriptions", "",
     {"recipients": [*INLINE, {"id": "9", "collection": "teams", "name": "T"}], "properties": {"role": "lead"}}, {"subscriptions": 3}),
    ("objects_subscribe", {"collection": "teams", "id": "id", "recipients": "users.0"},
     "POST", "/v1/objects/teams/7/subscriptions", "", {"recipients": ["u1"]}, {"subscriptions": 1}),
    ("objects_unsubscribe", {"collection": "teams", "id": "id", "recipients": ["users", "objects"]},
     "DELETE", "/v1/objects/teams/7/subscriptions", "", {"recipients": ["u1", "2", {"id": "9", "collection": "teams"}]}, {"subscriptions": 3}),
    ("audiences_add_member", {"key": "vip", "members": "users", "tenant": "id"},
     "POST", "/v1/audiences/vip/members", "create_audience=true",
     {"members": [{"tenant": "7", "user": {"id": "u1"}}, {"tenant": "7", "user": {"id": "2", "name": "Two"}}]}, {"members": 2}),
    ("audiences_add_member", {"key": "vip", "members": [{"user": "users.0", "tenant": {"value": "own"}}], "tenant": "id", "create_audience": False},
     "POST", "/v1/audiences/vip/members", "create_audience=false", {"members": [{"tenant": "own", "user": {"id": "u1"}}]}, {"members": 1}),
    ("audiences_remove_member", {"key": "vip", "members": "users", "tenant": "id"},
     "DELETE", "/v1/audiences/vip/members", "", {"members": [{"tenant": "7", "user": {"id": "u1"}}, {"tenant": "7", "user": {"id": "2"}}]}, {"members": 2}),
    ("workflows_cancel", {"workflow_key": "late", "cancellation_key": "id"}, "POST", "/v1/workflows/late/cancel", "", {"cancellation_key": "7"}, None),
    ("workflows_cancel", {"key": "late", "cancellation_key": "id", "recipients": ["users", "objects"]}, "POST", "/v1/workflows/late/cancel", "",
     {"cancellation_key": "7", "recipients": ["u1", "2", {"id": "9", "collection": "teams"}]}, None),
    ("workflows_trigger", {"workflow": "hello", "recipients": ["users", "objects"], "data": {"n": "id"}, "actor": "objects.0", "tenant": {"id": "id", "name": "name"},
                           "cancellation_key": "id", "settings": {"sandbox_mode": True}},
     "POST", "/v1/workflows/hello/trigger", "",
     {"recipients": [*INLINE, {"id": "9", "collection": "teams", "name": "T"}], "data": {"n": 7}, "actor": {"id": "9", "collection": "teams", "name": "T"},
      "tenant": {"id": "7", "name": "Ada"}, "cancellation_key": "7", "settings": {"sandbox_mode": True}},
     {"workflow_run_id": "123e4567-e89b-12d3-a456-426614174000"}),
    ("workflows_trigger", {"key": "hello", "recipients": "users.0"}, "POST", "/v1/workflows/hello/trigger", "", {"recipients": ["u1"]}, ...),
]  # fmt: skip


@pytest.fixture
async def client(knock: KnockServer) -> AsyncIterator[Knock]:
    async with connect(knock.url, "sk_test_1") as client:
        yield client


async def run(client: Knock, name: str, parameters: dict[str, Any], body: Any = BODY) -> list[Any]:
    """The results of the action's calls."""
    action = action_types()[name]
    payload = evaluate_parameters(action, parameters, DecodedEvent(body))
    return [await attempt(action.call(client, each, key)) for each, key in action.calls(payload, "key-1")]


def test_every_action_is_called() -> None:
    assert {case[0] for case in CASES} == set(action_types())


@pytest.mark.parametrize(("name", "parameters", "method", "path", "query", "body", "result"), CASES)
async def test_call(
    client: Knock,
    knock: KnockServer,
    name: str,
    parameters: dict[str, Any],
    method: str,
    path: str,
    query: str,
    body: Any,
    result: Any,
) -> None:
    (found,) = await run(client, name, parameters)
    (call,) = knock.calls
    assert (call.method, call.path, call.query) == (method, path, query)
    assert call.body == body
    assert call.headers["authorization"] == "Bearer sk_test_1"
    assert call.idempotency_key == "key-1"
    assert "x-stainless-retry-count" not in call.headers or call.headers["x-stainless-retry-count"] == "0"
    if body is not None:
        assert call.headers["content-type"] == "application/json"
    if result is not ...:
        assert found == result


@pytest.mark.parametrize(
    ("identifier", "path"),
    [
        ("a/b", "/v1/users/a%2Fb"),
        ("a b?c#d%e", "/v1/users/a%20b%3Fc%23d%25e"),
        ("größe@example.com", "/v1/users/gr%C3%B6%C3%9Fe@example.com"),
        ("../admin", "/v1/users/..%2Fadmin"),
        ("%2e%2e", "/v1/users/%252e%252e"),
    ],
)
async def test_ids_stay_one_segment_of_the_path(
    client: Knock, knock: KnockServer, identifier: str, path: str
) -> None:
    await run(client, "users_delete", {"id": "id"}, {"id": identifier})
    assert knock.calls[0].path == path


HOSTILE = (
    "a/b",
    "a?b=c",
    "a#b",
    "a%2Fb",
    "a;b",
    "a\r\nx-evil: 1",
    "a\x00b",
    "../../v2",
    "💥",
    "http://evil.example/",
)
IN_PATHS = [
    (name, parameter)
    for name, action in action_types().items()
    for parameter in ("id", "collection", "key")
    if parameter in action.example.parameters
]


class AnyPath:
    """A stand-in for Knock that takes every path, also those that no router matches, and answers as to the first."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, str, dict[str, str]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["raw_path"].decode()
        self.heads.append((path, request.url.query, dict(request.headers)))
        await success(request.method, self.heads[0][0], await request.body())(scope, receive, send)


@pytest.mark.parametrize(("name", "parameter"), IN_PATHS)
async def test_nothing_in_an_event_changes_where_a_call_goes(name: str, parameter: str) -> None:
    """One segment of the path more or less would be another call, and a line's end another header."""
    example, far = action_types()[name].example, AnyPath()
    async with serve(far, lifespan="off") as url, connect(url, "sk_test_1") as client:
        await run(client, name, example.parameters, example.body)
        ((usual, query, headers),) = far.heads
        for hostile in HOSTILE:
            given = {**example.parameters, parameter: {"value": hostile}}
            await run(client, name, given, example.body)
            path, *rest = far.heads.pop()
            segments = path.split("/")
            assert segments[1:3] == usual.split("/")[1:3]
            assert len(segments) == len(usual.split("/")), path
            assert hostile in map(unquote, segments)
            assert [rest[0], rest[1].keys()] == [query, headers.keys()]
            assert rest[1]["host"] == headers["host"]
        assert len(far.heads) == 1


@pytest.mark.parametrize("identifier", [".", ".."])
async def test_ids_that_no_url_can_hold_are_refused(
    client: Knock, knock: KnockServer, identifier: str
) -> None:
    with pytest.raises(Permanent, match="the request cannot be sent"):
        await run(client, "users_delete", {"id": "id"}, {"id": identifier})
    assert knock.calls == []


@pytest.mark.parametrize(
    ("name", "listed", "size"),
    [
        ("objects_subscribe", "recipients", 100),
        ("objects_unsubscribe", "recipients", 100),
        ("audiences_add_member", "members", 1000),
        ("audiences_remove_member", "members", 1000),
    ],
)
async def test_long_lists_go_in_several_calls(
    client: Knock, knock: KnockServer, name: str, listed: str, size: int
) -> None:
    parameters = {**action_types()[name].example.parameters, listed: "many"}
    body = {**action_types()[name].example.body, "many": [f"u{n}" for n in range(2 * size + 1)]}
    results = await run(client, name, parameters, body)
    assert [len(call.body[listed]) for call in knock.calls] == [size, size, 1]
    sent = [re.sub(r".*'(u\d+)'.*", r"\1", repr(each)) for call in knock.calls for each in call.body[listed]]
    assert sent == body["many"]
    assert [call.idempotency_key for call in knock.calls] == ["key-1", f"key-1-{size}", f"key-1-{2 * size}"]
    assert sum(sum(each.values()) for each in results) == 2 * size + 1
    rest = [{**call.body, listed: None} for call in knock.calls]
    assert all(each == rest[0] for each in rest)


@pytest.mark.parametrize(
    "answer", [PlainTextResponse("<html>"), JSONResponse({"not": "a list"}), JSONResponse(None)]
)
@pytest.mark.parametrize("name", ["objects_subscribe", "objects_unsubscribe"])
async def test_answers_of_something_else_than_knock(
    client: Knock, knock: KnockServer, name: str, answer: Any
) -> None:
    knock.answers.append(answer)
    with pytest.raises(Permanent, match=r"not Knock's|cannot be read"):
        await run(client, name, action_types()[name].example.parameters, action_types()[name].example.body)
