"""More than Doorbell can take: rate limits, bounded queues, fair shares, and a database whose connections
break."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from temporalio.client import Client

from app.database.batching import MAXIMUM_BATCH_BYTES, Batcher, QueueFull
from app.events.event_log import MAXIMUM_CACHED, EventLog
from app.events.rate_limits import SourceRateLimits
from app.providers.registry import providers
from app.runtime.resources import Runtime
from app.sources.live import Endpoint
from app.worker.main import run_workers
from tests.bench import Bench
from tests.clock import Clock
from tests.servers import eventually


def limited(rate: int | None, source: str = "shop") -> Endpoint:
    return Endpoint(
        source_key=source,
        environment="development",
        provider=providers()["custom_http"],
        event_type_path=None,
        idempotency_key_path=None,
        timestamp_path=None,
        enforce_verification=False,
        enforce_idempotency=True,
        idempotency_window=timedelta(hours=24),
        start_unmapped=True,
        rate_limit_per_second=rate,
    )


def test_a_second_of_events_comes_in_and_then_the_rate() -> None:
    clock = Clock()
    limits = SourceRateLimits(clock)
    assert [limits.spend(limited(4)) for _ in range(4)] == [0.0] * 4
    assert limits.spend(limited(4)) == pytest.approx(0.25)
    clock.now += 0.125
    assert limits.spend(limited(4)) == pytest.approx(0.125)
    clock.now += 0.125
    assert limits.spend(limited(4)) == 0.0
    assert limits.spend(limited(4)) > 0
    # An hour of silence saves up no more than a second's worth.
    clock.now += 3600
    assert [limits.spend(limited(4)) > 0 for _ in range(5)] == [False] * 4 + [True]


def test_sources_do_not_share_their_limits_and_most_have_none() -> None:
    limits = SourceRateLimits(Clock())
    assert limits.spend(limited(1)) == 0.0
    assert limits.spend(limited(1)) > 0
    assert limits.spend(limited(1, "other")) == 0.0
    assert all(limits.spend(limited(None)) == 0.0 for _ in range(100))


def test_a_changed_rate_counts_at_once() -> None:
    limits = SourceRateLimits(Clock())
    assert [limits.spend(limited(10)) for _ in range(10)] == [0.0] * 10
    assert limits.spend(limited(2)) == pytest.approx(0.5)


async def test_over_the_rate_is_answered_429(edge_clock: Clock, bench: Bench) -> None:
    source = await bench.source("stripe", rate_limit_per_second=3)
    edge_clock.now += 1
    answers = await asyncio.gather(*(source.post(source.example("invoice.paid")) for _ in range(30)))
    refused = [each for each in answers if each.status_code == 429]
    assert len(refused) == 27
    for each in refused:
        assert int(each.headers["retry-after"]) >= 1
        assert each.json()["code"] == "rate_limited"
    rows = await bench.rows("SELECT status FROM events WHERE source_key = :key", key=source.key)
    assert len(rows) == 3, "a refused event leaves no row"


async def test_rate_limit_is_a_setting_of_the_source(bench: Bench) -> None:
    source = await bench.source("stripe")
    path, query = f"/v1/sources/{source.key}", {"environment": "development"}

    async def put(rate: object) -> tuple[int, object]:
        settings = {"development": {"settings": {"rate_limit_per_second": rate}}}
        answer = await bench.api.put(
            path, params=query, json={"source": {"name": "S", "environment_settings": settings}}
        )
        body = answer.json()
        if answer.status_code != 200:
            return answer.status_code, body["errors"][0]["field"]
        shown = body["source"]["environment_settings"]["development"]["settings"]
        return 200, shown["rate_limit_per_second"]

    assert await put(50) == (200, 50)
    assert await put(None) == (200, None)
    for wrong in (0, -1, 1.5, "5", 100_001):
        field = "source.environment_settings.development.settings.rate_limit_per_second"
        assert await put(wrong) == (422, field)


async def test_the_queue_is_bounded_in_bytes() -> None:
    gate = asyncio.Event()
    batches: list[list[int]] = []

    async def write(items: list[int]) -> Sequence[None]:
        batches.append(items)
        await gate.wait()
        return [None] * len(items)

    batcher = Batcher(write, maximum_bytes=100, weigh=lambda item: item)
    first = asyncio.create_task(batcher.submit(60))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(batcher.submit(40))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await batcher.submit(1)
    gate.set()
    await asyncio.gather(first, waiting)
    # One that is larger than the bound comes through alone.
    await batcher.submit(1000)
    assert batches == [[60], [40], [1000]]


async def test_bytes_of_items_whose_sender_left_are_given_back() -> None:
    gate = asyncio.Event()

    async def write(items: list[int]) -> Sequence[None]:
        await gate.wait()
        raise OperationalError("INSERT", {}, Exception("out"))

    batcher = Batcher(write, maximum_bytes=100, weigh=lambda item: item)
    left = [asyncio.create_task(batcher.submit(50)) for _ in range(2)]
    await asyncio.sleep(0)
    for each in left:
        each.cancel()
    gate.set()

    async def has_room() -> bool:
        try:
            await batcher.submit(100)
        except QueueFull:
            return False
        except OperationalError:
            return True
        return True

    await eventually(has_room)


async def test_a_batch_is_bounded_in_bytes() -> None:
    sizes: list[int] = []

    async def write(items: list[int]) -> Sequence[None]:
        sizes.append(sum(items))
        await asyncio.sleep(0)
        return [None] * len(items)

    batcher = Batcher(write, weigh=lambda item: item)
    await asyncio.gather(*(batcher.submit(MAXIMUM_BATCH_BYTES // 3) for _ in range(10)))
    assert max(sizes) <= MAXIMUM_BATCH_BYTES
    assert sum(sizes) == 10 * (MAXIMUM_BATCH_BYTES // 3)


async def test_a_batch_whose_connection_broke_is_sent_again(bench: Bench) -> None:
    """Senders do not notice that Postgres ended every connection, and each event is there once."""
    source = await bench.source("stripe")
    await asyncio.gather(*(source.send("invoice.paid") for _ in range(8)))
    async with bench.runtime.engine.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = "
                "'doorbell'"
            )
        )
    with suppress(OperationalError):
        # This process lost its connections too. The first use of one tells the pool.
        await bench.rows("SELECT 1")
    sent = await asyncio.gather(*(source.send("invoice.paid") for _ in range(8)))
    rows = await bench.rows("SELECT id FROM events WHERE source_key = :key", key=source.key)
    assert len(rows) == 16
    assert {UUID(each) for each in sent} <= {row["id"] for row in rows}


async def test_payloads_kept_in_memory_are_bounded_in_bytes(bench: Bench) -> None:
    source = await bench.source("stripe")
    filler = {"filler": "x" * 200_000}
    sent = [UUID(await source.send("invoice.paid", metadata=filler)) for _ in range(100)]
    events = EventLog(bench.runtime.engine, bench.runtime.box)
    for identifier in sent:
        assert (await events.load(identifier)).id == identifier
        assert events._loaded_bytes <= MAXIMUM_CACHED
    assert 0 < len(events._loaded) < 100


async def test_a_source_whose_actions_hang_leaves_slots_to_the_others(
    bench: Bench, runtime: Runtime, temporal: Client
) -> None:
    """A flood with every workflow waiting on a destination takes its share of the slots, not all."""
    mappings = {"order.paid": [("users_identify", {"id": "body.user"})]}
    noisy = await bench.source("custom_http", mappings=mappings, secret=None, enforce_verification=False)
    quiet = await bench.source("custom_http", mappings=mappings, secret=None, enforce_verification=False)
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO events (id, environment, source_key, event_type, status, verification_status, "
                "received_at) SELECT uuidv7(), :environment, :key, 'order.paid', 'received', "
                "'not_enforced:unverified', now() FROM generate_series(1, 300)"
            ),
            {"environment": bench.environment, "key": noisy.key},
        )
    few = replace(runtime, settings=runtime.settings.model_copy(update={"max_events_in_flight": 8}))
    async with run_workers(few, temporal, [bench.environment]):
        identifier = (await quiet.post(b'{"type":"order.paid","user":"u"}', {})).json()["id"]
        assert (await bench.final(identifier))["status"] == "succeeded"
        taken = await bench.rows(
            "SELECT count(*) AS n FROM events WHERE source_key = :key AND status = 'processing'",
            key=noisy.key,
        )
        assert taken[0]["n"] <= 4
        waiting = await bench.rows(
            "SELECT count(*) AS n FROM events WHERE source_key = :key AND status = 'received'", key=noisy.key
        )
        assert waiting[0]["n"] > 100
