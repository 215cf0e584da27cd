"""Deliveries as services really send them: forms, blanks around header values, schemes in any case, and the
questions that they ask first."""

import asyncio
import hashlib
import hmac
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest

from app.models.types import now
from app.providers.registry import providers
from tests.bench import Bench, BenchSource

FORM = "application/x-www-form-urlencoded"
SECRET = "it's a secret"
ISSUE = {"action": "opened", "issue": {"number": 7, "title": "100 % & more + ü"}}


async def logged(source: BenchSource) -> list[dict[str, Any]]:
    return await source.bench.rows(
        "SELECT e.*, p.body, p.headers, p.preprocess_output FROM events e JOIN event_payloads p USING (id) "
        "WHERE source_key = :key ORDER BY e.id",
        key=source.key,
    )


async def raw(source: BenchSource, *lines: bytes, body: bytes = b"{}") -> int:
    """The status of the answer to a request with these header lines, sent byte for byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", source.bench.api.base_url.port)
    head = [f"POST {source.path} HTTP/1.1".encode(), b"Host: x", b"Content-Length: %d" % len(body), *lines]
    writer.write(b"\r\n".join([*head, b"", b""]) + body)
    await writer.drain()
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(status.split()[1])


def github(body: bytes, **headers: str) -> dict[str, str]:
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "content-type": FORM,
        "x-github-event": "issues",
        "x-github-delivery": "d-1",
        "x-hub-signature-256": signature,
        **headers,
    }


@pytest.mark.parametrize("kind", [FORM, FORM.upper(), f"{FORM}; charset=utf-8"])
async def test_github_as_a_form(bench: Bench, kind: str) -> None:
    source = await bench.source("github", secret=SECRET)
    body = urlencode({"payload": orjson.dumps(ISSUE).decode()}).encode()
    answer = await source.post(body, github(body, **{"content-type": kind}))
    assert answer.status_code == 200, answer.text
    forged = body.replace(b"opened", b"closed")
    assert (await source.post(forged, github(body))).status_code == 401
    event, rejected = await logged(source)
    assert (event["event_type"], event["verification_status"]) == ("issues", "enforced:verified")
    assert orjson.loads(event["body"]) == ISSUE
    assert event["preprocess_output"] == {"event_action": "issues.opened"}
    assert rejected["status"] == "rejected"


@pytest.mark.usefixtures("worker")
async def test_a_form_runs_its_actions_and_is_verified_once(bench: Bench) -> None:
    mappings = {"issues": [("users_identify", {"id": "body.issue.title"})]}
    source = await bench.source("github", secret=SECRET, mappings=mappings)
    body = urlencode({"payload": orjson.dumps(ISSUE).decode()}).encode()
    event = await bench.final((await source.post(body, github(body))).json()["id"])
    assert (event["status"], event["verification_status"]) == ("succeeded", "enforced:verified")
    replayed = await bench.api.post(f"/v1/sources/{source.key}/logs/{event['id']}/replay")
    again = await bench.final(replayed.json()["replay"]["log_id"])
    assert again["status"] == "succeeded", again["error"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"type=a&user=1&user=2&empty=", {"type": "a", "user": ["1", "2"], "empty": ""}),
        (b"type=a&name=Z%C3%B6e+X", {"type": "a", "name": "Zöe X"}),
        (b'{"type":"a"}', {"type": "a"}),
        (b"payload=text&type=a", {"payload": "text", "type": "a"}),
        (b"payload=%5B1%5D", {"payload": "[1]"}),
        (b"payload=" + quote('{"type":"a"}').encode(), {"type": "a"}),
    ],
)
async def test_a_form_becomes_an_object(bench: Bench, body: bytes, expected: dict[str, Any]) -> None:
    source = await bench.source("custom_http", secret=None, enforce_verification=False)
    assert (await source.post(body, {"content-type": FORM})).status_code == 200
    (event,) = await logged(source)
    assert orjson.loads(event["body"]) == expected


@pytest.mark.parametrize("body", [b"not json", b"%ff=%fe&%", b"", b"&".join([b"a=1"] * 1001)])
async def test_what_is_neither_json_nor_a_form(bench: Bench, body: bytes) -> None:
    source = await bench.source("custom_http", secret=None, enforce_verification=False)
    answer = await source.post(body, {"content-type": FORM})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


async def test_a_script_verifies_the_bytes_of_a_form_and_reads_its_fields(bench: Bench) -> None:
    script = (
        "function main({ rawBody, body, headers, secrets, content }) { return {"
        " verified: headers['x-sig'] === hmac('sha256', secrets[0], rawBody),"
        " user: body.user, content: typeof content } }"
    )
    source = await bench.source("custom_http", secret=SECRET, preprocess_script=script)
    body = b"type=a&user=u+1"
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert (await source.post(body, {"content-type": FORM, "x-sig": signature})).status_code == 200
    assert (await source.post(body + b"x", {"content-type": FORM, "x-sig": signature})).status_code == 401
    event = (await logged(source))[0]
    assert event["preprocess_output"] == {"user": "u 1", "content": "undefined"}


@pytest.mark.parametrize(
    ("provider", "value"),
    [
        ("clay", "bearer sesame"),
        ("clay", "BEARER  sesame"),
        ("polytomic", "bEaReR sesame"),
        ("jitsu", "bearer sesame"),
        ("hightouch", "bearer sesame"),
    ],
)
async def test_a_scheme_compares_without_case(bench: Bench, provider: str, value: str) -> None:
    source = await bench.source(provider, secret="sesame", enforce_verification=True)
    assert (await source.post(b"{}", {"authorization": value})).status_code == 200
    for wrong in ("bearer Sesame", "basic sesame", "bearersesame", "sesame", "bearer", "bearer sesame x"):
        assert (await source.post(b"{}", {"authorization": wrong})).status_code == 401, wrong


async def test_blanks_around_a_header_value_are_no_part_of_it(bench: Bench) -> None:
    for key, each in sorted(providers().items()):
        if each.scheme is None:
            continue
        source = await bench.source(key, enforce_verification=True)
        signed = each.scheme.sign(b"{}", source.secret or "", now(), "msg_1")
        for before, after in ((b" ", b" "), (b"\t", b"\t"), (b"", b" \t ")):
            lines = [
                b"%s:%s%s%s" % (name.encode(), before, value.encode(), after)
                for name, value in signed.items()
            ]
            assert await raw(source, *lines) in (200, 204), (key, before, after)
    assert await raw(source, b"Content-Encoding: identity\t") in (200, 204, 401)
    open_source = await bench.source("custom_http", secret=None, enforce_verification=False)
    assert await raw(open_source, b"X-Note: \t padded \t ", b"Content-Encoding: identity \t") == 200
    (event,) = await logged(open_source)
    assert event["headers"]["x-note"] == "padded"


async def test_slack_asks_first(bench: Bench) -> None:
    source = await bench.source("custom_http", secret="sesame")
    asked = orjson.dumps({"token": "t", "challenge": "3eZbrw1aB", "type": "url_verification"})
    answer = await source.post(asked)
    assert (answer.status_code, answer.text) == (200, "3eZbrw1aB")
    assert answer.headers["content-type"].startswith("text/plain")
    assert (await source.post(asked, {})).status_code == 401
    accepted, _ = await logged(source)
    assert accepted["event_type"] == "url_verification"
    odd = await source.post(b'{"type":"url_verification","challenge":["x"]}')
    assert odd.json()["success"] is True


async def test_meta_asks_first(bench: Bench) -> None:
    source = await bench.source("custom_http", secret="sesame")
    query = {"hub.mode": "subscribe", "hub.verify_token": "sesame", "hub.challenge": "1158201444"}
    answer = await bench.api.get(source.path, params=query)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    for change in (
        {"hub.verify_token": "tahini"},
        {"hub.verify_token": ""},
        {"hub.mode": "unsubscribe"},
        {"hub.challenge": ""},
        {"hub.challenge": "x" * 2000},
    ):
        refused = await bench.api.get(source.path, params={**query, **change})
        assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed"), change
    without = await bench.source("custom_http", secret=None)
    assert (await bench.api.get(without.path, params={**query, "hub.verify_token": ""})).status_code == 405


async def test_trello_asks_first(bench: Bench) -> None:
    source = await bench.source("custom_http")
    answer = await bench.api.head(source.path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await bench.api.head("/integrations/receive/nope")).status_code == 404
    stripe = await bench.source("stripe")
    assert (await bench.api.head(stripe.path)).status_code == 405
    assert (await bench.api.get(stripe.path)).status_code == 405


async def test_a_script_answers(bench: Bench) -> None:
    script = "function main({ body }) { return { verified: body.ok, response: body.response } }"
    source = await bench.source("custom_http", secret=None, preprocess_script=script)

    async def answered(response: Any, *, ok: bool = True) -> Any:
        return await source.post(orjson.dumps({"type": "a", "ok": ok, "response": response}), {})

    zoom = await answered({"status": 201, "headers": {"Content-Type": "application/json"}, "body": '{"a":1}'})
    assert (zoom.status_code, zoom.json()) == (201, {"a": 1})
    assert (await answered({"body": "plain"})).text == "plain"
    assert (await answered({"status": 204, "body": "x"})).status_code == 204
    assert (await answered({"body": "x"}, ok=False)).status_code == 401
    odd: list[Any] = [
        "text",
        {"status": 500, "body": "x"},
        {"status": "200"},
        {"body": 7},
        {"body": "x" * 70_000},
        {"headers": []},
    ]
    for each in odd:
        assert (await answered(each)).json()["success"] is True, each
    kept = await answered({"headers": {"content-type": "a\r\nset-cookie: b", "set-cookie": "c"}, "body": "x"})
    assert kept.headers["content-type"].startswith("text/plain")
    assert "set-cookie" not in kept.headers
