"""How long the server takes for every page of the dashboard with a million events in the log.

    python -m bench.pages [--events 1000000] [--recent 20000] [--repeats 15] [--directory DIR] [--value NAME=VALUE]

Walks the routes that are registered; parameters of paths get ids that are there. The time is that from the request to
the first byte of the answer, over HTTP on loopback, with an API process that has answered each page once. Streams are
measured to their beginning. Prints also how long counting the statistics of the whole log took.
"""

import argparse
import asyncio
import json
import re
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from fastapi.routing import APIRoute
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import create_async_engine

from app.api.dashboard.routes import ROUTERS
from app.models.types import now, time_of
from app.rollup import roll_up
from bench.listing import SOURCES, fill
from bench.stack import ENVIRONMENT, TOKEN, Stack

TARGET_MS = 300
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
# Besides the page as it is opened: what of its address changes what is read.
QUERIES: dict[str, tuple[dict[str, str], ...]] = {
    "/": ({"range": "hour"}, {"range": "week"}, {"range": "month"}),
    "/logs": (
        {"status": "failed", "period": "30d"},
        {"source": "busy", "event": "type.3"},
        {"action_type": "users_identify"},
    ),
}

# Events of the last hour, as many as a busy source has: what is read anew each time is in it.
_RECENT = """
INSERT INTO events (id, environment, source_key, event_type, idempotency_key, status, verification_status, received_at,
                    finished_at)
SELECT uuidv7(age), 'production', CASE WHEN n %% 5 = 0 THEN 'open' ELSE 'busy' END, 'type.' || n %% 9, 'recent-' || n,
       CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'succeeded' END, 'enforced:verified', now() + age,
       now() + age + random() * interval '200 ms'
FROM generate_series(1, %(events)s) AS n, LATERAL (SELECT (n - %(events)s) * %(step)s AS age) AS moment
"""
_RECENT_ACTIONS = """
INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, payload, status, error, attempts,
                     started_at, finished_at)
SELECT (left(id::text, 13) || '-7' || substr(m, 1, 3) || '-8' || substr(m, 4, 3) || '-' || substr(m, 7, 12))::uuid,
       id, id, 'users_identify', '{}', '{"id": "user"}', status,
       CASE WHEN status = 'failed' THEN '422 invalid_params: email is not an address' END, 1, received_at, finished_at
FROM events, LATERAL (SELECT md5(id::text) AS m) AS random WHERE idempotency_key LIKE 'recent-%'
"""


def add_recent(stack: Stack, events: int) -> None:
    """Many events within the last hour."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(_RECENT, {"events": events, "step": timedelta(hours=1) / max(events, 1)})
        connection.execute(_RECENT_ACTIONS.encode())
        connection.execute("ANALYZE events")
        connection.execute("ANALYZE actions")


async def count_statistics(stack: Stack) -> float:
    """Roll up the whole log; seconds."""
    engine = create_async_engine(stack.database_url.replace("postgresql:", "postgresql+psycopg:"))
    began = time.perf_counter()
    try:
        while not stack.query("SELECT FROM statistics_progress") or time_of(
            stack.query("SELECT next_id FROM statistics_progress")[0][0]
        ) < now() - timedelta(minutes=3):
            await roll_up(engine)
    finally:
        await engine.dispose()
    return time.perf_counter() - began


def addresses(values: dict[str, str]) -> list[tuple[str, str, dict[str, str]]]:
    """Every page: its route, its path with real ids, and its query. A path is empty when a value for it is missing."""
    paths = {
        route.path
        for each in ROUTERS
        for route in each.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }
    found = []
    for path in sorted(paths):
        missing = [name for name in _PARAMETER.findall(path) if name not in values]
        filled = "" if missing else _PARAMETER.sub(lambda match: values[match[1]], path)
        found += [(path, filled, query) for query in ({}, *QUERIES.get(path, ()))]
    return found


def measure(client: httpx.Client, path: str, query: dict[str, str], repeats: int) -> dict[str, Any]:
    """Milliseconds to the first byte, and the status."""
    times = []
    status = 0
    for number in range(repeats + 1):
        began = time.perf_counter()
        with client.stream("GET", path, params={"environment": ENVIRONMENT, **query}) as answer:
            status = answer.status_code
            is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
            if not is_stream:
                answer.read()
        if number:
            times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return {"status": status, "p50": times[len(times) // 2], "max": times[-1]}


def connect_sources(client: httpx.Client) -> None:
    """The sources that the filler's events are of."""
    for key in filter(None, SOURCES):
        source = {"source": {"name": key, "preconfigured_provider": "stripe"}}
        answer = client.put(
            f"/v1/sources/{key}",
            params={"environment": ENVIRONMENT},
            json=source,
            headers={"authorization": f"Bearer {TOKEN}"},
        )
        answer.raise_for_status()


def real_values(stack: Stack) -> dict[str, str]:
    """What parameters of paths may be: a source, and an event that failed."""
    event = stack.query(
        "SELECT id FROM events WHERE environment = 'production' AND source_key = 'busy' "
        "AND status = 'failed' ORDER BY id DESC LIMIT 1"
    )[0][0]
    names = ("event_id", "identifier", "id", "log_id")
    return {"key": "busy", "provider": "stripe", **dict.fromkeys(names, str(event))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--recent", type=int, default=20_000, help="further events within the last hour")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--directory", type=Path, help="where to keep the servers' data for a next run")
    parser.add_argument("--value", action="append", default=[], help="NAME=VALUE of a parameter of paths")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    chosen = parser.parse_args()
    console = Console()
    figures: dict[str, dict[str, Any]] = {}
    missing = []
    with (
        tempfile.TemporaryDirectory(prefix="doorbell-bench-") as directory,
        Stack(chosen.directory or Path(directory)) as stack,
    ):
        stack.start_api()
        with httpx.Client(base_url=stack.url, timeout=60) as client:
            connect_sources(client)
            if not stack.query("SELECT FROM events LIMIT 1"):
                began = time.perf_counter()
                fill(stack, chosen.events)
                add_recent(stack, chosen.recent)
                console.print(f"{chosen.events} events written in {time.perf_counter() - began:.0f} s")
            seconds = asyncio.run(count_statistics(stack))
            rows = stack.query("SELECT resolution, count(*) FROM statistics GROUP BY 1 ORDER BY 1")
            console.print(
                f"statistics of the whole log counted in {seconds:.1f} s: rows by resolution {rows}"
            )
            client.post(
                "/login",
                data={"token": TOKEN},
                headers={"origin": stack.url, "sec-fetch-site": "same-origin"},
            )
            values = {**real_values(stack), **dict(each.split("=", 1) for each in chosen.value)}
            for route, path, query in addresses(values):
                name = route + (
                    "?" + "&".join(f"{key}={value}" for key, value in query.items()) if query else ""
                )
                if not path:
                    missing.append(name)
                    continue
                figures[name] = measure(client, path, query, chosen.repeats)
    show(figures, missing, console)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


def show(figures: dict[str, dict[str, Any]], missing: list[str], console: Console) -> None:
    table = Table("page", "status", "p50 ms", "highest ms")
    for name, each in figures.items():
        table.add_row(name, str(each["status"]), f"{each['p50']:.1f}", f"{each['max']:.1f}")
    console.print(table)
    slow = [name for name, each in figures.items() if each["max"] > TARGET_MS]
    console.print(f"{len(figures) - len(slow)} of {len(figures)} pages took at most {TARGET_MS} ms each time")
    for name in missing:
        console.print(f"not measured, a value of its path is missing (--value): {name}")


if __name__ == "__main__":
    main()
