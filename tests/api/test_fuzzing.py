"""What nobody would send, sent: never a fault, never an unhandled exception, every refusal in Knock's error
body.

Three suites together call every operation of the OpenAPI document: the Management API's is
tests/api/management/test_contract.py, the directory's tests/directory/test_openapi.py, the rest is here.
Beside them, bytes that no document allows: bodies, headers and encodings made up for the edge.
"""

import asyncio
import gzip
import json
import logging
import math
import re
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok

from app.account.tokens import issue_key
from tests.api.management.contract import Error
from tests.api.management.test_contract import is_management, quoted, text_of
from tests.api.reverse_etl.keys import source_key
from tests.bench import Bench
from tests.directory.test_openapi import PATHS as DIRECTORY

OPERATION_EXAMPLES = 3
EDGE_EXAMPLES = 30
# The only answers of 500 and more: Postgres is out, or too much waits.
DOCUMENTED = frozenset({503})

quietly = settings(
    database=None,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def no_unhandled_exception(caplog: pytest.LogCaptureFixture) -> Any:
    """Fails when a process logged a traceback, or an error of any kind."""
    yield
    bad = [each for each in caplog.get_records("call") if each.exc_info or each.levelno >= logging.ERROR]
    assert not bad, [(each.name, each.getMessage(), each.exc_text) for each in bad]


def check(status: int, body: bytes, what: str) -> None:
    """An answer that a sender can do something with."""
    assert status < 500 or status in DOCUMENTED, f"{what}: {status} {body[:500]!r}"
    if status >= 400:
        error = Error.model_validate_json(body)
        assert error.status == status, what
        assert error.message, what


async def test_every_operation_of_the_document_is_called(bench: Bench) -> None:
    """Calls generated from the document, for all that is not called so elsewhere."""
    await bench.source("segment", secret=None)
    key = await issue_key(bench.runtime.settings, bench.environment, "tests")
    source = await bench.source("custom_http", secret=None, enforce_verification=False)
    document = (await bench.api.get("/openapi.json")).json()
    operations, elsewhere = [], 0
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.path.endswith("/stream"):
            # Its answers do not end; its parameters are those of the list.
            elsewhere += 1
        elif is_management(operation.definition.raw, operation.path) or re.match(DIRECTORY, operation.path):
            elsewhere += 1
        else:
            operations.append(operation)
    assert len(operations) + elsewhere == sum(len(each) for each in document["paths"].values())
    assert len(operations) >= 15

    def call_all() -> None:
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=bench.api.base_url, headers=headers, timeout=30) as client:
            for operation in operations:
                call_generated(client, operation, {"token": source.token})

    await asyncio.to_thread(call_all)


def call_generated(client: httpx.Client, operation: Any, known: dict[str, str]) -> None:
    @settings(quietly, max_examples=OPERATION_EXAMPLES)
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        path = operation.path
        for name, value in {**(case.path_parameters or {}), **known}.items():
            path = path.replace(f"{{{name}}}", quoted(value))
        query = {name: text_of(value) for name, value in (case.query or {}).items()}
        body = {"json": case.body} if isinstance(case.body, dict | list | str | int | float | bool) else {}
        answer = client.request(operation.method.upper(), path, params=query, **body)
        check(answer.status_code, answer.content, f"{operation.method} {answer.request.url}")
        documented = operation.definition.raw["responses"]
        assert str(answer.status_code) in documented, (operation.label, answer.status_code)

    run()


# Values that a query parameter may have although no document says so: the ends of the calendar, ids beyond
# it, JSON of every type, depth, U+0000.
HOSTILE = (
    "",
    "\x00",
    "0001-01-01",
    "9999-12-31",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "1e400",
    "-9223372036854775809",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "00000000-0000-0000-0000-000000000000",
    "null",
    "1",
    "[]",
    "{}",
    "[[]]",
    '[{"id": 1, "collection": null}]',
    '{"gte": "0001-01-01", "lt": "9999-12-31T23:59:59-23:59"}',
    "[" * 1020 + '"\\u0000"' + "]" * 1020,
    "[" * 5000,
)
# Parameters that many operations share are tried with some of them.
SHARED = 3


async def test_every_query_parameter_takes_every_type(bench: Bench) -> None:
    """Each parameter of each operation that reads, with each of these values."""
    source = await bench.source("stripe")
    await source.send("invoice.paid")
    key = await issue_key(bench.runtime.settings, bench.environment, "tests")
    document = (await bench.api.get("/openapi.json")).json()
    known = {"{key}": source.key, "{environment_slug}": bench.environment}
    tried: Counter[str] = Counter()
    for path, operations in document["paths"].items():
        operation = operations.get("get")
        if operation is None or path.endswith("/stream"):
            continue
        headers = {} if is_management(operation, path) else {"authorization": f"Bearer {key}"}
        for name, slug in known.items():
            path = path.replace(name, slug)
        path = re.sub(r"\{[^}]+\}", "x", path)
        parameters = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
        for parameter in parameters:
            tried[parameter] += 1
            if tried[parameter] > SHARED:
                continue
            for hostile in HOSTILE:
                query = {"environment": bench.environment, "starting_at": "2026-01-01", parameter: hostile}
                answer = await bench.api.get(path, params=query, headers=headers)
                check(answer.status_code, answer.content, f"{path} {parameter}={hostile[:40]!r}")
    assert {"recipient", "date", "starting_at", "id", "inserted_at", "trigger_data"} <= tried.keys()


@pytest.mark.parametrize("depth", [101, 254, 255, 1020, 3000])
async def test_depth_and_what_cannot_be_stored_together(bench: Bench, depth: int) -> None:
    """In the body of each operation that changes something."""
    key = await issue_key(bench.runtime.settings, bench.environment, "tests")
    document = (await bench.api.get("/openapi.json")).json()
    body = b'{"name": ' + b"[" * depth + b'"\\u0000"' + b"]" * depth + b"}"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "get" or "requestBody" not in operation:
                continue
            credential = {} if is_management(operation, path) else {"authorization": f"Bearer {key}"}
            answer = await bench.api.request(
                method.upper(),
                re.sub(r"\{[^}]+\}", "x", path),
                params={"environment": bench.environment},
                content=body,
                headers=credential,
            )
            check(answer.status_code, answer.content, f"{method} {path}")


# Text as JSON has it and Postgres may not; numbers that do not fit; names that mean something here.
strange_text = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["\x00", "a\x00b", "\ud800", "\udfff", "💥", "", " ", "__proto__", "..", "%2F", "x" * 300]
    ),
)
strange_number = st.one_of(
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.sampled_from(
        [math.nan, math.inf, 2**63, -(2**63) - 1, 2**64, 10**308, 1e308, -0.0, 253402300800, 1e300]
    ),
)
name = st.one_of(
    st.sampled_from(
        (
            "type",
            "event",
            "id",
            "messageId",
            "timestamp",
            "created",
            "data",
            "batch",
            "userId",
            "user",
            "members",
        )
    ),
    strange_text,
)
value = st.recursive(
    st.one_of(strange_number, strange_text, st.none(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(name, inner, max_size=4)),
    max_leaves=8,
)


def written(given: Any) -> bytes:
    """As a careless sender writes JSON: NaN and Infinity are left in it, and halves of characters."""
    return json.dumps(given, allow_nan=True).encode()


body = st.one_of(
    st.dictionaries(name, value, min_size=1, max_size=5).map(written),
    st.dictionaries(st.just("type"), st.one_of(strange_number, strange_text), min_size=1).map(written),
    st.lists(st.dictionaries(name, value, max_size=3), max_size=3).map(written),
    value.map(written),
    st.dictionaries(name, value, max_size=3).map(lambda each: written(each).decode().encode("utf-16")),
    st.dictionaries(name, value, max_size=3).map(lambda each: b"\xef\xbb\xbf" + written(each)),
    st.binary(max_size=64),
    st.integers(1, 3000).map(lambda depth: b'{"type":"a","x":' + b"[" * depth + b"]" * depth + b"}"),
    st.integers(1, 3000).map(lambda depth: b'{"a":' * depth),
    st.sampled_from(
        (
            b'{"type":"a","type":"b"}',
            b'{"type":"\xff"}',
            b'{"type":1e999}',
            b'{"type":"a"}x',
            b'"\\ud800"',
            b"",
        )
    ),
)
encoded = st.one_of(
    body.map(lambda sent: (None, sent)),
    body.map(lambda sent: (b"gzip", gzip.compress(sent))),
    body.map(lambda sent: (b"gzip", gzip.compress(sent)[:-5])),
    st.tuples(st.sampled_from((b"gzip", b"GZIP", b"deflate", b"br", b"", b"gzip, gzip", b"\xff")), body),
)
# What a header can hold at all: no line ends, and nothing that HTTP forbids.
header_value = st.binary(max_size=60).map(
    lambda sent: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", sent).strip()
)
header_name = st.sampled_from(
    (
        b"authorization",
        b"content-type",
        b"cookie",
        b"idempotency-key",
        b"origin",
        b"stripe-signature",
        b"webhook-id",
        b"webhook-signature",
        b"webhook-timestamp",
        b"x-forwarded-for",
        b"x-signature",
        b"x-write-key",
        b"x_odd!#$%&'*+.^`|~",
    )
)
signature = st.sampled_from(
    (
        b"t=1,v1=00",
        b"t=nan,v1=\xe9",
        b"t=inf,v1=",
        b"t=-1,v1=0,v1=1",
        b"v1,====",
        b"1e999",
        b"Basic \xff",
        b"Bearer ",
    )
)
headers = st.lists(st.tuples(header_name, st.one_of(header_value, signature)), max_size=6)


def send(
    url: httpx.URL, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> tuple[int, bytes]:
    """One request, written as it is given, on a connection of its own; status and body."""
    lines = [
        f"{method} {path} HTTP/1.1".encode(),
        b"host: doorbell",
        b"connection: close",
        b"content-length: %d" % len(body),
        *(name + b": " + value for name, value in headers),
    ]
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        received = bytearray()
        while chunk := connection.recv(65536):
            received += chunk
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), rest


async def test_the_edge_takes_everything_that_is_sent(bench: Bench) -> None:
    """Deliveries, tracking calls, calls with a source key, and those of reverse ETL tools."""
    open_to_all: dict[str, Any] = {"secret": None, "enforce_verification": False}
    custom = await bench.source("custom_http", **open_to_all)
    http = await bench.source("http", **open_to_all)
    stripe = await bench.source("stripe", enforce_verification=False)
    hooks = await bench.source("standard_webhooks")
    segment = await bench.source("segment", **open_to_all)
    called = await bench.source("hightouch", secret=None)
    environment = await issue_key(bench.runtime.settings, bench.environment, "tests")
    key, write_key = (await source_key(called)).encode(), segment.token.encode()
    as_source, as_writer = (b"authorization", b"Bearer " + key), (b"x-write-key", write_key)
    as_owner = (b"authorization", b"Bearer " + environment.encode())
    targets: list[tuple[str, str, tuple[bytes, bytes] | None]] = [
        *(("POST", each.path, None) for each in (custom, http, stripe, hooks, segment)),
        *(("POST", path, as_writer) for path in ("/v1/track", "/v1/batch", "/v1/i", "/api/s/s2s/import")),
        *(
            (method, path, as_source)
            for method, path in (
                ("PUT", "/v1/users/ada"),
                ("POST", "/v1/users/bulk/identify"),
                ("PUT", "/v1/objects/a/b%2F..%00"),
                ("POST", "/v1/workflows/hello/trigger"),
                ("POST", "/v1/audiences/trial/members"),
                ("POST", "/v1/integrations/hightouch/embedded-destination"),
            )
        ),
        ("POST", "/v1/integrations/census/custom-destination", as_owner),
    ]
    statuses: set[int] = set()

    def attack(method: str, path: str, credential: tuple[bytes, bytes] | None) -> None:
        @settings(quietly, max_examples=EDGE_EXAMPLES)
        @given(given=encoded, more=headers)
        def run(given: tuple[bytes | None, bytes], more: list[tuple[bytes, bytes]]) -> None:
            encoding, sent = given
            named = [] if encoding is None else [(b"content-encoding", encoding)]
            own = [] if credential is None else [credential]
            status, answer = send(bench.api.base_url, method, path, [*own, *named, *more], sent)
            statuses.add(status)
            check(status, answer, f"{method} {path} {more} {sent[:200]!r}")

        run()

    await asyncio.to_thread(lambda: [attack(*each) for each in targets])
    assert statuses >= {200, 204, 400, 401}, "some of it is taken, some refused"
    for source in (custom, http, stripe, hooks, segment, called):
        listed = await bench.api.get(
            f"/v1/sources/{source.key}/logs", params={"environment": bench.environment}
        )
        assert listed.status_code == 200, "whatever was stored can be shown"


async def test_heads_of_any_bytes_are_answered(bench: Bench) -> None:
    url = bench.api.base_url

    def attack(make: Callable[[bytes], bytes]) -> None:
        @settings(quietly, max_examples=EDGE_EXAMPLES)
        @given(junk=st.binary(min_size=1, max_size=80))
        def run(junk: bytes) -> None:
            with socket.create_connection((url.host, url.port), timeout=30) as connection:
                connection.sendall(make(junk))
                connection.shutdown(socket.SHUT_WR)
                received = bytearray()
                while chunk := connection.recv(65536):
                    received += chunk
            if received:
                head, _, rest = bytes(received).partition(b"\r\n\r\n")
                check(int(head.split(b" ", 2)[1]), rest, repr(junk))

        run()

    for make in (
        lambda junk: junk + b"\r\n\r\n",
        lambda junk: b"GET /" + junk + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        lambda junk: b"GET /livez HTTP/1.1\r\nconnection: close\r\nx: " + junk + b"\r\n\r\n",
        lambda junk: (
            b"POST /v1/track HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n" + junk
        ),
    ):
        await asyncio.to_thread(attack, make)


def test_the_strategies_reach_what_they_are_for() -> None:
    """Bodies that Python's JSON writes and the edge must not choke on are among those that are sent."""
    seen: list[bytes] = []

    @settings(quietly, max_examples=300)
    @given(sent=body)
    def gather(sent: bytes) -> None:
        seen.append(sent)

    gather()
    together = b"\n".join(seen)
    for part in (b"NaN", b"Infinity", b"\\ud", b"\\u0000", b"[" * 250, b"\xef\xbb\xbf"):
        assert part in together, part
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(b"NaN")
