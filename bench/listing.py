"""How long listing the log takes with a million events in it: each filter, and pairs, through the API over
HTTP.

    python -m bench.listing [--events 1000000] [--repeats 100] [--pairs] [--only NAME] [--search] [--directory
    DIR]

For each: the first page, the next and the one before that again, without a time range and within the last two
days, `--repeats` times behind three that are not counted. Values are common in the log, rare in it, or absent
from it. Prints also what an insert costs with the indexes that there are, and with `--search` how long
looking for text takes.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine

from app.database.partitions import create_partitions
from app.models.types import now
from bench.stack import ENVIRONMENT, TOKEN, Stack

DAYS = 29
TARGET_MS = 50
# Rounds that are not counted: the first one compiles the statements, and Postgres's process reads its
# catalogue.
WARM_UP = 3

# Two sources of most events, one that nearly nothing comes to; what is rare is so in the busy ones too.
_EVENTS = """
INSERT INTO events (id, environment, source_key, event_type, idempotency_key, status, verification_status,
  received_at,
                    finished_at, workflow_id, run_id)
SELECT uuidv7(age), 'production',
       CASE WHEN n %% 20011 = 7 THEN 'rare' WHEN n %% 5 = 0 THEN 'open' ELSE 'busy' END,
       CASE WHEN n %% 50021 = 3 THEN 'type.rare' ELSE 'type.' || n %% 9 END, 'key-' || n,
       CASE WHEN n %% 40009 = 1 THEN 'failed' WHEN n %% 50021 = 2 THEN 'idempotent' WHEN n %% 33023 = 3
         THEN 'rejected'
            WHEN n %% 97 = 0 THEN 'ignored' ELSE 'succeeded' END,
       CASE WHEN n %% 5 = 0 THEN CASE WHEN n %% 100003 = 5 THEN 'enforced:verified'
         ELSE 'not_enforced:unverified' END
            WHEN n %% 33023 = 3 THEN 'enforced:failed' ELSE 'enforced:verified' END,
       now() + age, now() + age + interval '40 ms', 'event/production/busy/' || n, gen_random_uuid()::text
FROM generate_series(1, %(events)s) AS n, LATERAL (SELECT (n - %(events)s) * %(step)s AS age) AS moment
"""
_PAYLOADS = """
INSERT INTO event_payloads (id, body, headers)
SELECT id, convert_to('{"id": "' || idempotency_key || '", "padding": "' || repeat('x', 400) || '"}', 'UTF8'),
  '{}'
FROM events
"""
_ACTIONS = """
INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, payload, idempotency_key, status,
  attempts,
                     started_at, finished_at, environment, source_key)
SELECT (left(e.id::text, 13) || '-7' || substr(m, 1, 3) || '-8' || substr(m, 4, 3) || '-' || substr(m, 7,
  12))::uuid,
       e.id, e.id, CASE WHEN k = 2 AND n % 70001 = 5 THEN 'tenants_set' WHEN k = 1 THEN 'users_identify'
                        ELSE 'workflows_trigger' END,
       '{"id": "body.id"}', CASE WHEN k = 2 AND n % 60013 = 1 THEN NULL ELSE '{"id": "user"}'::json END,
       CASE WHEN k = 2 AND n % 60013 = 1 THEN NULL ELSE md5(m) END,
       CASE WHEN k = 2 AND n % 60013 = 1 THEN 'skipped' WHEN e.status = 'failed' THEN 'failed'
         ELSE 'succeeded' END,
       1, e.received_at, e.finished_at, e.environment, e.source_key
FROM (SELECT *, substr(idempotency_key, 5)::int AS n FROM events) AS e, generate_series(1, 2) AS k,
     LATERAL (SELECT md5(e.id::text || k) AS m) AS random
WHERE e.status IN ('succeeded', 'failed')
"""
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "event, common": {"event": "type.3"},
    "event, rare": {"event": "type.rare"},
    "event, absent": {"event": "type.none"},
    "status, common": {"status": "succeeded"},
    "status, rare": {"status": "failed"},
    "status, absent": {"status": "processing"},
    "idempotent": {"idempotent": True},
    "not idempotent": {"idempotent": False},
    "verification, common": {"verification_status": "enforced:verified"},
    "verification, rare": {"verification_status": "enforced:failed"},
    "verification, absent": {"verification_status": "not_enforced:failed"},
    "idempotency key": {"idempotency_key": "key-4711"},
    "idempotency key, absent": {"idempotency_key": "none"},
    "action type, common": {"action_type": "users_identify"},
    "action type, rare": {"action_type": "tenants_set"},
    "action type, absent": {"action_type": "objects_set"},
    "action status, common": {"action_status": "success"},
    "action status, skipped": {"action_status": "skipped"},
    "action status, failed": {"action_status": "failed"},
    "action status, pending": {"action_status": "pending"},
}
SOURCES = ("busy", "open", "rare", None)


def fill(stack: Stack, events: int) -> None:
    """Events evenly over the last days, most with two actions."""
    engine = create_engine(stack.database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        for ago in range(DAYS + 1, -1, -7):
            create_partitions(connection, now().date() - timedelta(days=ago))
    engine.dispose()
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(_EVENTS, {"events": events, "step": timedelta(days=DAYS) / events})
        for statement in (_PAYLOADS, _ACTIONS):
            connection.execute(statement.encode())
        connection.execute("VACUUM ANALYZE events, event_payloads, actions")


def measure_insert(stack: Stack) -> dict[str, float]:
    """Milliseconds for 1,000 rows, 50 a statement as the processes write them, each committed. They do not
    stay: the next run lists what there was."""
    rounds, size = 100, 50
    event = """
        INSERT INTO events (id, environment, source_key, event_type, idempotency_key, status,
          verification_status,
                            received_at)
        SELECT uuidv7(), 'production', 'busy', 'type.' || n % 9, gen_random_uuid()::text, 'received',
               'enforced:verified', now() FROM generate_series(1, 50) AS n RETURNING id
    """
    finish = "UPDATE events SET status = 'succeeded', finished_at = now() WHERE id = ANY(%s) AND id >= %s"
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        action = """
            INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, payload, idempotency_key,
              status,
                                 attempts, environment, source_key)
            SELECT uuidv7(), uuidv7(), uuidv7(), 'users_identify', '{}', '{}', gen_random_uuid()::text,
              'pending', 0,
                   'production', 'busy' FROM generate_series(1, 50) RETURNING id
        """
        end = "UPDATE actions SET status = 'succeeded', attempts = 1 WHERE id = ANY(%s) AND id >= %s"
        spent: dict[str, list[float]] = {}
        written: dict[str, list[UUID]] = {}
        for _ in range(rounds):
            for insert, update, name in ((event, finish, "events"), (action, end, "actions")):
                began = time.perf_counter()
                ids = [row[0] for row in connection.execute(insert.encode()).fetchall()]
                inserted = time.perf_counter()
                connection.execute(update.encode(), (ids, min(ids)))
                spent.setdefault(f"insert {name}", []).append(inserted - began)
                spent.setdefault(f"update {name}", []).append(time.perf_counter() - inserted)
                written.setdefault(name, []).extend(ids)
        connection.execute("DELETE FROM events WHERE id = ANY(%s)", (written["events"],))
        connection.execute("DELETE FROM actions WHERE id = ANY(%s)", (written["actions"],))
    return {name: statistics.median(each) * 1000 * 1000 / size for name, each in spent.items()}


def look(client: httpx.Client, source: str | None, chosen: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Milliseconds of first, next and previous pages."""
    path = "/v1/logs" if source is None else f"/v1/sources/{source}/logs"
    times: list[float] = []
    found, refused = 0, 0

    def page(**cursor: str) -> dict[str, Any]:
        nonlocal refused
        began = time.perf_counter()
        answer = client.get(path, params={"environment": ENVIRONMENT, **chosen, **cursor})
        times.append((time.perf_counter() - began) * 1000)
        if answer.status_code == 422:
            refused += 1
            return {"entries": [], "page_info": {"after": None, "before": None}}
        body: dict[str, Any] = answer.raise_for_status().json()
        return body

    for number in range(WARM_UP + repeats):
        if number == WARM_UP:
            times.clear()
        first = page()
        found = len(first["entries"])
        if refused:
            break
        if after := first["page_info"]["after"]:
            second = page(after=after)
            if before := second["page_info"]["before"]:
                page(before=before)
    times.sort()
    return {
        "found": found,
        "refused": refused,
        "p50": times[len(times) // 2],
        "p99": times[math.ceil(len(times) * 0.99) - 1],
    }


def all_looks(*, pairs: bool) -> list[tuple[str, dict[str, Any]]]:
    """Single filters, and pairs of those on different fields."""
    singles = list(FILTERS.items())
    if not pairs:
        return singles
    return [
        (f"{one} + {other}", {**first, **second})
        for (one, first), (other, second) in itertools.combinations(singles[1:], 2)
        if not first.keys() & second.keys()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--pairs", action="store_true", help="measure pairs of filters too")
    parser.add_argument("--only", default="", help="measure the listings that have this in their name")
    parser.add_argument("--directory", type=Path, help="where to keep the servers' data for a next run")
    parser.add_argument("--search", action="store_true", help="measure looking for text too")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    chosen = parser.parse_args()
    console = Console()
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="doorbell-bench-") as directory,
        Stack(chosen.directory or Path(directory)) as stack,
    ):
        stack.start_api()
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as client:
            for key in filter(None, SOURCES):
                source = {"source": {"name": key, "preconfigured_provider": "stripe"}}
                client.put(
                    f"/v1/sources/{key}", params={"environment": ENVIRONMENT}, json=source
                ).raise_for_status()
            if not stack.query("SELECT FROM events LIMIT 1"):
                began = time.perf_counter()
                fill(stack, chosen.events)
                console.print(f"{chosen.events} events written in {time.perf_counter() - began:.0f} s")
            looks = [(name, each, chosen.repeats) for name, each in all_looks(pairs=False)]
            if chosen.pairs:
                looks += [(name, each, 5) for name, each in all_looks(pairs=True)]
            if chosen.search:
                recent = (now() - timedelta(days=2)).isoformat()
                looks.append(("search, 2 days", {"search": "key-4711", "starting_at": recent}, 3))
            ranges = {"": {}, ", 2 days": {"starting_at": (now() - timedelta(days=2)).isoformat()}}
            for (name, each, repeats), source_key, (within, bounds) in itertools.product(
                looks, SOURCES, ranges.items()
            ):
                title = f"{source_key or 'all sources'}: {name}{within}"
                if chosen.only in title:
                    figures[title] = look(client, source_key, {**bounds, **each}, repeats)
        figures["inserts"] = measure_insert(stack)
    show(figures, console)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


def show(figures: dict[str, Any], console: Console) -> None:
    inserts = figures["inserts"]
    looks = {name: each for name, each in figures.items() if name != "inserts"}
    table = Table("filter", "found", "p50 ms", "p99 ms")
    for name, each in looks.items():
        if " + " not in name or each["p99"] > TARGET_MS:
            shown = "422" if each["refused"] else str(each["found"])
            table.add_row(name, shown, f"{each['p50']:.1f}", f"{each['p99']:.1f}")
    console.print(table)
    slow = [name for name, each in looks.items() if each["p99"] > TARGET_MS]
    console.print(f"{len(looks) - len(slow)} of {len(looks)} looks have a p99 of at most {TARGET_MS} ms")
    for name, milliseconds in inserts.items():
        console.print(f"{name}: {milliseconds:.1f} ms for 1,000 rows")


if __name__ == "__main__":
    main()
