"""The bounds of the edge, each with its answer: heads, depth, batches, what gzip hides, values that cannot be
stored."""

import asyncio
import gzip
import zlib
from contextlib import suppress
from typing import Any, Self

import httpx
import orjson
import pytest

from app.api import protocol
from app.api.protocol import MAXIMUM_HEAD_BYTES, MAXIMUM_HEADERS
from app.core.raw_json import MAXIMUM_DEPTH
from app.events import reception
from app.events.reception import MAXIMUM_EVENTS
from tests.bench import Api, Bench
from tests.servers import eventually

CHUNKED = "POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"


class Socket:
    """A connection on which bytes are sent as they are."""

    def __init__(self, api: Api) -> None:
        self._url = api.base_url

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._url.host, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def answer(self, *parts: str | bytes) -> tuple[int, dict[str, Any]]:
        """Send, and read one answer."""
        for part in parts:
            self.writer.write(part if isinstance(part, bytes) else part.encode())
        async with asyncio.timeout(60):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            return int(head.split(b" ")[1]), orjson.loads(await self.reader.readexactly(length))

    async def is_closed(self) -> bool:
        async with asyncio.timeout(60):
            return await self.reader.read() == b""


def too_large(answer: tuple[int, dict[str, Any]]) -> None:
    status, body = answer
    assert (status, body["status"], body["code"]) == (431, 431, "headers_too_large")
    assert str(MAXIMUM_HEADERS) in body["message"]
    assert str(MAXIMUM_HEAD_BYTES) in body["message"]


async def test_heads_are_bounded(bench: Bench) -> None:
    api, source = bench.api, await bench.source("http", secret=None)
    start = "GET /livez HTTP/1.1\r\nhost: x\r\n"
    many = "".join(f"x-{number}: 1\r\n" for number in range(MAXIMUM_HEADERS))
    long = "a" * MAXIMUM_HEAD_BYTES
    endless = CHUNKED.format(path=source.path) + "\r\n"
    for sent in (
        start + many + "\r\n",
        f"{start}x: {long}\r\n\r\n",
        f"GET /{long} HTTP/1.1\r\n",
        f"{start}x: {long}",
        start + long,
    ):
        async with Socket(api) as socket:
            too_large(await socket.answer(sent))
            assert await socket.is_closed()
    # Longer than what is read at once. A sender that still sends may not get to read the answer.
    for sent in (f"{endless}1;{long * 6}", f"{endless}1\r\nx\r\n0\r\nx: {long * 6}"):
        async with Socket(api) as socket:
            with suppress(ConnectionResetError):
                too_large(await socket.answer(sent))
                assert await socket.is_closed()
            assert socket.reader.at_eof() or socket.reader.exception()
    async with Socket(api) as socket:
        status, body = await socket.answer("GARBAGE\r\n\r\n")
        assert (status, body["code"]) == (400, "invalid_request")
    allowed = "".join(f"x-{number}: 1\r\n" for number in range(MAXIMUM_HEADERS - 1))
    async with Socket(api) as socket:
        for _ in range(2):
            assert (await socket.answer(start + allowed + "\r\n"))[0] == 200


async def test_a_head_that_trickles_in_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "HEAD_TIMEOUT", 0.2)
        async with Socket(api) as silent, Socket(api) as slow:
            slow.writer.write(b"GET /livez HTTP/1.1\r\nhost:")
            assert await silent.is_closed()
            assert await slow.is_closed()
    async with Socket(api) as socket:
        assert (await socket.answer("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"))[0] == 200


async def test_trailers_are_not_headers(bench: Bench) -> None:
    """What comes after a body is not among the headers that a signature or key is read from."""
    source = await bench.source("http", secret=None, enforce_verification=False)
    async with Socket(bench.api) as socket:
        body = b'{"type": "a"}'
        socket.writer.write(CHUNKED.format(path=source.path).encode() + b"\r\n")
        socket.writer.write(b"%x\r\n%s\r\n0\r\nx-late: 1\r\n\r\n" % (len(body), body))
        async with asyncio.timeout(60):
            assert b" 204 " in await socket.reader.readline()
    rows = await bench.rows("SELECT headers FROM event_payloads")
    assert "x-late" not in rows[-1]["headers"]


def nested(levels: int) -> bytes:
    """An object nested this deep."""
    return b'{"type":"a","x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


async def test_depth_is_bounded(bench: Bench) -> None:
    plain = await bench.source("custom_http", secret=None, enforce_verification=False)
    tracking = await bench.source("segment", secret=None)

    async def statuses(body: bytes) -> list[int]:
        answers = [
            await plain.post(body, {}),
            await bench.api.post("/v1/track", content=body, headers={"x-write-key": tracking.token}),
        ]
        for refused in (each.json() for each in answers if each.status_code != 200):
            if MAXIMUM_DEPTH < body.count(b"[") < 1000:
                assert refused["code"] == "json_too_deep"
                assert refused["message"] == f"the body is nested more than {MAXIMUM_DEPTH} levels deep"
        return [each.status_code for each in answers]

    assert await statuses(nested(MAXIMUM_DEPTH)) == [200, 200]
    assert await statuses(nested(MAXIMUM_DEPTH + 1)) == [400, 400]
    assert await statuses(nested(2000)) == [400, 400]
    wide = orjson.dumps({"type": "a", "x": [[] for _ in range(1000)]})
    assert await statuses(wide) == [200, 200], "what is wide is not deep"


async def test_batches_are_bounded(bench: Bench) -> None:
    source = await bench.source("segment", secret=None, enforce_verification=False)
    too_many = b"[" + b",".join([b'{"type":"track"}'] * (MAXIMUM_EVENTS + 1)) + b"]"
    answer = await source.post(too_many, {})
    assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")
    assert str(MAXIMUM_EVENTS) in answer.json()["message"]


def without_end() -> bytes:
    """Gzipped data that comes to nothing, however long it is."""
    compress = zlib.compressobj(wbits=31)
    return compress.compress(b"") + compress.flush(zlib.Z_SYNC_FLUSH) + b"\x00\x00\x00\xff\xff" * 400_000


async def test_what_gzip_hides_is_bounded(bench: Bench) -> None:
    source = await bench.source("custom_http", secret=None, enforce_verification=False)
    body = gzip.compress(b'{"type": "a"}')
    for sent, status, code in (
        (body + b"x", 400, "invalid_encoding"),
        (body + body, 400, "invalid_encoding"),
        (without_end(), 413, "body_too_large"),
    ):
        answer = await source.post(sent, {"content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await source.post(body, {"content-encoding": "gzip"})).status_code == 200


async def test_one_value_that_cannot_be_stored_fails_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind all validation: it shares its statement with others, and takes none of them along."""
    monkeypatch.setattr(reception, "_is_name", lambda value: isinstance(value, str))
    source = await bench.source("custom_http", secret=None, enforce_verification=False)

    async def post(event_type: str) -> httpx.Response:
        return await source.post(orjson.dumps({"type": event_type}), {})

    answers = await asyncio.gather(*(post("a\x00b" if each == 20 else f"type-{each}") for each in range(40)))
    refused = answers.pop(20)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_event")
    assert [each.status_code for each in answers] == [200] * 39

    async def stored() -> bool:
        rows = await bench.rows("SELECT count(*) FROM events WHERE source_key = :key", key=source.key)
        return bool(rows[0]["count"] == 39)

    await eventually(stored)
    batch = [{"type": "track", "event": "a\x00b"}, {"type": "track", "event": "b"}]
    tracking = await bench.source("segment", secret=None)
    answer = await bench.api.post("/v1/batch", json={"batch": batch}, headers={"x-write-key": tracking.token})
    assert answer.status_code in (200, 400), "a batch is taken or refused whole"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("PUT /v1/sources/x?environment=development", 401),
        ("PUT /v1/workflows/x?environment=development", 401),
        ("PUT /v1/users/x", 401),
        ("POST /v1/workflows/x/trigger", 401),
        ("POST /v1/users/bulk/identify", 401),
        ("POST /v1/integrations/census/custom-destination", 401),
        ("POST /v1/users/bulk/identify\r\nauthorization: Bearer dbl_src_nothing", 401),
        ("PUT /v1/users/x\r\nauthorization: Bearer sk_nothing", 401),
        ("PUT /v1/sources/x\r\nauthorization: Bearer dbl_st_nothing", 401),
        ("POST /v1/track\r\nx-write-key: nothing", 401),
        ("POST /integrations/receive/nothing", 404),
    ],
)
async def test_nothing_of_a_body_is_read_before_the_caller_is_known(
    bench: Bench, head: str, status: int
) -> None:
    """The headers alone are answered, although a large body is announced and never comes."""
    # Until it has loaded its sources, the API answers 503.
    await bench.source("http", secret=None)
    line, _, credentials = head.partition("\r\n")
    for length in (15_000_000, 400):
        async with Socket(bench.api) as socket:
            extra = f"{credentials}\r\n" if credentials else ""
            answer, _ = await socket.answer(
                f"{line} HTTP/1.1\r\nhost: x\r\n{extra}content-length: {length}\r\n\r\n{{"
            )
            assert answer == status


async def test_what_says_beforehand_that_it_is_too_large_is_not_read(api: Api) -> None:
    async with Socket(api) as socket:
        credentials = api.headers["authorization"]
        status, body = await socket.answer(
            "PUT /v1/sources/x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n"
            f"authorization: {credentials}\r\n\r\n"
        )
        assert (status, body["code"]) == (413, "request_too_large")


async def test_a_body_that_stalls_or_trickles_in_is_cut_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = await bench.source("http", secret=None, enforce_verification=False)
    head = f"POST {source.path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    monkeypatch.setattr(protocol, "BODY_PAUSE", 0.2)
    async with Socket(bench.api) as socket:
        status, body = await socket.answer(head, "{")
        assert (status, body["code"]) == (408, "body_timeout")
        assert await socket.is_closed()
    monkeypatch.setattr(protocol, "BODY_TIMEOUT", 0.5)
    async with Socket(bench.api) as socket:
        socket.writer.write(head.encode())

        async def trickle() -> None:
            while True:
                socket.writer.write(b" ")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        status, body = await socket.answer()
        assert (status, body["code"]) == (408, "body_timeout")
        trickling.cancel()


async def test_a_caller_who_hangs_up_is_one_line_in_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = api.headers["authorization"]
    with caplog.at_level("INFO"):
        async with Socket(api) as socket:
            socket.writer.write(
                "PUT /v1/sources/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
                f"authorization: {credentials}\r\n\r\n{{".encode()
            )
            await socket.writer.drain()

        async def lines() -> list[Any]:
            return [each for each in caplog.records if each.getMessage() == "client_disconnected"]

        [line] = await eventually(lines)
    assert line.exc_info is None
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_a_large_body_is_parsed_off_the_loop(api: Api) -> None:
    """And what cannot be stored is found in it: depth, U+0000."""
    for body, code in (
        (b'{"source": ' + b"[" * 1020 + b'"\\u0000"' + b"]" * 1020 + b"}", "invalid_params"),
        (b'{"source": {"name": "\\u0000", "x": [' + b"[]," * 100_000 + b"1]}}", "invalid_params"),
        (b"{" + b" " * 500_000, "invalid_json"),
    ):
        answer = await api.put("/v1/sources/x", params={"environment": "development"}, content=body)
        assert answer.json()["code"] == code, answer.text
