"""The edge: what is accepted, what is refused, and what is logged of each."""

import asyncio
import gzip
import json
from datetime import datetime, timedelta
from uuid import UUID

import orjson
import pytest
from sqlalchemy import text

from app.api.receive import REFUSALS_PER_MINUTE
from app.models.types import now, time_of
from app.providers.registry import providers
from tests.bench import Bench, BenchSource
from tests.clock import Clock
from tests.servers import eventually

STRIPE = {"type": "invoice.paid", "created": 1767225600}


async def refused(source: BenchSource, status: int) -> dict[str, object]:
    """The one rejected event of a source, checked against the answer's status."""
    rows = await source.bench.rows(
        "SELECT e.*, p.body FROM events e JOIN event_payloads p USING (id) WHERE source_key = :key",
        key=source.key,
    )
    assert len(rows) == 1, status
    assert rows[0]["status"] == "rejected"
    assert rows[0]["finished_at"] is not None
    return rows[0]


async def test_accepted_event_is_in_the_log_before_the_answer(bench: Bench) -> None:
    source = await bench.source("stripe")
    body = source.example("invoice.paid")
    answer = await source.post(body)
    assert answer.status_code == 200
    assert answer.json() == {"success": True, "id": answer.json()["id"]}
    event = await bench.event(answer.json()["id"])
    decoded = orjson.loads(body)
    assert event["status"] == "received"
    assert event["event_type"] == "invoice.paid"
    assert event["idempotency_key"] == decoded["id"]
    assert event["verification_status"] == "enforced:verified"
    assert event["occurred_at"].timestamp() == decoded["created"]
    payload = (await bench.rows("SELECT * FROM event_payloads WHERE id = :id", id=UUID(answer.json()["id"])))[
        0
    ]
    assert payload["body"] == body
    assert payload["headers"]["content-length"] == str(len(body))


async def test_unknown_token(bench: Bench) -> None:
    answer = await bench.api.post("/integrations/receive/nope", content=b"{}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "endpoint_missing"
    assert answer.json().keys() >= {"code", "message", "status", "type"}


@pytest.mark.parametrize(
    "body", [b"", b"not json", b'{"a":', b"[1]", b'"text"', b"null", b'{"a": NaN}', b"\xff\xfe"]
)
async def test_body_that_is_no_json_object(bench: Bench, body: bytes) -> None:
    source = await bench.source("stripe")
    answer = await source.post(body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_json"
    row = await refused(source, 400)
    assert row["error"] == answer.json()["message"]
    assert row["body"] == body


async def test_deep_nesting_is_refused_not_crashed_on(bench: Bench) -> None:
    source = await bench.source("stripe")
    assert (await source.post(b'{"a":' + b"[" * 100_000)).status_code == 400


@pytest.mark.parametrize("depth", [251, 1000])
async def test_what_is_nested_too_deep_to_be_written_does_not_break_the_log(bench: Bench, depth: int) -> None:
    source = await bench.source("custom_http", secret=None, enforce_verification=False)
    deep = b"[" * depth + b"]" * depth
    answer = await source.post(b'{"type": "x", "a": %s}' % deep, {})
    assert (answer.status_code, answer.json()["code"]) == (400, "json_too_deep")
    logs = f"/v1/sources/{source.key}/logs"
    listed = await bench.api.get(logs, params={"environment": bench.environment, "status": "rejected"})
    assert listed.status_code == 200, listed.text
    refused = next(each for each in listed.json()["entries"] if "levels deep" in each["error"])
    shown = await bench.api.get(f"{logs}/{refused['id']}")
    assert shown.status_code == 200, shown.text
    assert shown.json()["data"] is None


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "stripe-signature is missing"),
        ({"stripe-signature": ""}, "stripe-signature is missing"),
        ({"stripe-signature": "garbage"}, "lacks t="),
        ({"stripe-signature": "t=abc,v1=00"}, "not a number"),
        ({"stripe-signature": "t=1,v1=00"}, "old"),
    ],
)
async def test_failed_verification(bench: Bench, headers: dict[str, str], reason: str) -> None:
    source = await bench.source("stripe")
    answer = await source.post(source.example("invoice.paid"), headers)
    assert answer.status_code == 401
    assert reason in answer.json()["message"]
    row = await refused(source, 401)
    assert row["verification_status"] == "enforced:failed"
    assert reason in str(row["verification_reason"])


async def test_wrong_signature_and_old_timestamp(bench: Bench) -> None:
    source = await bench.source("stripe")
    body = source.example("invoice.paid")
    assert (await source.post(body, source.signed(body, "whsec_other"))).status_code == 401
    scheme = providers()["stripe"].scheme
    assert scheme is not None
    old = scheme.sign(body, source.secret or "", now() - timedelta(seconds=302), "")
    answer = await source.post(body, old)
    assert answer.status_code == 401
    assert "old" in answer.json()["message"]


@pytest.mark.parametrize("secret", [None, ""])
async def test_enforced_without_a_secret_is_closed(bench: Bench, secret: str | None) -> None:
    source = await bench.source("stripe", secret=secret)
    body = source.example("invoice.paid")
    answer = await source.post(body, source.signed(body, "x"))
    assert answer.status_code == 401
    assert "no signing secret" in answer.json()["message"]
    assert (await refused(source, 401))["verification_status"] == "enforced:failed"


async def test_not_enforced_is_accepted_and_says_so(bench: Bench) -> None:
    source = await bench.source("stripe", enforce_verification=False)
    answer = await source.post(source.example("invoice.paid"), {})
    assert answer.status_code == 200
    event = await bench.event(answer.json()["id"])
    assert event["verification_status"] == "not_enforced:failed"
    assert "missing" in event["verification_reason"]
    without = await bench.source("stripe", enforce_verification=False, secret=None)
    answer = await without.post(without.example("invoice.paid"), {})
    assert (await bench.event(answer.json()["id"]))["verification_status"] == "not_enforced:unverified"


async def test_too_large_is_refused_while_it_streams(bench: Bench) -> None:
    """The answer comes while the body is still on its way: its end is never sent."""
    source = await bench.source("stripe")
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.api.base_url.port)
    writer.write(f"POST {source.path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    for _ in range(17):
        writer.write(chunk)
        await writer.drain()
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 60)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in answer
    row = await refused(source, 413)
    assert row["error"] == "the body is larger than 1048576 bytes"


async def test_gzip(bench: Bench) -> None:
    source = await bench.source("stripe")
    body = source.example("invoice.paid")
    answer = await source.post(gzip.compress(body), {**source.signed(body), "content-encoding": "gzip"})
    assert answer.status_code == 200
    payload = await bench.rows("SELECT body FROM event_payloads WHERE id = :id", id=UUID(answer.json()["id"]))
    assert payload[0]["body"] == body


async def test_decompression_bomb(bench: Bench) -> None:
    source = await bench.source("stripe")
    bomb = gzip.compress(b" " * 512 * 1024 * 1024, compresslevel=1)
    answer = await source.post(bomb, {"content-encoding": "gzip"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", b"not gzip"), ("gzip", gzip.compress(b"{}" * 99)[:-9]), ("br", b"{}")],
    ids=["not gzip", "cut off", "unknown"],
)
async def test_bad_encoding(bench: Bench, encoding: str, body: bytes) -> None:
    source = await bench.source("stripe")
    answer = await source.post(body, {"content-encoding": encoding})
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_encoding"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": None}, "body.type is not a string"),
        ({"type": ""}, "body.type is not a string"),
        ({"type": 7}, "body.type is not a string"),
        ({"type": "x" * 256}, "body.type is not a string"),
        ({"type": "a\x00b"}, "body.type is not a string"),
    ],
)
async def test_unidentified_event_is_accepted_with_the_reason(
    bench: Bench, changes: dict[str, object], reason: str
) -> None:
    source = await bench.source("stripe")
    event = await bench.event(await source.send("invoice.paid", **changes))
    assert event["event_type"] is None
    assert reason in event["error"]


@pytest.mark.parametrize(
    ("moment", "occurred"),
    [
        # Postgres refuses offsets of 16 hours and more, and with them all events that are written at once.
        ("2024-01-02T00:00:00+23:00", "2024-01-01T01:00:00+00:00"),
        ("2024-01-01T00:00:00+00:00:30", "2023-12-31T23:59:30+00:00"),
        # Python cannot read what Postgres makes of these.
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        (253402300799, None),
    ],
)
async def test_a_strange_time_is_no_reason_to_refuse(
    bench: Bench, moment: object, occurred: str | None
) -> None:
    source = await bench.source("stripe", timestamp_path="body.at")
    event = await bench.event(await source.send("invoice.paid", at=moment))
    assert event["occurred_at"] == (None if occurred is None else datetime.fromisoformat(occurred))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "is null in this event"),
        ("", "is empty in this event"),
        (["a"], "is not a string or a whole number"),
        ({"a": 1}, "is not a string or a whole number"),
        (True, "is not a string or a whole number"),
        (1.5, "is not a string or a whole number"),
        (9007199254740993.0, "is a number too large to keep its digits; send it as a string"),
        ("x" * 256, "is longer than 255 characters"),
        (10**300, "is longer than 255 characters"),
        ("nul\x00", "holds the character U+0000"),
    ],
)
async def test_invalid_idempotency_key_is_dropped_and_said(bench: Bench, key: object, reason: str) -> None:
    source = await bench.source("stripe")
    answer = await source.post(json.dumps({**STRIPE, "id": key}).encode())
    event = await bench.event(answer.json()["id"])
    assert event["idempotency_key"] is None
    assert event["event_type"] == "invoice.paid"
    assert event["error"] == f"idempotency key: body.id {reason}"


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("4711", "4711"),
        ("0", "0"),
        ("-7", "-7"),
        ("7.0", "7"),
        ("9007199254740993", "9007199254740993"),
        ("18446744073709551616", "18446744073709551616"),
    ],
)
async def test_a_whole_number_is_an_idempotency_key(bench: Bench, sent: str, key: str) -> None:
    source = await bench.source("stripe")
    answer = await source.post(b'{"type":"invoice.paid","created":1767225600,"id":%s}' % sent.encode())
    event = await bench.event(answer.json()["id"])
    assert (event["idempotency_key"], event["error"]) == (key, None)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"idempotency_key_path": "headers.x-id"},
            "idempotency key: headers.x-id has no value in this event",
        ),
        ({"timestamp_path": "body.at"}, "time: body.at has no value in this event"),
        (
            {"timestamp_path": "body.type"},
            "time: body.type is not a time in seconds, in milliseconds or in ISO 8601",
        ),
        ({"event_type_path": "body.kind"}, "event type: body.kind has no value in this event"),
    ],
)
async def test_what_is_configured_and_not_found_is_said(
    bench: Bench, changes: dict[str, str], error: str
) -> None:
    source = await bench.source("stripe", **changes)
    event = await bench.event(await source.send("invoice.paid"))
    assert event["error"] == error


async def test_the_log_says_what_reception_noted_beside_the_outcome(bench: Bench, worker: None) -> None:
    source = await bench.source("stripe", mappings={}, timestamp_path="body.at")
    event = await bench.final(await source.send("invoice.paid"))
    noted = "time: body.at has no value in this event"
    assert event["error"] == f"no active mapping for this event type; {noted}"
    shown = await bench.api.get(f"/v1/sources/{source.key}/logs/{event['id']}")
    assert shown.json()["error"] == event["error"]


@pytest.mark.parametrize("provider", ["standard_webhooks", "clerk"])
@pytest.mark.parametrize("path", ["headers.webhook-id", "headers.Svix-Id"])
@pytest.mark.parametrize("prefix", ["webhook", "svix"])
async def test_the_signed_id_is_the_key_whichever_header_it_is_in(
    bench: Bench, provider: str, path: str, prefix: str
) -> None:
    source = await bench.source(provider, idempotency_key_path=path)
    body = b'{"type": "contact.created", "timestamp": 1767225600, "data": {}}'
    headers = {f"{prefix}-{name.rpartition('-')[2]}": value for name, value in source.signed(body).items()}
    answer = await source.post(body, headers)
    event = await bench.event(answer.json()["id"])
    assert (event["idempotency_key"], event["error"]) == (headers[f"{prefix}-id"], None)


async def test_an_id_that_is_not_signed_is_no_key(bench: Bench) -> None:
    source = await bench.source("standard_webhooks", idempotency_key_path="headers.svix-id")
    body = b'{"type": "contact.created", "timestamp": 1767225600}'
    headers = source.signed(body)
    answer = await source.post(body, {**headers, "svix-id": "somebody-elses"})
    assert (await bench.event(answer.json()["id"]))["idempotency_key"] == headers["webhook-id"]


async def test_header_names_in_settings_compare_without_case(bench: Bench) -> None:
    source = await bench.source(
        "custom_http",
        secret=None,
        enforce_verification=False,
        event_type_path="headers.X-Event-Type",
        idempotency_key_path='headers."X-Request-ID"',
    )
    answer = await source.post(b"{}", {"X-EVENT-type": "order", "x-request-Id": "r1"})
    event = await bench.event(answer.json()["id"])
    assert (event["event_type"], event["idempotency_key"], event["error"]) == ("order", "r1", None)


async def test_a_slash_at_the_end_is_taken(bench: Bench) -> None:
    source = await bench.source("stripe")
    body = source.example("invoice.paid")
    answer = await bench.api.post(f"{source.path}/", content=body, headers=source.signed(body))
    assert answer.status_code == 200
    assert (await bench.event(answer.json()["id"]))["event_type"] == "invoice.paid"


@pytest.mark.parametrize(
    ("enforced", "status"), [(True, "enforced:failed"), (False, "not_enforced:unverified")]
)
@pytest.mark.parametrize("kind", ["encoding", "too large", "not gzip"])
async def test_what_is_refused_unread_does_not_say_that_enforcement_is_off(
    bench: Bench, kind: str, enforced: bool, status: str
) -> None:
    source = await bench.source("stripe", enforce_verification=enforced)
    sent: dict[str, tuple[bytes, dict[str, str]]] = {
        "encoding": (b"{}", {"content-encoding": "utf-8"}),
        "too large": (b" " * 1_100_000, {}),
        "not gzip": (b"{}", {"content-encoding": "gzip"}),
    }
    answer = await source.post(*sent[kind])
    row = await refused(source, answer.status_code)
    assert row["verification_status"] == status
    assert row["verification_reason"] == "the request was refused before its signature was checked"


async def test_clerk_key_from_a_header_and_preprocess(bench: Bench) -> None:
    source = await bench.source("clerk")
    body = source.example("user.created")
    headers = source.signed(body)
    answer = await source.post(body, headers)
    event = await bench.event(answer.json()["id"])
    assert event["idempotency_key"] == headers["svix-id"]
    payload = await bench.rows("SELECT preprocess_output FROM event_payloads WHERE id = :id", id=event["id"])
    assert payload[0]["preprocess_output"]["email"] == "ada@example.com"


async def test_clerk_body_of_another_shape_is_still_an_event(bench: Bench) -> None:
    source = await bench.source("clerk")
    answer = await source.post(b'{"type":"user.created","data":[1]}')
    event = await bench.event(answer.json()["id"])
    assert event["event_type"] == "user.created"
    assert "preprocess" in event["error"]


async def test_credentials_are_encrypted_at_rest(bench: Bench) -> None:
    source = await bench.source("custom_http", secret="open-sesame")
    answer = await source.post(
        source.example("user.identified"), {"x-webhook-secret": "open-sesame", "cookie": "session=abc"}
    )
    assert answer.status_code == 200
    row = (await bench.rows("SELECT * FROM event_payloads WHERE id = :id", id=UUID(answer.json()["id"])))[0]
    assert not row["headers"].keys() & {"x-webhook-secret", "cookie", "authorization"}
    assert b"open-sesame" not in row["sensitive_headers"]
    stored = orjson.loads(bench.runtime.box.decrypt(row["sensitive_headers"]))
    assert stored["x-webhook-secret"] == "open-sesame"


async def test_a_saved_change_counts_without_a_restart(bench: Bench) -> None:
    source = await bench.source("stripe", enforce_verification=True)
    body = source.example("invoice.paid")
    assert (await source.post(body, {})).status_code == 401
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(
            text("UPDATE source_environments SET enforce_verification = false WHERE source_key = :key"),
            {"key": source.key},
        )

    async def accepted() -> bool:
        return (await source.post(body, {})).status_code == 200

    await eventually(accepted)


async def test_refusals_in_the_log_are_bounded(edge_clock: Clock, bench: Bench) -> None:
    source = await bench.source("stripe")

    async def refuse(times: int) -> list[int]:
        """Deliveries that are refused; how many the log has by then, and the bytes of its largest."""
        for _ in range(times):
            assert (await source.post(b"x" * 20_000, {})).status_code == 401
        rows = await bench.rows(
            "SELECT count(*) AS kept, max(length(body)) AS largest "
            "FROM events JOIN event_payloads USING (id) WHERE source_key = :key",
            key=source.key,
        )
        return [rows[0]["kept"], rows[0]["largest"]]

    edge_clock.now += 60
    assert await refuse(REFUSALS_PER_MINUTE + 50) == [REFUSALS_PER_MINUTE, 16 * 1024]
    edge_clock.now += 60
    assert await refuse(1) == [REFUSALS_PER_MINUTE + 1, 16 * 1024], "with the minute the count begins anew"


async def test_start_unmapped_off_logs_without_a_workflow(bench: Bench) -> None:
    source = await bench.source("stripe", start_unmapped=False)
    event = await bench.event(await source.send("invoice.paid", type="charge.refunded"))
    assert event["status"] == "ignored"
    assert (await bench.event(await source.send("invoice.paid")))["status"] == "received"


async def test_events_go_to_their_day(bench: Bench) -> None:
    source = await bench.source("stripe")
    before = now()
    event = await bench.event(await source.send("invoice.paid"))
    rows = await bench.rows(
        "SELECT tableoid::regclass::text AS partition FROM events WHERE id = :id", id=event["id"]
    )
    assert rows[0]["partition"] == f"events_{time_of(event['id']):%Y%m%d}"
    assert before <= event["received_at"] <= now()
