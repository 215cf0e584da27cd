"""The measures, each of one kind of figure. `bench/__main__.py` says which run, how often and how large."""

import asyncio
import json
import math
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg

from app.core.settings import Settings
from app.database.engine import open_engine
from app.events.claims import Claims, Leases
from app.models.types import first_id_at, now
from app.stack import ports
from app.worker.events import CLAIM_SINCE
from bench.figures import CPU_OBSERVED, CPU_OF_ALL, CPU_OF_EMPTY, Figures
from bench.stack import ENVIRONMENT, ROOT, Stack, cpu_ms_each, wait

CONNECTIONS = (1, 16, 64, 256)
OFFERED = (200, 1000)
IDLE_EVENTS = 40
# With so many events left, their end is less than half a second away.
NEAR_THE_END = 20
# What a new process processes before it is measured.
WARM_UP_EVENTS = 200
# How often memory is looked at under its load.
MEMORY_LOOKS = 6
# Events a second while memory is watched: what the slowest machine keeps up with.
WATCHED_RATE = 10

_POSTGRES = """
SELECT xact_commit, tup_inserted, tup_updated, wal_bytes, wal_records,
       (SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables)
FROM pg_stat_database, pg_stat_wal WHERE datname = 'bench'
"""
_POSTGRES_NAMES = (
    "transactions",
    "rows inserted",
    "rows updated",
    "WAL bytes",
    "WAL records",
    "bytes of tables",
)

# Finished events of the last day, of three sources, each with a payload and two actions.
_FILL = """
WITH made AS (
    SELECT (lpad(to_hex((extract(epoch FROM now() - number * :step * interval '1 millisecond') *
      1000)::bigint), 12, '0')
            || '7' || substr(md5(number::text), 1, 3) || '8' || substr(md5(number::text), 4, 15))::uuid AS id,
              number
    FROM generate_series(1, :count) AS number
), stored AS (
    INSERT INTO events (id, environment, source_key, event_type, idempotency_key, status, verification_status,
                        received_at, finished_at, received_through)
    SELECT id, 'production', 'source-' || number % 3, 'invoice.paid', md5(number::text), 'succeeded',
           'enforced:verified', now(), now(), 'webhook' FROM made
), payloads AS (
    INSERT INTO event_payloads (id, body, headers) SELECT id, convert_to(repeat('x', 1500), 'UTF8'), '{}'
      FROM made
)
INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, status, attempts, calls)
SELECT id, id, id, 'users_identify', '{}', 'succeeded', 1, 1 FROM made
"""


@dataclass(frozen=True)
class Bench:
    """What measures share. `endpoint` is where a source's events go."""

    stack: Stack
    endpoint: str
    figures: Figures
    seconds: float
    events: int

    def finished(self) -> int:
        return int(self.stack.query("SELECT count(*) FROM events WHERE finished_at IS NOT NULL")[0][0])

    def wait_until_finished(self, count: int) -> None:
        """Look seldom, until the end is near: what looking costs, a connection and a transaction, counts as
        the events' cost."""
        while (left := count - self.finished()) > 0:
            time.sleep(0.5 if left > NEAR_THE_END else 0.05)

    def ring(self, url: str, *, connections: int, most: int | None = None, rate: float | None = None,
             seconds: float | None = None) -> dict[str, Any]:  # fmt: skip
        """What the load generator says of a load; none of it may be refused."""
        arguments = ["--connections", str(connections), "--seconds", str(seconds or self.seconds)]
        arguments += ["--most", str(most)] if most else []
        arguments += ["--rate", str(rate)] if rate else []
        load = run_json("bench.load", url, *arguments)
        if load["refused"]:
            raise RuntimeError(f"{url}: {load['refused']} of {load['accepted']} were refused")
        return load


def run_json(*arguments: str) -> dict[str, Any]:
    """What a bench process prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def accepting(bench: Bench, references: str) -> None:
    """One round: the edge and its references, one after the other, at each number of connections and offered
    rate."""
    targets = {"nothing": f"{references}/nothing", "insert": f"{references}/insert", "accept": bench.endpoint}
    for connections in CONNECTIONS:
        for name, url in targets.items():
            with cpu_ms_each(bench.stack) as cpu:
                load = bench.ring(url, connections=connections)
                cpu.count = load["accepted"]
            bench.figures.add(f"{name} at {connections} connections, /s", load["rate"])
            bench.figures.add(f"{name} at {connections} connections, p99 ms", load["p99_ms"])
            if connections == 64:
                process = "api" if name == "accept" else "references"
                bench.figures.add(f"CPU of {process}, ms each, {name}", cpu.each[process])
                bench.figures.add(f"CPU of the generator, ms each, {name}", load["cpu_ms"])
    for rate in OFFERED:
        load = bench.ring(bench.endpoint, connections=64, rate=rate)
        for share in ("p50", "p99"):
            bench.figures.add(f"accept at {rate}/s offered, {share} ms", load[f"{share}_ms"])


def processing(bench: Bench) -> None:
    """One round: a backlog processed to its last action log, then empty workflows on the same server."""
    with _postgres_each(bench), cpu_ms_each(bench.stack) as cpu:
        bench.figures.add("processed, /s", _process(bench))
        cpu.count = bench.events
    for name, milliseconds in cpu.each.items():
        bench.figures.add(f"CPU of {name}, ms an event", milliseconds)
    bench.figures.add(CPU_OF_ALL, sum(cpu.each.values()))
    history = run_json("bench.histories", bench.stack.temporal.address, bench.stack.database_url)
    for name, value in history.items():
        bench.figures.add(f"history {name} an event", value)
    with cpu_ms_each(bench.stack) as cpu:
        empty = run_json("bench.references", bench.stack.temporal.address, "--seconds", str(bench.seconds))
        cpu.count = empty["done"]
    bench.figures.add("empty workflows, /s", empty["rate"])
    bench.figures.add("CPU of temporal, ms an empty workflow", cpu.each["temporal"])
    bench.figures.add(CPU_OF_EMPTY, cpu.each["temporal"] + empty["worker_cpu_ms"])


def _process(bench: Bench) -> float:
    """Events a second, from the first request to the last event's end."""
    before, began = bench.finished(), time.perf_counter()
    bench.ring(bench.endpoint, connections=16, seconds=60, most=bench.events)
    bench.wait_until_finished(before + bench.events)
    return bench.events / (time.perf_counter() - began)


@contextmanager
def _postgres_each(bench: Bench) -> Iterator[None]:
    """What Postgres counts, for each event. Its backends report within a second."""
    time.sleep(1.1)
    before = bench.stack.query(_POSTGRES)[0]
    yield
    time.sleep(1.1)
    after = bench.stack.query(_POSTGRES)[0]
    for name, first, last in zip(_POSTGRES_NAMES, before, after, strict=True):
        bench.figures.add(f"Postgres {name} an event", float(last - first) / bench.events)


def idle_latency(bench: Bench) -> None:
    """From the request to the end of the last action, one event at a time."""
    count = bench.ring(bench.endpoint, connections=1, rate=8, seconds=IDLE_EVENTS / 8)["accepted"]
    last = f"SELECT id, received_at FROM events ORDER BY id DESC LIMIT {count}"
    _drain(bench)
    rows = bench.stack.query(
        f"SELECT extract(epoch FROM max(a.finished_at) - e.received_at) * 1000 FROM ({last}) e "
        "JOIN actions a ON a.event_id = e.id GROUP BY e.id, e.received_at"
    )
    values = sorted(float(row[0]) for row in rows)
    bench.figures.add("event to last action when idle, p50 ms", values[len(values) // 2])
    bench.figures.add("event to last action when idle, p99 ms", values[int(len(values) * 0.99)])


def burst(bench: Bench, count: int) -> None:
    """Events as fast as the edge takes them, and how long the workers then need."""
    began = time.perf_counter()
    load = bench.ring(bench.endpoint, connections=64, seconds=600, most=count)
    bench.figures.add(f"burst of {count:,}: accepted within, s", load["seconds"])
    bench.figures.add(f"burst of {count:,}: accept p99 ms", load["p99_ms"])
    most: dict[str, float] = {}
    while _waiting(bench):
        most = {name: max(value, most.get(name, 0)) for name, value in bench.stack.memory_mb().items()}
        time.sleep(0.5)
    bench.figures.add(f"burst of {count:,}: drained within, s", time.perf_counter() - began)
    for name, megabytes in most.items():
        bench.figures.add(f"burst of {count:,}: most memory of {name}, MB", megabytes)


def memory(bench: Bench, minutes: float) -> None:
    """Resident memory before a steady load and at even distances in it: what starts late is not taken for a
    leak."""
    for look in range(MEMORY_LOOKS + 1):
        if look:
            _ring_steadily(bench, minutes * 60 / MEMORY_LOOKS)
        passed = f"after {minutes * look / MEMORY_LOOKS:g} of {minutes:g} minutes"
        for name, megabytes in bench.stack.memory_mb().items():
            bench.figures.add(f"memory of {name} {passed}, MB", megabytes)
        for name, megabytes in bench.stack.own_memory_mb().items():
            bench.figures.add(f"memory of {name} not shared {passed}, MB", megabytes)
    _drain(bench)


def _ring_steadily(bench: Bench, seconds: float) -> None:
    """In loads that are short: their requests are signed beforehand, and a signature is good for five
    minutes."""
    loads = math.ceil(seconds / 120)
    for _ in range(loads):
        bench.ring(bench.endpoint, connections=4, rate=WATCHED_RATE, seconds=seconds / loads)


def stored(bench: Bench, count: int, rounds: int) -> None:
    """Accept rate and claim time with many events in the log and, round by round, with none: each log in a
    database of its own on the same server, with an API process of its own."""
    stack = bench.stack
    database_url = stack.add_database("stored")
    url = stack.start_another_api("stored api", DOORBELL_DATABASE_URL=database_url)
    endpoint = url + urlsplit(stack.connect_source(url)).path
    _fill(database_url, count)
    bench.figures.add("events stored beforehand", count)
    logs = {
        "with none stored": (bench.endpoint, stack.database_url),
        "with events stored": (endpoint, database_url),
    }
    # Behind a checkpoint, each page of an index is written whole the first time: a round would hardly do
    # anything else.
    for endpoint, _ in logs.values():
        bench.ring(endpoint, connections=64, seconds=4 * bench.seconds)
    for _ in range(rounds):
        for name, (endpoint, database_url) in logs.items():
            bench.figures.add(f"accept {name}, /s", bench.ring(endpoint, connections=64)["rate"])
            bench.figures.add(f"claim {name}, ms", asyncio.run(_claim_ms(database_url)))
    stack.stop("stored api")
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE stored WITH (FORCE)")


def _fill(database_url: str, count: int) -> None:
    """Processed events of the last day, evenly."""
    step = timedelta(hours=24) / timedelta(milliseconds=1) / count
    statement = _FILL.replace(":count", str(count)).replace(":step", repr(step))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement.encode())
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


async def _claim_ms(database_url: str) -> float:
    """Milliseconds that a claim of twenty of the events that wait takes, on a warm connection: the median."""
    engine = open_engine(Settings(_env_file=None, database_url=database_url), plan_once=True)
    claims, since, times = Claims(ENVIRONMENT, engine, Leases()), first_id_at(now() - CLAIM_SINCE), []
    for _ in range(25):
        began = time.perf_counter()
        claimed = await claims.take_waiting(since, limit=20, share=20, busy=Counter())
        times.append((time.perf_counter() - began) * 1000)
        if not claimed:
            raise RuntimeError("nothing waits to be claimed")
    await engine.dispose()
    return statistics.median(times)


def _waiting(bench: Bench) -> bool:
    statement = "SELECT EXISTS (SELECT FROM events WHERE status IN ('received', 'processing'))"
    return bool(bench.stack.query(statement)[0][0])


def _drain(bench: Bench) -> None:
    wait(lambda: not _waiting(bench), "all events are processed", seconds=3600)


def observing(bench: Bench, collector: str) -> None:
    """One round: what metrics, and traces beside them, add to the CPU of an API and a worker process an
    event."""
    stack, path = bench.stack, urlsplit(bench.endpoint).path
    for name in ("nothing", "metrics", "metrics and traces"):
        url = stack.start_another_api("observed api", **_observed(name, collector))
        stack.start_worker("observed worker", **_observed(name, collector))
        observed = replace(bench, endpoint=url + path)
        _process(replace(observed, events=WARM_UP_EVENTS))
        with cpu_ms_each(stack) as cpu:
            _process(observed)
            cpu.count = bench.events
        bench.figures.add(CPU_OBSERVED + name, cpu.each["observed api"] + cpu.each["observed worker"])
        stack.stop("observed worker")
        stack.stop("observed api")


def _observed(name: str, collector: str) -> dict[str, str]:
    """The environment of a process that tells so much of itself."""
    variables = {}
    if "metrics" in name:
        variables["DOORBELL_METRICS_PORT"] = str(ports.find_free("127.0.0.1", 1)[0])
    if "traces" in name:
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
    return variables


def scale_out(bench: Bench) -> None:
    """Two worker processes and two API processes against one of each."""
    bench.figures.add("processed by one worker, /s", _process(bench))
    bench.stack.start_worker("second worker")
    bench.figures.add("processed by two workers, /s", _process(bench))
    bench.stack.stop("second worker")
    bench.figures.add("accepted by one API process, /s", bench.ring(bench.endpoint, connections=64)["rate"])
    other = bench.stack.start_another_api("second api") + urlsplit(bench.endpoint).path
    commands = [
        [sys.executable, "-m", "bench.load", url, "--connections", "32", "--seconds", str(bench.seconds)]
        for url in (bench.endpoint, other)
    ]
    loads = [subprocess.Popen(each, cwd=ROOT, stdout=subprocess.PIPE, text=True) for each in commands]
    both = sum(json.loads(each.communicate()[0])["rate"] for each in loads)
    bench.figures.add("accepted by two API processes, /s", both)
