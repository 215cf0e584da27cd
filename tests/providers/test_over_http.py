"""Every provider against the real application over HTTP: accepted, refused, and never a 5xx."""

from collections.abc import Iterator

import httpx
import orjson
import pytest

from app.models.types import now
from app.providers.registry import providers
from app.providers.verification import Headers
from tests.bench import Bench, BenchSource
from tests.providers.case import case_of

SIGNED = sorted(key for key, each in providers().items() if each.scheme is not None)

Raw = list[tuple[bytes, bytes]]


def raw(headers: Headers) -> Raw:
    """Headers as bytes, so that secrets and garbage beyond ASCII travel as a sender would send them."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def sign(source: BenchSource, body: bytes, secret: str | None = None) -> Headers:
    scheme = providers()[source.provider].scheme
    assert scheme is not None
    return scheme.sign(body, secret or case_of(source.provider).secrets[0], now(), "msg_1")


async def post(source: BenchSource, body: bytes, headers: Raw) -> httpx.Response:
    return await source.bench.api.post(source.path, content=body, headers=headers)


def forgeries(headers: Headers) -> Iterator[tuple[str, Raw]]:
    """Headers that are no signature."""
    yield "none", []
    for name in headers:
        others = raw({other: value for other, value in headers.items() if other != name})
        for wrong in (
            b"",
            b"garbage",
            b"t=,v1=",
            b"v1,",
            b"sch\xc3\xbcssel",
            b"\xff\xfe",
            b"t=nan,v1=0",
            b"9" * 500,
            b"x" * 8_000,
            b"v1," * 2_000,
            b"t=1," * 2_000,
        ):
            yield f"{name}: {wrong[:12]!r}", [*others, (name.encode(), wrong)]


@pytest.mark.parametrize("key", SIGNED)
async def test_accepted_or_refused(key: str, bench: Bench) -> None:
    right, other = case_of(key).secrets
    source = await bench.source(key, secret=right, enforce_verification=True)
    provider = providers()[key]

    for event_type, (example, *_) in provider.examples.items():
        body = orjson.dumps(example.body)
        answer = await post(source, body, raw({**example.headers, **sign(source, body)}))
        assert answer.status_code == provider.success_status, (event_type, answer.text)
        assert answer.content == b"" if provider.success_status == 204 else answer.json()["success"] is True

    body = orjson.dumps(next(iter(provider.examples.values()))[0].body)
    refused = [("another secret", raw(sign(source, body, other))), *forgeries(sign(source, body))]
    for name, headers in refused:
        answer = await post(source, body, headers)
        assert answer.status_code == 401, (name, answer.status_code, answer.text)
        assert answer.json()["code"] == "verification_failed"
        assert answer.json()["message"].startswith("the event could not be verified: ")
    for size in (70_000, 300_000):
        headers = [(name.encode(), b"x" * size) for name in sign(source, body)]
        assert (await post(source, body, headers)).status_code in (400, 401, 431)
    for unreadable in (b"", b"not json", b'"text"', b"\xff\xfe"):
        answer = await post(source, unreadable, raw(sign(source, unreadable)))
        assert answer.status_code == 400
        assert answer.json()["code"] == "invalid_json"

    rows = await bench.rows(
        "SELECT event_type, status, verification_status, error FROM events WHERE source_key = :key",
        key=source.key,
    )
    accepted = [row["event_type"] for row in rows if row["status"] == "received"]
    assert sorted(accepted) == sorted(provider.examples)
    rejected = [row for row in rows if row["status"] == "rejected"]
    assert len(rejected) >= len(refused)
    assert all(row["error"] for row in rejected)


@pytest.mark.parametrize(
    ("key", "body", "reason"),
    [
        ("stripe", {"id": "evt_1"}, "event type: body.type has no value in this event"),
        ("stripe", {"type": 7}, "event type: body.type is not a string of 1 to 255 characters"),
        (
            "supabase",
            {"type": "INSERT"},
            "the body is not of the shape that Supabase sends (KeyError('schema'))",
        ),
        (
            "http",
            {"type": "identify", "userId": "u"},
            "type is 'identify', and this source takes `track` only",
        ),
        ("github", {"zen": "no header"}, "event type: headers.x-github-event has no value in this event"),
    ],
)
async def test_unidentified_is_accepted_and_logged_with_the_reason(
    bench: Bench, key: str, body: dict[str, object], reason: str
) -> None:
    secret = case_of(key).secrets[0]
    source = await bench.source(key, secret=secret)
    content = orjson.dumps(body)
    answer = await post(source, content, raw(sign(source, content)))
    assert answer.status_code == providers()[key].success_status
    logged = await bench.api.get(f"/v1/sources/{source.key}/logs", params={"environment": bench.environment})
    (entry,) = logged.json()["entries"]
    assert entry["event"] == ""
    assert reason in entry["error"]
    assert entry["data"] == body
