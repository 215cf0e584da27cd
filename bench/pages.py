"""How long the server takes for every page of the dashboard with a million events in the log.

    python -m bench.pages [--events 1000000] [--recent 20000] [--repeats 15] [--directory DIR]

Walks the routes that are registered; parameters of paths get ids that are there. The user that is opened is
the one that every action of the filler is about. The time is that from the request to the first byte of the
answer, over HTTP on loopback, with an API process that has answered each page once. Streams are measured to
their beginning. Prints also how long counting the statistics of the whole log took.
"""

import argparse
import asyncio
import json
import re
import tempfile
import time
from collections import ChainMap
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
from fastapi.routing import APIRoute
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import create_async_engine

from app.api.dashboard.routes import ROUTERS
from app.logs.rollup import roll_up
from app.models.types import now, time_of
from bench.listing import SOURCES, fill
from bench.stack import ENVIRONMENT, TOKEN, Stack, wait

TARGET_MS = 300
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
# What of a page's address changes what is read, or is needed.
QUERIES: dict[str, tuple[dict[str, str], ...]] = {
    "/": ({}, {"range": "hour"}, {"range": "week"}, {"range": "month"}),
    "/logs": (
        {},
        {"status": "failed", "period": "30d"},
        {"source": "busy", "event": "type.3"},
        {"action_type": "users_identify"},
    ),
    # Every action of the filler is about the first one, none about the second.
    "/directory/touches": tuple({"collection": "$users", "id": each} for each in ("user", "nobody")),
    "/sources/{key}/settings/promotion": ({"to": "development"},),
    "/sources/{key}/setup/stream": ({"since": str(UUID(int=0))},),
}

# Events of the last hour, as many as a busy source has: what is read anew each time is in it.
_RECENT = """
INSERT INTO events (id, environment, source_key, event_type, idempotency_key, status, verification_status,
  received_at,
                    finished_at)
SELECT uuidv7(age), 'production', CASE WHEN n %% 5 = 0 THEN 'open'
  ELSE 'busy' END, 'type.' || n %% 9, 'recent-' || n,
       CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'succeeded' END, 'enforced:verified', now() + age,
       now() + age + random() * interval '200 ms'
FROM generate_series(1, %(events)s) AS n, LATERAL (SELECT (n - %(events)s) * %(step)s AS age) AS moment
"""
_RECENT_ACTIONS = """
INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, payload, status, error, attempts,
                     started_at, finished_at, environment, source_key)
SELECT (left(id::text, 13) || '-7' || substr(m, 1, 3) || '-8' || substr(m, 4, 3) || '-' || substr(m, 7,
  12))::uuid,
       id, id, 'users_identify', '{}', '{"id": "user"}', status,
       CASE WHEN status = 'failed' THEN '422 invalid_params: email is not an address' END, 1, received_at,
         finished_at,
       environment, source_key
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


def addresses(rows: dict[str, dict[str, str]]) -> list[tuple[str, str, dict[str, str]]]:
    """Every page: its route, its path with real ids, and its query. `rows`: the values of parameters, by how
    routes begin; longer ones count more. A path is empty when a value for it is missing."""
    paths = {
        route.path
        for each in ROUTERS
        for route in each.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }
    found = []
    for path in sorted(paths):
        values = [rows[each] for each in sorted(rows, key=len) if path.startswith(each)]
        filled = _fill(path, dict(ChainMap(*reversed(values))))
        found += [(path, filled, query) for query in QUERIES.get(path, ({},))]
    return found


def _fill(path: str, values: dict[str, str]) -> str:
    known = all(name in values for name in _PARAMETER.findall(path))
    return _PARAMETER.sub(lambda match: values[match[1]], path) if known else ""


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


def make_rows(stack: Stack, client: httpx.Client) -> dict[str, dict[str, str]]:
    """What single pages are of, made through the APIs and followed by a worker: the values of parameters of
    paths, by how routes begin."""
    client.headers["authorization"] = f"Bearer {TOKEN}"
    here = {"environment": ENVIRONMENT}
    mapping = {
        "event_type": "type.3",
        "action_type": "users_identify",
        "action_parameters": {"id": "body.id"},
    }
    mapped = _ask(client, "POST", "/v1/sources/busy/mappings", {"mapping": mapping}, here)
    steps = [
        {
            "ref": "feed",
            "type": "channel",
            "channel_type": "in_app_feed",
            "template": {"markdown_body": "Hello"},
        }
    ]
    _ask(client, "PUT", "/v1/workflows/welcome", {"workflow": {"name": "Welcome", "steps": steps}}, here)
    replay = {"replay": {"filter": {"event": "type.rare"}}}
    replayed = _ask(client, "POST", "/v1/sources/busy/replays", replay, here)
    key = _ask(client, "POST", "/v1/api_keys/exchange", None, here)["api_key"]
    client.headers["authorization"] = f"Bearer {key}"
    _ask(client, "PUT", "/v1/users/user", {"name": "Ada", "email": "ada@example.com"})
    _ask(client, "PUT", "/v1/tenants/acme", {"name": "Acme"})
    _ask(client, "PUT", "/v1/objects/projects/apollo", {"name": "Apollo"})
    _ask(client, "POST", "/v1/objects/projects/apollo/subscriptions", {"recipients": ["user"]})
    members = {"members": [{"user": {"id": "user"}}]}
    _ask(client, "POST", "/v1/audiences/vip/members", members, {"create_audience": "true"})
    _ask(client, "POST", "/v1/workflows/welcome/trigger", {"recipients": ["user"], "data": {"plan": "gold"}})
    stack.start_worker()
    wait(lambda: bool(_ask(client, "GET", "/v1/users/user/messages")["items"]), "a message")
    message = _ask(client, "GET", "/v1/users/user/messages")["items"][0]
    run = _ask(client, "GET", "/v1/workflow_recipient_runs")["items"][0]
    stack.stop("worker")
    del client.headers["authorization"]
    event = stack.query(
        "SELECT id FROM events WHERE environment = 'production' AND source_key = 'busy' "
        "AND status = 'failed' ORDER BY id DESC LIMIT 1"
    )[0][0]
    return {
        "/sources/{key}": {"key": "busy", "identifier": str(event)},
        "/sources/{key}/mappings/": {"identifier": mapped["mapping"]["id"]},
        "/sources/{key}/replays/": {"identifier": replayed["replay"]["id"]},
        "/settings/environments/": {"slug": ENVIRONMENT},
        "/directory/users/": {"id": "user"},
        "/directory/tenants/": {"id": "acme"},
        "/directory/objects/": {"collection": "projects", "id": "apollo"},
        "/directory/audiences/": {"key": "vip"},
        "/directory/workflows/": {"key": "welcome"},
        "/directory/workflow-runs/": {"identifier": run["id"]},
        "/directory/messages/": {"identifier": message["id"]},
    }


def _ask(
    client: httpx.Client, method: str, path: str, body: object = None, query: dict[str, str] | None = None
) -> Any:
    answer = client.request(method, path, json=body, params=query)
    if answer.is_error:
        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
    return answer.json() if answer.content else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--recent", type=int, default=20_000, help="further events within the last hour")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--directory", type=Path, help="where to keep the servers' data for a next run")
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
            rows_of_pages = make_rows(stack, client)
            client.post(
                "/login",
                data={"token": TOKEN},
                headers={"origin": stack.url, "sec-fetch-site": "same-origin"},
            )
            for route, path, query in addresses(rows_of_pages):
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
    refused = [name for name, each in figures.items() if each["status"] >= 400]
    slow = [name for name, each in figures.items() if each["max"] > TARGET_MS]
    console.print(f"{len(figures) - len(slow)} of {len(figures)} pages took at most {TARGET_MS} ms each time")
    for name in refused:
        console.print(f"answered an error: {name}")
    for name in missing:
        console.print(f"not measured, a value of its path is missing: {name}")


if __name__ == "__main__":
    main()
