"""How long a source that floods holds up another source's single event.

    python -m bench.fairness --events 50000 --samples 10

A Postgres, a Temporal and one worker process of its own. The flood waits in the event log when the worker
starts; then single events of the quiet source come, a second after the last was finished. Each one's time is
from its receipt to the recorded outcome of its action. The same is measured first on the idle system.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path

import orjson
import psutil  # type: ignore[import-untyped]
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

ROOT = Path(__file__).parents[1]
ENVIRONMENT = "development"
BODY = orjson.dumps({"type": "order.paid", "user": "user_1", "filler": "x" * 1000})


async def main(events: int, samples: int) -> None:
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
                await measure(runtime, events, samples)
        finally:
            temporal.stop()
            postgres.stop()


async def measure(runtime: Runtime, events: int, samples: int) -> None:
    await add_sources(runtime)
    worker = await start_worker(runtime.settings)
    try:
        say("idle", await singles(runtime, samples))
        await flood(runtime, events)
        memory = psutil.Process(worker.pid).memory_info
        before = memory().rss
        say(f"{events:,} events of another source waiting", await singles(runtime, samples))
        left = await count(runtime, "source_key = 'noisy' AND status = 'received'")
        print(f"still waiting at the end: {left:,} of {events:,}")  # noqa: T201
        print(f"worker memory: {before / 2**20:.0f} MB before, {memory().rss / 2**20:.0f} MB after")  # noqa: T201
    finally:
        worker.terminate()
        await worker.wait()


async def add_sources(runtime: Runtime) -> None:
    """Two sources with one action each, against the embedded directory."""
    async with AsyncSession(runtime.engine) as session:
        for key in ("noisy", "quiet"):
            session.add(Source(key=key, name=key, provider="custom_http"))
            await session.flush()
            configured = SourceEnvironment(
                source_key=key,
                environment=ENVIRONMENT,
                endpoint_token=key,
                event_type_path="body.type",
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


async def start_worker(settings: Settings) -> asyncio.subprocess.Process:
    assert settings.database_url
    assert settings.secret_key
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "worker.py", "--environment", ENVIRONMENT),
        cwd=ROOT,
        env={
            **os.environ,
            "DOORBELL_DATABASE_URL": settings.database_url,
            "DOORBELL_TEMPORAL_ADDRESS": settings.temporal_address or "",
            "DOORBELL_SECRET_KEY": settings.secret_key.get_secret_value(),
            "DOORBELL_LOG_LEVEL": "ERROR",
        },
        stdout=asyncio.subprocess.DEVNULL,
    )


async def flood(runtime: Runtime, events: int) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "WITH flooded AS (INSERT INTO events (id, environment, source_key, event_type, status, "
                "verification_status, received_at) SELECT uuidv7(), :environment, 'noisy', 'order.paid', "
                "'received', 'not_enforced:unverified', now() FROM generate_series(1, :events) RETURNING id) "
                "INSERT INTO event_payloads (id, body, headers) SELECT id, :body, '{}' FROM flooded"
            ),
            {"environment": ENVIRONMENT, "events": events, "body": BODY},
        )
        await connection.execute(text("SELECT pg_notify('doorbell_events', :e)"), {"e": ENVIRONMENT})
    # Until the worker is as busy as it gets.
    while await count(runtime, "source_key = 'noisy' AND status = 'succeeded'") < min(200, events // 2):  # noqa: ASYNC110 (another process does it)
        await asyncio.sleep(0.1)


async def singles(runtime: Runtime, samples: int) -> list[float]:
    """The seconds that each of some single events took."""
    inbox = Inbox(runtime.engine, maximum_queued=10, maximum_bytes=2**20)
    endpoint = runtime.configuration.endpoint(ENVIRONMENT, "quiet")
    assert endpoint is not None
    took = []
    # One more, first, that finds everything cold.
    for _ in range(samples + 1):
        event = await receive_event(endpoint, BODY, {}, runtime.box, runtime.scripts)
        assert isinstance(event, ReceivedEvent)
        await inbox.accept(event)
        while not await count(runtime, f"id = '{event.id}' AND status = 'succeeded'"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        async with runtime.engine.connect() as connection:
            finished = await connection.scalar(
                text("SELECT finished_at FROM events WHERE id = :id"), {"id": event.id}
            )
        took.append((finished - event.received_at).total_seconds())
        await asyncio.sleep(1)
    return took[1:]


async def count(runtime: Runtime, condition: str) -> int:
    async with runtime.engine.connect() as connection:
        found: int = await connection.scalar(text(f"SELECT count(*) FROM events WHERE {condition}"))
        return found


def say(what: str, took: list[float]) -> None:
    print(f"{what}: median {statistics.median(took):.3f} s, longest {max(took):.3f} s")  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--samples", type=int, default=10)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.events, arguments.samples))
