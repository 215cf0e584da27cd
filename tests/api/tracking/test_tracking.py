"""The tracking API, request by request: paths, write keys, what libraries leave out, limits, browsers."""

import base64
import gzip
import uuid
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import text

from app.api.tracking import PATHS
from app.models.types import now
from tests.api.tracking.test_sdks import events, source_for
from tests.bench import Bench, BenchSource
from tests.clock import Clock
from tests.servers import eventually

TRACK = {"type": "track", "event": "Order Completed", "userId": "u1", "messageId": "m1"}


def basic(key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


async def send(
    source: BenchSource, path: str, body: Any, headers: dict[str, str] | None = None
) -> httpx.Response:
    """Send as its write key's owner, unless other headers are given; the client's own token is left out."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    request = source.bench.api.build_request(
        "POST", path, content=content, headers=basic(source.token) if headers is None else headers
    )
    if headers is not None and "authorization" not in headers:
        del request.headers["authorization"]
    return await source.bench.api.send(request)


@pytest.mark.parametrize("path", PATHS)
async def test_every_path(bench: Bench, path: str) -> None:
    source = await source_for(bench, "segment")
    name = path.rsplit("/", 1)[1]
    if name in ("batch", "b", "import"):
        body: dict[str, Any] = {"batch": [TRACK]}
    else:
        body = {"userId": "u1", "event": "Order Completed", "groupId": "g1"}
    answer = await send(source, path, body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"success": True}
    (event,) = await events(source)
    kinds = {"i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias"}
    expected = kinds.get(name, name)
    assert event["event_type"] == (
        "track/Order Completed" if expected in ("track", "t", "batch", "b", "import") else expected
    )


@pytest.mark.parametrize("place", ["basic", "body", "x-write-key", "bearer", "jitsu"])
async def test_write_key_in_each_of_its_places(bench: Bench, place: str) -> None:
    source = await source_for(bench, "segment")
    key = source.token
    headers: dict[str, str] = {
        "basic": basic(key),
        "body": {},
        "x-write-key": {"x-write-key": key},
        "bearer": {"authorization": "Bearer an-oauth-token"},
        "jitsu": {"x-write-key": f"site:{key}"},
    }[place]
    inside = {"body": key, "bearer": key, "jitsu": "site:***"}.get(place)
    body = {**TRACK, **({"writeKey": inside} if inside else {})}
    assert (await send(source, "/v1/track", body, headers)).status_code == 200
    (event,) = await events(source)
    assert "writeKey" not in event["body"]
    assert not event["headers"].keys() & {"authorization", "x-write-key"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, TRACK),
        (basic("nope"), TRACK),
        ({"authorization": "Basic ???"}, TRACK),
        ({"authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()}, TRACK),
        ({"authorization": "Basic"}, TRACK),
        ({"authorization": "Bearer nope"}, TRACK),
        ({"x-write-key": ":::"}, TRACK),
        ({}, {**TRACK, "writeKey": None}),
        ({}, {**TRACK, "writeKey": ["a"]}),
        ({}, {**TRACK, "writeKey": ""}),
        ({}, [1]),
        ({}, b"not json"),
        ({}, b""),
    ],
)
async def test_without_a_write_key_that_opens_something(
    bench: Bench, headers: dict[str, str], body: Any
) -> None:
    source = await source_for(bench, "segment")
    answer = await send(source, "/v1/track", body, headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "invalid_write_key"
    assert answer.json()["message"]


async def test_token_of_another_kind_of_source_is_no_write_key(bench: Bench) -> None:
    source = await bench.source("stripe", enforce_verification=False)
    assert (await send(source, "/v1/track", TRACK)).status_code == 401


async def test_source_that_enforces_signatures_takes_no_unsigned_events(bench: Bench) -> None:
    """Its write key is in its URL; without this, whoever knows it could go around the signature."""
    source = await bench.source("segment", enforce_verification=True)
    answer = await send(source, "/v1/track", TRACK)
    assert answer.status_code == 401
    assert answer.json()["code"] == "verification_enforced"
    (refused,) = await bench.rows("SELECT * FROM events WHERE source_key = :key", key=source.key)
    assert refused["status"] == "rejected"
    assert "signing secret" in refused["error"]
    open_source = await bench.source("segment", enforce_verification=False)
    assert (await send(open_source, "/v1/track", TRACK)).status_code == 200


async def test_rejected_batch_is_split_when_it_is_replayed(bench: Bench) -> None:
    """As reception would split it, once the source takes what has no signature; before that it is refused
    again."""
    source = await bench.source("segment", enforce_verification=True)
    batch = {"batch": [TRACK, {"type": "identify", "userId": "u2"}], "context": {"ip": "::1"}}
    assert (await send(source, "/v1/batch", batch)).status_code == 401
    [rejected] = await bench.rows("SELECT id FROM events WHERE status = 'rejected'")
    path = f"/v1/sources/{source.key}/logs/{rejected['id']}/replay"
    assert (await bench.api.post(path)).status_code == 422
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE source_environments SET enforce_verification = false"))
    await bench.runtime.configuration.refresh()

    async def replay() -> str | None:
        answer = await bench.api.post(path)
        return answer.json()["replay"]["log_id"] if answer.status_code == 201 else None

    first = await eventually(replay)
    events = await bench.rows(
        "SELECT e.id, event_type, origin, batch_id, verification_status, p.body FROM events e "
        "JOIN event_payloads p USING (id) WHERE replay_of = :id ORDER BY e.id",
        id=rejected["id"],
    )
    assert str(events[0]["id"]) == first
    assert len({each["batch_id"] for each in events}) == 1
    assert [orjson.loads(each["body"])["type"] for each in events] == ["track", "identify"]
    assert all(orjson.loads(each["body"])["context"]["ip"] == "::1" for each in events)
    assert None not in [each["event_type"] for each in events]
    assert {each["verification_status"] for each in events} == {"not_enforced:unverified"}


async def test_batch_says_things_for_all_its_events(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    batch = {
        "batch": [
            {**TRACK, "context": {"ip": "192.0.2.1"}, "integrations": {"A": False}},
            {"type": "identify", "userId": "u1", "sentAt": "2026-01-02T00:00:00Z", "context": None},
            {"type": "track", "event": "X", "context": "odd"},
        ],
        "context": {"ip": "192.0.2.9", "library": {"name": "mine"}},
        "integrations": {"All": True},
        "sentAt": "2026-01-01T00:00:00Z",
        "timestamp": "2026-01-01T00:00:01Z",
        "writeKey": source.token,
    }
    assert (await send(source, "/v1/batch", batch, {})).status_code == 200
    first, second, third = [each["body"] for each in await events(source)]
    assert first["context"] == {"ip": "192.0.2.1", "library": {"name": "mine"}}
    assert first["integrations"] == {"All": True, "A": False}
    assert first["sentAt"] == "2026-01-01T00:00:00Z"
    assert first["timestamp"] == "2026-01-01T00:00:01Z"
    assert second["context"] == batch["context"]
    assert second["sentAt"] == "2026-01-02T00:00:00Z"
    assert third["context"] == "odd"
    assert "writeKey" not in first


async def test_what_a_library_leaves_out(bench: Bench) -> None:
    source, began = await source_for(bench, "segment"), now()
    await send(source, "/v1/track", {"event": "A", "originalTimestamp": "2026-01-01T00:00:00Z"})
    await send(source, "/v1/track", {"event": "A", "messageId": "", "timestamp": None})
    await send(source, "/v1/track", {"type": "page"})
    original, empty, typed = await events(source)
    assert original["body"]["type"] == "track"
    assert original["occurred_at"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert uuid.UUID(original["body"]["messageId"]).version == 4
    assert original["idempotency_key"] == original["body"]["messageId"]
    assert empty["body"]["messageId"]
    assert began <= empty["occurred_at"] <= now()
    assert typed["event_type"] == "page"


async def test_track_without_an_event_is_accepted_and_says_what_is_missing(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    assert (await send(source, "/v1/track", {"userId": "u1"})).status_code == 200
    (event,) = await events(source)
    assert event["event_type"] is None
    assert "preprocess.event_type" in event["error"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "nonsense;;"]
)
async def test_content_type_does_not_matter(bench: Bench, content_type: str) -> None:
    source = await source_for(bench, "segment")
    answer = await send(source, "/v1/t", TRACK, {**basic(source.token), "content-type": content_type})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"not json", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"null", "invalid_json"),
        (b'{"batch": {}}', "invalid_batch"),
        (b'{"batch": null}', "invalid_batch"),
        (b'{"batch": [1]}', "invalid_batch"),
        (b'{"batch": [null, []]}', "invalid_batch"),
        (b"{}", "invalid_batch"),
        (b'{"batch": [' + b",".join([b"{}"] * 4001) + b"]}", "batch_too_large"),
        (b'{"batch": [{"a": ' + b"[" * 500 + b"]" * 500 + b"}]}", "json_too_deep"),
        (b"[" * 100_000, "invalid_json"),
    ],
)
async def test_malformed(bench: Bench, body: bytes, code: str) -> None:
    source = await source_for(bench, "segment")
    answer = await send(source, "/v1/batch", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == code
    (refused,) = await bench.rows("SELECT * FROM events WHERE source_key = :key", key=source.key)
    assert (refused["status"], refused["error"]) == ("rejected", answer.json()["message"])


async def test_empty_batch(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    assert (await send(source, "/v1/batch", {"batch": []})).json() == {"success": True}
    assert await events(source) == []


def padded(size: int) -> dict[str, Any]:
    """An event of that many bytes."""
    event = {**TRACK, "properties": {"x": ""}}
    return {**event, "properties": {"x": "x" * (size - len(orjson.dumps(event)))}}


@pytest.mark.parametrize(
    ("provider", "path", "body", "code"),
    [
        ("segment", "/v1/track", padded(32 * 1024), None),
        ("segment", "/v1/track", padded(32 * 1024 + 1), "event_too_large"),
        ("segment", "/v1/batch", {"batch": [padded(32_000)] * 15}, None),
        ("segment", "/v1/batch", {"batch": [padded(32_000)] * 17}, "body_too_large"),
        ("rudderstack", "/v1/batch", {"batch": [padded(1_000_000)] * 4}, None),
        ("rudderstack", "/v1/batch", {"batch": [padded(1_000_000)] * 5}, "body_too_large"),
    ],
)
async def test_limits(bench: Bench, provider: str, path: str, body: Any, code: str | None) -> None:
    source = await source_for(bench, provider)
    answer = await send(source, path, body)
    if code is None:
        assert answer.status_code == 200, answer.text
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_gzip_and_its_bombs(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    headers = {**basic(source.token), "content-encoding": "gzip"}
    assert (await send(source, "/v1/track", gzip.compress(orjson.dumps(TRACK)), headers)).status_code == 200
    bomb = gzip.compress(b" " * 256 * 1024 * 1024, compresslevel=1)
    answer = await send(source, "/v1/track", bomb, headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "body_too_large")
    for broken in (b"not gzip", gzip.compress(orjson.dumps(TRACK))[:-9]):
        answer = await send(source, "/v1/track", broken, headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_encoding")


async def test_browsers(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    asked = {
        "origin": "https://app.example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,anonymousid",
    }
    answer = await bench.api.options("/v1/t", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert answer.headers["access-control-allow-headers"] == asked["access-control-request-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    for key in (source.token, "nope"):
        answer = await send(source, "/v1/t", TRACK, {**basic(key), "origin": "https://app.example.com"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-origin" not in (await send(source, "/v1/t", TRACK)).headers


async def test_a_page_sees_when_to_come_back(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    answer = await send(source, "/v1/t", TRACK, {**basic(source.token), "origin": "https://app.example.com"})
    assert answer.headers["access-control-expose-headers"] == "Retry-After"


async def test_a_public_page_may_ask_a_private_network(bench: Bench) -> None:
    """Browsers ask first (Private Network Access). The write key lets in, wherever the page is from."""
    asked = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
    answer = await bench.api.options("/v1/t", headers=asked)
    assert "access-control-allow-private-network" not in answer.headers
    private = {**asked, "access-control-request-private-network": "true"}
    answer = await bench.api.options("/v1/t", headers=private)
    assert answer.headers["access-control-allow-private-network"] == "true"


async def test_a_beacon_has_its_key_in_the_query(bench: Bench) -> None:
    """`navigator.sendBeacon` sets no headers: RudderStack's browser library writes the key into the URL."""
    source = await source_for(bench, "rudderstack")
    headers = {"content-type": "text/plain;charset=UTF-8", "origin": "https://app.example.com"}
    batch = {"batch": [TRACK, {"type": "page", "userId": "u1"}], "sentAt": "2026-01-01T00:00:00Z"}
    answer = await send(source, f"/beacon/v1/batch?writeKey={source.token}", batch, headers)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert [each["event_type"] for each in await events(source)] == ["track/Order Completed", "page"]
    assert (await send(source, f"/v1/track?writeKey={source.token}", TRACK, headers)).status_code == 200
    for key in ("nope", ""):
        refused = await send(source, f"/beacon/v1/batch?writeKey={key}", batch, headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_write_key")


async def test_rate_limit(edge_clock: Clock, bench: Bench) -> None:
    source = await bench.source("segment", secret=None, rate_limit_per_second=1)
    edge_clock.now += 1
    answers = [
        await send(source, "/v1/track", TRACK, {**basic(source.token), "origin": "https://a.example"})
        for _ in range(3)
    ]
    assert [each.status_code for each in answers] == [200, 429, 429]
    limited = answers[1]
    assert limited.json()["code"] == "rate_limited"
    assert int(limited.headers["retry-after"]) >= 1
    assert limited.headers["access-control-allow-origin"] == "https://a.example"
    assert len(await events(source)) == 1


async def test_other_methods_and_paths(bench: Bench) -> None:
    assert (await bench.api.get("/v1/track")).status_code == 405
    assert (await bench.api.post("/v1/nonsense", json={})).status_code == 404
    assert (await bench.api.post("/api/s/nonsense", json={})).status_code == 404
