"""What ordering keys cost.

    python -m bench.ordering --events 1000 --hot 100 --others 10000

A Postgres, a Temporal and one worker process of its own, against the embedded directory. Prints how many
events are accepted and processed in a second with keys that are all different, without and with an ordering
key (in turns, because the machine is never the same twice); how long a number of events of one key takes in a
row; and how both go on beside each other.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import uvloop
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.settings import Settings
from app.database.engine import upgrade
from app.events.inbox import Inbox
from app.events.reception import ReceivedEvent, receive_event
from app.models.source import Mapping, Source, SourceEnvironment
from app.runtime.resources import Runtime, open_runtime
from app.stack.postgres import EmbeddedPostgres
from app.stack.temporal import EmbeddedTemporal
from bench.fairness import ENVIRONMENT, start_worker

FILLER = "x" * 1000
PATHS = {"unordered": None, "ordered": "body.user"}


async def main(chosen: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="doorbell-bench-") as directory:
        postgres = EmbeddedPostgres(Path(directory) / "postgres")
        temporal = EmbeddedTemporal(Path(directory) / "temporal", port=0, headless=True)
        os.chmod(directory, 0o711)
        try:
            temporal.launch()
            postgres.start()
            upgrade(postgres.url("postgres"))
            temporal.wait_until_ready()
            settings = Settings(
                _env_file=None,
                database_url=postgres.url("postgres"),
                temporal_address=temporal.address,
                secret_key=SecretStr(Fernet.generate_key().decode()),
            )
            async with open_runtime(settings) as runtime:
                await measure(runtime, chosen)
        finally:
            temporal.stop()
            postgres.stop()


async def measure(runtime: Runtime, chosen: argparse.Namespace) -> None:
    await add_sources(runtime)
    for number in range(chosen.rounds):
        for source in PATHS:
            events = await make(runtime, source, [f"a{number}_{each}" for each in range(4 * chosen.events)])
            say(f"accepting, distinct keys, {source}", len(events), await accept(runtime, events))
    await clear(runtime)
    worker = await start_worker(runtime.settings)
    try:
        await process(runtime, "unordered", ["warm"] * 50)
        for number in range(chosen.rounds):
            for source in PATHS:
                keys = [f"p{number}_{each}" for each in range(chosen.events)]
                say(f"processing, distinct keys, {source}", len(keys), await process(runtime, source, keys))
        say("one key, in a row", chosen.hot, await process(runtime, "ordered", ["hot"] * chosen.hot))
        others = [f"o_{each}" for each in range(chosen.others)]
        hot = await make(runtime, "ordered", ["hot"] * chosen.hot)
        began = time.monotonic()
        await accept(runtime, [*hot, *await make(runtime, "unordered", others)])
        await finished(runtime, [each.id for each in hot])
        say(f"one key beside {chosen.others:,} others: the key", chosen.hot, time.monotonic() - began)
        await finished(runtime, None)
        say(f"one key beside {chosen.others:,} others: all", chosen.others, time.monotonic() - began)
    finally:
        worker.terminate()
        await worker.wait()


async def add_sources(runtime: Runtime) -> None:
    """Two sources with one action each."""
    async with AsyncSession(runtime.engine) as session:
        for key, path in PATHS.items():
            session.add(Source(key=key, name=key, provider="custom_http"))
            await session.flush()
            configured = SourceEnvironment(
                source_key=key,
                environment=ENVIRONMENT,
                endpoint_token=key,
                event_type_path="body.type",
                ordering_key_path=path,
                enforce_verification=False,
            )
            session.add(configured)
            await session.flush()
            session.add(
                Mapping(
                    source_environment_id=configured.id,
                    event_type="order.paid",
                    action_type="users_identify",
                    action_parameters={"id": "body.user"},
                )
            )
        await session.commit()
    await runtime.configuration.refresh()


async def make(runtime: Runtime, source: str, users: Sequence[str]) -> list[ReceivedEvent]:
    endpoint = runtime.configuration.endpoint(ENVIRONMENT, source)
    assert endpoint is not None
    events = []
    for user in users:
        body = orjson.dumps({"type": "order.paid", "user": user, "filler": FILLER})
        event = await receive_event(endpoint, body, {}, runtime.box, runtime.scripts)
        assert isinstance(event, ReceivedEvent)
        events.append(event)
    return events


async def accept(runtime: Runtime, events: Sequence[ReceivedEvent]) -> float:
    """The seconds until all are committed, 64 at a time."""
    inbox = Inbox(runtime.engine, maximum_queued=len(events), maximum_bytes=2**30)
    waiting = iter(events)

    async def connection() -> None:
        for event in waiting:
            await inbox.accept(event)

    began = time.monotonic()
    await asyncio.gather(*(connection() for _ in range(64)))
    return time.monotonic() - began


async def process(runtime: Runtime, source: str, users: Sequence[str]) -> float:
    """The seconds until all are finished."""
    events = await make(runtime, source, users)
    began = time.monotonic()
    await accept(runtime, events)
    await finished(runtime, None)
    return time.monotonic() - began


async def finished(runtime: Runtime, ids: Sequence[object] | None) -> None:
    """Wait until these events are over, or all."""
    query = text(
        "SELECT count(*) FROM events WHERE status IN ('received', 'processing') "
        "AND (CAST(:ids AS uuid[]) IS NULL OR id = ANY(:ids))"
    )
    while True:
        async with runtime.engine.connect() as connection:
            if await connection.scalar(query, {"ids": ids}) == 0:
                return
        await asyncio.sleep(0.1)


async def clear(runtime: Runtime) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(text("TRUNCATE events, event_payloads, ordering_turns"))


def say(what: str, events: int, seconds: float) -> None:
    print(f"{what}: {events:,} in {seconds:.2f} s, {events / seconds:,.0f}/s", flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--hot", type=int, default=100)
    parser.add_argument("--others", type=int, default=10_000)
    uvloop.run(main(parser.parse_args()))
