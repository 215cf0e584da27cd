"""Deliveries of many events: Segment's batches and Polytomic's records, one event each, all or none."""

import asyncio
import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import text
from temporalio.client import Client

from app.models.types import now
from app.providers.registry import providers
from app.providers.verification import Delivery, FirstEventHmac, Secret, verify
from app.worker.main import run_workers
from tests.bench import Bench, BenchSource
from tests.node import INTERPRETER

SCHEME = FirstEventHmac(header="x-signature")
# Node's crypto, called as Segment's destination calls it.
SIGN = """
const { createHmac } = require("node:crypto");
const [secret, body] = process.argv.slice(1);
const parsed = JSON.parse(body);
const signed = JSON.stringify(Array.isArray(parsed) ? parsed[0] : parsed);
process.stdout.write(createHmac("sha1", secret).update(signed, "utf8").digest("hex"));
"""


async def node_signature(secret: str, body: bytes) -> str:
    process = await asyncio.create_subprocess_exec(
        INTERPRETER, "-e", SIGN, secret, body.decode(), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return printed.decode()


def verdict(body: bytes, signature: str | None, secret: str = "abc123", **options: Any) -> bool | None:
    headers = {} if signature is None else {"x-signature": signature}
    scheme = FirstEventHmac(header="x-signature", **options)
    return verify(scheme, Delivery(body, headers, now()), [Secret(UUID(int=1), secret)]).verified


VECTOR = (
    b'{"messageId":"ajs-vector-1","type":"track","event":"Order Completed","userId":"user_42",'
    b'"properties":{"total":42.5},"timestamp":"2026-01-01T00:00:00.000Z"}'
)
BATCH_VECTOR = (
    b'[{"messageId":"m1","type":"track","event":"A"},{"messageId":"m2","type":"track","event":"B"}]'
)


def test_vectors() -> None:
    assert verdict(VECTOR, "54396763c314233ef18c0b5ee5cdace59683ff43") is True
    assert verdict(BATCH_VECTOR, "629e6c6b601b5a1d213dae8a7e40b191ba567a2b") is True
    assert verdict(BATCH_VECTOR, "20811edc5d3dfe07c453c2b533bccad324c9038d") is True
    assert verdict(BATCH_VECTOR, "629e6c6b601b5a1d213dae8a7e40b191ba567a2b", whole=True) is False
    assert verdict(BATCH_VECTOR, "20811edc5d3dfe07c453c2b533bccad324c9038d", whole=True) is True


@pytest.mark.parametrize(
    "body",
    [
        '{"type":"identify","userId":"ü","traits":{"name":"Ada \\u2028 \\"quoted\\"","x":1e21,"y":0.1}}',
        '[{"type":"track","event":"A","properties":{"a":"[1,2]}","b":[[],{}]}},{"type":"track","event":"B"}]',
        '[{"name":"日本語 \\\\ \\u0000"}]',
        "[[1,2],3]",
        '["text"]',
    ],
)
async def test_nodes_crypto_agrees(body: str) -> None:
    canonical = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
    # As JavaScript writes it: numbers and escapes differ from Python's, so Node's own text is what is sent.
    process = await asyncio.create_subprocess_exec(
        INTERPRETER,
        "-e",
        "process.stdout.write(JSON.stringify(JSON.parse(process.argv[1])))",
        body,
        stdout=asyncio.subprocess.PIPE,
    )
    sent, _ = await asyncio.wait_for(process.communicate(), 60)
    assert json.loads(sent) == json.loads(canonical)
    signature = await node_signature("sécret", sent)
    assert verdict(sent, signature, "sécret") is True
    assert SCHEME.sign(sent, "sécret", now(), "") == {"x-signature": signature}
    assert verdict(sent, signature, "other") is False
    assert verdict(sent[:-1] + b" " + sent[-1:], signature, "sécret") is (sent[:1] == b"[")


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (b"[]", "00"),
        (b"[", "00"),
        (b"[{", "00"),
        (b"[" * 100_000, "00"),
        (b"[\xff]", "00"),
        (b"", "00"),
        (VECTOR, None),
        (VECTOR, ""),
        (VECTOR, "54396763C314233EF18C0B5EE5CDACE59683FF43"),
        (VECTOR, "é" * 9000),
    ],
)
def test_malformed_is_a_clean_refusal(body: bytes, signature: str | None) -> None:
    assert verdict(body, signature) is False


def sha1(secret: str, body: bytes) -> dict[str, str]:
    return {"x-signature": hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()}


def tracks(*names: str) -> list[dict[str, Any]]:
    return [{"messageId": f"m-{name}", "type": "track", "event": name, "userId": "u1"} for name in names]


async def logged(source: BenchSource) -> list[dict[str, Any]]:
    return await source.bench.rows(
        "SELECT e.*, p.body, p.headers FROM events e JOIN event_payloads p USING (id) "
        "WHERE source_key = :key ORDER BY id",
        key=source.key,
    )


async def test_batch_becomes_single_events(bench: Bench) -> None:
    source = await bench.source("segment", enforce_verification=True)
    body = (
        b'[ {"messageId":"m1","type":"track","event":"Order Completed","n":12345678901234567890123}  ,\n'
        + (b'{"type":"identify","messageId":"m2","userId":"u1"}]')
    )
    answer = await source.post(body)
    assert answer.status_code == 200, answer.text
    first, second = await logged(source)
    ids = [str(first["id"]), str(second["id"])]
    assert answer.json() == {"success": True, "id": ids[0], "ids": ids}
    assert (first["event_type"], second["event_type"]) == ("track/Order Completed", "identify")
    assert (first["idempotency_key"], second["idempotency_key"]) == ("m1", "m2")
    assert (
        first["body"]
        == b'{"messageId":"m1","type":"track","event":"Order Completed","n":12345678901234567890123}'
    )
    assert first["batch_id"] == second["batch_id"] is not None
    assert {first["received_through"], second["received_through"]} == {"batch"}
    assert first["verification_status"] == second["verification_status"] == "enforced:verified"
    assert first["verification_reason"] is None
    assert "first event of the batch only" in second["verification_reason"]


async def test_signed_as_a_whole_nothing_is_to_be_noted(bench: Bench) -> None:
    source = await bench.source("segment", enforce_verification=True, strict_batches=True)
    body = orjson.dumps(tracks("A", "B"))
    answer = await source.post(body, sha1(source.secret or "", body))
    assert answer.status_code == 200
    assert [each["verification_reason"] for each in await logged(source)] == [None, None]


async def test_strict_refuses_what_is_signed_in_part(bench: Bench) -> None:
    source = await bench.source("segment", enforce_verification=True, strict_batches=True)
    answer = await source.post(orjson.dumps(tracks("A", "B")))
    assert answer.status_code == 401
    assert [each["status"] for each in await logged(source)] == ["rejected"]
    assert (await source.post(orjson.dumps(tracks("A")[0]))).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'["track",1]', 400, "invalid_batch"),
        (b"[null]", 400, "invalid_batch"),
        (b'["\\ud800"]', 400, "invalid_json"),
        (b'[{"type":"track","name":"\\ud800"}]', 400, "invalid_json"),
        (b'[{"type":"track"},{"type"}]', 400, "invalid_json"),
        (b"[" + b"[" * 1010 + b"]" * 1010 + b"]", 400, None),
        (b"[" + b",".join([b"{}"] * 4001) + b"]", 413, "batch_too_large"),
        (b'"text"', 400, "invalid_json"),
        (b"[1", 400, "invalid_json"),
    ],
)
async def test_bad_batch_is_refused_whole(bench: Bench, body: bytes, status: int, code: str | None) -> None:
    source = await bench.source("segment", enforce_verification=False)
    answer = await source.post(body, {})
    assert answer.status_code == status, answer.text
    assert code is None or answer.json()["code"] == code
    assert [each["status"] for each in await logged(source)] == ["rejected"]


# What one event of a batch may hold that no event log takes.
BAD = {
    "half a surrogate pair": (b'{"type":"track","event":"x","a":"\\ud83d"}', "is not JSON"),
    "half a pair in a name": (b'{"type":"track","\\udc00":1}', "is not JSON"),
    "not a number": (b'{"type":"track","a":NaN}', "is not JSON"),
    "infinity": (b'{"type":"track","a":[-Infinity]}', "is not JSON"),
    "not UTF-8": (b'{"type":"track","a":"\xff\xfe"}', "is not JSON"),
    "a huge number": (b'{"type":"track","a":%s}' % (b"9" * 400), "is not JSON"),
    "no object": (b"1", "is not an object"),
    "null": (b"null", "is not an object"),
    "an array": (b"[]", "is not an object"),
    "too deep": (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", "is nested more than 200 levels deep"),
}


@pytest.mark.parametrize(("bad", "says"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_bad_event_takes_no_other_with_it(bench: Bench, bad: bytes, says: str, place: int) -> None:
    source = await bench.source("segment", enforce_verification=False)
    good = [orjson.dumps(each) for each in tracks("A", "B")]
    answer = await source.post(b"[" + b", ".join([*good[:place], bad, *good[place:]]) + b"]", {})
    assert answer.status_code == 200, answer.text
    rows = await logged(source)
    assert [row["status"] for row in rows if row["status"] != "rejected"] == ["received"] * 2
    assert answer.json()["ids"] == [str(row["id"]) for row in rows if row["status"] == "received"]
    [rejected] = [row for row in rows if row["status"] == "rejected"]
    assert rejected["error"].startswith(f"event {place} of the batch {says}")
    assert answer.json()["rejected"] == [
        {"position": place, "id": str(rejected["id"]), "message": rejected["error"]}
    ]
    assert rejected["body"] == bad
    assert len({row["batch_id"] for row in rows}) == 1


@pytest.mark.parametrize(("bad", "says"), BAD.values(), ids=BAD)
async def test_one_bad_event_of_a_library_takes_no_other_with_it(bench: Bench, bad: bytes, says: str) -> None:
    source = await bench.source("segment", secret=None, enforce_verification=False)
    good = [orjson.dumps(each) for each in tracks("A", "B")]
    for headers, key in (
        ({"x-write-key": source.token}, b""),
        ({}, b'"writeKey":"%s",' % source.token.encode()),
    ):
        body = b"{" + key + b'"batch":[' + b",".join([good[0], bad, good[1]]) + b"]}"
        answer = await bench.api.post("/v1/batch", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
    rows = await logged(source)
    assert [row["status"] for row in rows] == ["received", "rejected", "received"] * 2
    assert all(row["error"].startswith(f"event 1 {says}") for row in rows if row["status"] == "rejected")


async def test_an_event_of_a_library_that_is_too_large_goes_alone(bench: Bench) -> None:
    source = await bench.source("segment", secret=None, enforce_verification=False)
    large = {"type": "track", "event": "L", "properties": {"text": "x" * 40_000}}
    answer = await bench.api.post(
        "/v1/batch", json={"batch": [*tracks("A"), large]}, headers={"x-write-key": source.token}
    )
    assert answer.status_code == 200, answer.text
    first, second = await logged(source)
    assert (first["status"], second["status"]) == ("received", "rejected")
    assert "allowed are 32768" in second["error"]


@pytest.mark.parametrize("bad", ["\\ud800", None, 1, []])
async def test_one_bad_record_takes_no_other_with_it(bench: Bench, bad: Any) -> None:
    source = await bench.source("polytomic", enforce_verification=False)
    body = records("h1", "h2").replace(
        b'{"hash":"h2"', b'%s,{"hash":"h2"' % orjson.dumps(bad).replace(b"\\\\", b"\\")
    )
    answer = await source.post(body, {})
    assert answer.status_code == 200, answer.text
    assert [row["status"] for row in await logged(source)] == ["received", "rejected", "received"]


@pytest.mark.parametrize("provider", ["segment", "custom_http"])
async def test_a_byte_order_mark_is_skipped(bench: Bench, provider: str) -> None:
    source = await bench.source(provider)
    one = orjson.dumps({"type": "t", "event": "A", "messageId": "m1"})
    for body in [one, b"[" + one + b"]"] if provider == "segment" else [one]:
        sent = b"\xef\xbb\xbf" + body
        answer = await source.post(sent)
        assert answer.status_code == 200, answer.text
    assert {row["event_type"] for row in await logged(source)} == {"t"}


async def test_a_script_reads_a_body_behind_a_byte_order_mark(bench: Bench) -> None:
    script = "function main({ body }) { return { verified: true, kind: body.kind } }"
    source = await bench.source(
        "custom_http", secret=None, preprocess_script=script, event_type_path="preprocess.kind"
    )
    assert (await source.post(b'\xef\xbb\xbf{"kind":"t"}', {})).status_code == 200
    assert [row["event_type"] for row in await logged(source)] == ["t"]


async def test_deep_traits_are_refused_whether_alone_or_in_a_batch(bench: Bench) -> None:
    source = await bench.source("segment", enforce_verification=False)
    deep = b'{"type":"identify","traits":{"a":' + b"[" * 400 + b"]" * 400 + b"}}"
    for body in (deep, b"[" + deep + b"]"):
        assert (await source.post(body, {})).json()["code"] == "json_too_deep"
    assert [each["status"] for each in await logged(source)] == ["rejected"] * 2


async def test_empty_batch_is_accepted_and_is_nothing(bench: Bench) -> None:
    source = await bench.source("segment", enforce_verification=False)
    answer = await source.post(b"[]", {})
    assert answer.json() == {"success": True, "id": None, "ids": []}
    assert await logged(source) == []


async def test_large_batch_in_one_transaction(bench: Bench) -> None:
    source = await bench.source("segment", start_unmapped=False)
    answer = await source.post(orjson.dumps(tracks(*(f"E{number}" for number in range(4000)))))
    assert len(answer.json()["ids"]) == 4000
    rows = await bench.rows(
        "SELECT count(*) AS events, count(DISTINCT xmin::text) AS transactions FROM events WHERE source_key "
        "= :key",
        key=source.key,
    )
    assert rows == [{"events": 4000, "transactions": 1}]


async def test_one_event_that_cannot_be_stored_takes_its_batch_with_it(bench: Bench) -> None:
    """U+0000 cannot be in a text column: the names drop it, so only a fault of ours reaches Postgres."""
    source = await bench.source("segment")
    answer = await source.post(
        orjson.dumps([*tracks("A"), {"type": "track", "event": "nul\x00", "messageId": "\x00"}])
    )
    assert answer.status_code == 200
    first, second = await logged(source)
    assert first["event_type"] == "track/A"
    assert second["event_type"] is None
    assert "track" not in (second["idempotency_key"] or "")


async def test_arrays_only_where_the_vendor_sends_them(bench: Bench) -> None:
    source = await bench.source("stripe", enforce_verification=False)
    assert (await source.post(b"[{}]", {})).json()["code"] == "invalid_json"


BODY = providers()["polytomic"].examples["sync.records/Users"][0].body


def records(*hashes: str, **changes: Any) -> bytes:
    found = [
        {"hash": each, "fields": {"user_id": f"u-{each}", "email": f"{each}@example.com"}} for each in hashes
    ]
    return orjson.dumps({**BODY, "object": {**BODY["object"], "records": found}, **changes})


async def test_polytomic_records(bench: Bench) -> None:
    source = await bench.source("polytomic", secret="eyJhbGciOi.secret")
    headers = {**source.signed(b""), "polytomic-signature-timestamp": "2026-01-01T00:00:00Z"}
    assert headers["authorization"] == "Bearer eyJhbGciOi.secret"
    answer = await source.post(records("h1", "h2"), headers)
    assert answer.status_code == 200, answer.text
    first, second = await logged(source)
    assert first["event_type"] == "sync.records/Users"
    assert second["idempotency_key"] == f"{BODY['object']['id']}:h2:2026-01-01T00:00:00Z"
    assert first["occurred_at"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert orjson.loads(first["body"]) == {
        "event": "sync.records",
        "object": {"id": BODY["object"]["id"], "name": "Users"},
        "hash": "h1",
        "fields": {"user_id": "u-h1", "email": "h1@example.com"},
    }
    assert "authorization" not in first["headers"]
    assert (await source.post(records("h1"), {"authorization": "Bearer wrong"})).status_code == 401
    assert (await source.post(records("h1"), {})).status_code == 401


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (records("h1", object={"id": "x", "name": "y", "records": [1]}), "invalid_batch"),
        (records("h1", object={"id": "x", "name": "y", "records": [None, "x"]}), "invalid_batch"),
        (
            b'{"event":"sync.records","object":{"records":[{"fields":{"x":%s}}]}}'
            % (b"[" * 300 + b"]" * 300),
            "json_too_deep",
        ),
    ],
)
async def test_polytomic_malformed(bench: Bench, body: bytes, code: str) -> None:
    source = await bench.source("polytomic")
    answer = await source.post(body)
    assert answer.json()["code"] == code


@pytest.mark.parametrize(
    "changes", [{"object": None}, {"object": {"records": {}}}, {"event": "ping"}, {"event": None}]
)
async def test_polytomic_of_another_shape_is_one_event(bench: Bench, changes: dict[str, Any]) -> None:
    source = await bench.source("polytomic")
    assert (await source.post(records("h1", **changes))).status_code == 200
    assert len(await logged(source)) == 1


@pytest.mark.usefixtures("worker")
class TestActions:
    """What comes of the events, with a real worker."""

    async def test_batch_runs_the_default_mappings(self, bench: Bench) -> None:
        source = await bench.source("segment", enforce_verification=True)
        identify = {
            "type": "identify",
            "messageId": "m1",
            "userId": "user_42",
            "context": {"traits": {"phone": "+15550100100", "firstName": "Ada", "lastName": "Example"}},
            "traits": {"email": "ada@example.com", "plan": "pro"},
        }
        answer = await source.post(orjson.dumps([*tracks("A"), identify]))
        unmapped, identified = [await bench.final(each) for each in answer.json()["ids"]]
        assert unmapped["status"] == "ignored"
        assert identified["status"] == "succeeded", identified["error"]
        assert identified["verification_status"] == "enforced:verified"
        users = await bench.rows(
            "SELECT properties FROM directory_recipients WHERE environment = :environment AND id = 'user_42'",
            environment=bench.environment,
        )
        assert users[0]["properties"] == {
            "name": "Ada Example",
            "email": "ada@example.com",
            "phone_number": "+15550100100",
            "plan": "pro",
            "firstName": "Ada",
            "lastName": "Example",
        }

    async def test_polytomic_identifies(self, bench: Bench) -> None:
        source = await bench.source("polytomic")
        headers = {**source.signed(b""), "polytomic-signature-timestamp": "2026-01-01T00:00:00Z"}
        for repeated in (1, 3):
            answer = await source.post(records("h1", "h2", "h1"), headers)
            statuses = [(await bench.final(each))["status"] for each in answer.json()["ids"]]
            assert statuses.count("idempotent") == repeated

    @pytest.mark.parametrize("is_stamped", [True, False])
    async def test_a_record_that_comes_back_as_it_was_has_changed(
        self, bench: Bench, is_stamped: bool
    ) -> None:
        source = await bench.source("polytomic")
        for second, plan in enumerate(["free", "pro", "free"]):
            record = {"hash": f"hash-of-{plan}", "fields": {"user_id": "ada", "plan": plan}}
            body = orjson.dumps({**BODY, "object": {**BODY["object"], "records": [record]}})
            stamp = {"polytomic-signature-timestamp": f"2026-01-01T00:00:0{second}Z"}
            answer = await source.post(body, {**source.signed(body), **(stamp if is_stamped else {})})
            (identifier,) = answer.json()["ids"]
            assert (await bench.final(identifier))["status"] == "succeeded"
        [user] = await bench.rows(
            "SELECT properties FROM directory_recipients WHERE environment = :environment AND id = 'ada'",
            environment=bench.environment,
        )
        assert user["properties"]["plan"] == "free"

    @pytest.mark.parametrize(
        ("handle_identifies", "mappings", "expected"),
        [
            (None, {}, []),
            (True, {}, ["users_identify"]),
            (True, None, ["users_identify"]),
            (False, None, []),
        ],
    )
    async def test_handle_identifies(
        self,
        bench: Bench,
        handle_identifies: bool | None,
        mappings: dict[str, Any] | None,
        expected: list[str],
    ) -> None:
        source = await bench.source("segment", mappings=mappings, handle_identifies=handle_identifies)
        event = await bench.final(await source.send("identify"))
        assert [each["action_type"] for each in await bench.actions(event["id"])] == expected


async def test_enforcement_turned_on_meanwhile_counts_for_a_batch(bench: Bench, temporal: Client) -> None:
    source = await bench.source("segment", enforce_verification=False)
    answer = await source.post(orjson.dumps(tracks("A", "B")), {})
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(
            text("UPDATE source_environments SET enforce_verification = true WHERE source_key = :key"),
            {"key": source.key},
        )
    await bench.runtime.configuration.refresh()
    async with run_workers(bench.runtime, temporal, [bench.environment]):
        for each in answer.json()["ids"]:
            event = await bench.final(each)
            assert (event["status"], event["verification_status"]) == ("rejected", "enforced:failed")


async def test_what_a_signature_does_not_cover_is_still_said_after_a_change(
    bench: Bench, temporal: Client
) -> None:
    source = await bench.source("segment", enforce_verification=False)
    answer = await source.post(orjson.dumps(tracks("A", "B")))
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(
            text("UPDATE source_environments SET enforce_verification = true WHERE source_key = :key"),
            {"key": source.key},
        )
    await bench.runtime.configuration.refresh()
    async with run_workers(bench.runtime, temporal, [bench.environment]):
        first, second = [await bench.final(each) for each in answer.json()["ids"]]
    assert first["verification_status"] == second["verification_status"] == "enforced:verified"
    assert first["verification_reason"] is None
    assert "first event of the batch only" in second["verification_reason"]
