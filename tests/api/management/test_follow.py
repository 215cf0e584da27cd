"""The log followed live, over HTTP: entries as they arrive and change, resumption, heartbeats, a clean
end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from app.api.management import follow
from app.logs import listing as logs
from tests.api.management.conftest import fields
from tests.bench import Bench, BenchSource
from tests.servers import eventually


@pytest.fixture
async def source(bench: Bench) -> BenchSource:
    return await bench.source("stripe")


class Stream:
    """An open stream of server-sent events."""

    def __init__(self, response: httpx.Response) -> None:
        self.lines = response.aiter_lines()

    async def line(self, start: str, deadline: float = 60.0) -> str:
        """The next line that starts so."""
        async with asyncio.timeout(deadline):
            async for each in self.lines:
                if each.startswith(start):
                    return each.removeprefix(start)
        raise AssertionError("the stream ended")

    async def entry(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(await self.line("data: "))
        return found


@asynccontextmanager
async def following(source: BenchSource, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    path = f"/v1/sources/{source.key}/logs/stream?environment={source.bench.environment}{query}"
    async with source.bench.api.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = Stream(response)
        await stream.line(": following")
        yield stream


@pytest.mark.usefixtures("worker")
async def test_entries_arrive_and_change(source: BenchSource) -> None:
    await source.send("invoice.paid")
    async with following(source) as stream:
        sent = await source.send("invoice.paid")
        seen = [await stream.entry()]
        while seen[-1]["status"] in ("received", "processing"):
            seen.append(await stream.entry())
        assert {each["id"] for each in seen} == {sent}, "what came before is not shown"
        assert seen[-1]["status"] == "succeeded"
        assert seen[-1]["event"] == "invoice.paid"


async def test_a_stream_goes_on_where_it_broke_off(source: BenchSource) -> None:
    first, second, third = [await source.send("invoice.paid") for _ in range(3)]
    async with following(source, **{"last-event-id": first}) as stream:
        assert [(await stream.entry())["id"] for _ in range(2)] == [second, third]


async def test_more_than_one_look_brings(source: BenchSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAXIMUM_CHANGES", 3)
    sent = [await source.send("invoice.paid") for _ in range(10)]
    async with following(source, **{"last-event-id": sent[0]}) as stream:
        seen = [(await stream.entry())["id"] for _ in range(9)]
    assert seen == sent[1:]


async def test_filters_hold_for_the_stream(source: BenchSource) -> None:
    async with following(source, "&event=invoice.paid") as stream:
        await source.send("invoice.paid", type="charge.refunded")
        wanted = await source.send("invoice.paid")
        assert (await stream.entry())["id"] == wanted


async def test_all_sources_are_followed_too(source: BenchSource) -> None:
    path = f"/v1/logs/stream?environment={source.bench.environment}"
    async with source.bench.api.stream("GET", path) as response:
        stream = Stream(response)
        await stream.line(": following")
        sent = await source.send("invoice.paid")
        assert (await stream.entry())["id"] == sent


async def test_heartbeats_and_a_clean_end(source: BenchSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "HEARTBEAT_INTERVAL", 0.1)
    monkeypatch.setattr(follow, "POLL_INTERVAL", 0.02)
    async with following(source) as stream:
        for _ in range(3):
            await stream.line(": alive")
        assert len(follow._streams) == 1
    await eventually(lambda: not follow._streams)


async def test_streams_hold_no_database_connections(source: BenchSource) -> None:
    """More streams than the process has connections, and it still answers."""
    streams = [following(source) for _ in range(14)]
    for each in streams:
        await each.__aenter__()
    try:
        answer = await asyncio.wait_for(source.bench.api.get("/v1/sources"), 60)
        assert answer.status_code == 200
    finally:
        for each in streams:
            await each.__aexit__(None, None, None)


async def test_streams_that_are_refused(source: BenchSource, monkeypatch: pytest.MonkeyPatch) -> None:
    api = source.bench.api
    assert fields(await api.get(f"/v1/sources/{source.key}/logs/stream")) == ["environment"]
    missing = await api.get("/v1/sources/none/logs/stream?environment=development")
    assert missing.status_code == 404
    monkeypatch.setattr(follow, "MAXIMUM_STREAMS", 0)
    busy = await api.get("/v1/logs/stream?environment=development")
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
