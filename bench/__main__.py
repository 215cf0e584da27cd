"""`make bench`: Doorbell measured side by side with its references, in one run, in interleaved rounds.

    python -m bench [--rounds 3] [--seconds 5] [--events 2000] [--json FILE]

Prints a table of medians with their spread, ratios to the references, and CPU milliseconds an event by process,
which noise disturbs least. Ratios compare figures of the same run only.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from app.stack import ports
from bench.stack import ROOT, Stack, cpu_ms_each, wait

CONNECTIONS = (1, 16, 64, 256)
OFFERED = 200
IDLE_EVENTS = 40


@dataclass
class Figures:
    """Samples by name, in the order in which they were first taken."""

    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float) -> None:
        self.samples[name].append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratio(self, name: str, reference: str) -> float:
        return self.median(name) / self.median(reference)


def run_json(*arguments: str) -> dict[str, Any]:
    """What a bench process prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def measure_accepting(stack: Stack, endpoint: str, references: str, figures: Figures, seconds: float) -> None:
    """One round: the edge and its references, one after the other, at each number of connections."""
    targets = {"nothing": f"{references}/nothing", "insert": f"{references}/insert", "accept": endpoint}
    for connections in CONNECTIONS:
        for name, url in targets.items():
            load = run_json("bench.load", url, "--connections", str(connections), "--seconds", str(seconds))
            if load["refused"]:
                raise RuntimeError(f"{name}: {load['refused']} of {load['accepted']} were refused")
            figures.add(f"{name} at {connections} connections, /s", load["rate"])
            if name == "accept":
                figures.add(f"accept at {connections} connections, p99 ms", load["p99_ms"])
    load = run_json("bench.load", endpoint, "--rate", str(OFFERED), "--seconds", str(seconds))
    figures.add(f"accept at {OFFERED}/s offered, p50 ms", load["p50_ms"])
    figures.add(f"accept at {OFFERED}/s offered, p99 ms", load["p99_ms"])


def measure_processing(stack: Stack, endpoint: str, figures: Figures, events: int, seconds: float) -> None:
    """One round: a backlog processed to its last action log, then empty workflows on the same server."""

    def finished() -> int:
        return int(stack.query("SELECT count(*) FROM events WHERE finished_at IS NOT NULL")[0][0])

    before = finished()
    began = time.perf_counter()
    with cpu_ms_each(stack, finished) as cpu:
        run_json("bench.load", endpoint, "--connections", "16", "--seconds", "60", "--most", str(events))
        wait(lambda: finished() >= before + events, f"{events} events are processed", seconds=600)
    figures.add("processed, /s", events / (time.perf_counter() - began))
    for name, milliseconds in cpu.items():
        figures.add(f"CPU of {name}, ms an event", milliseconds)
    figures.add("CPU of all, ms an event", sum(cpu.values()))
    empty = run_json("bench.references", stack.temporal.address, "--seconds", str(seconds))
    figures.add("empty workflows, /s", empty["rate"])


def measure_idle_latency(stack: Stack, endpoint: str, figures: Figures) -> None:
    """From the request to the end of the last action, one event at a time."""
    load = run_json(
        "bench.load", endpoint, "--connections", "1", "--rate", "8", "--seconds", str(IDLE_EVENTS / 8)
    )
    count = load["accepted"]
    last = f"SELECT id, received_at FROM events ORDER BY id DESC LIMIT {count}"
    wait(
        lambda: (
            stack.query("SELECT count(*) FROM events WHERE status IN ('received', 'processing')")[0][0] == 0
        ),
        "the idle events are processed",
    )
    rows = stack.query(
        f"SELECT extract(epoch FROM max(a.finished_at) - e.received_at) * 1000 FROM ({last}) e "
        "JOIN actions a ON a.event_id = e.id GROUP BY e.id, e.received_at"
    )
    values = sorted(float(row[0]) for row in rows)
    figures.add("event to last action when idle, p50 ms", values[len(values) // 2])
    figures.add("event to last action when idle, p99 ms", values[int(len(values) * 0.99)])


def start_references(stack: Stack) -> str:
    """The reference handlers behind uvicorn, set as the API is; their URL."""
    port = ports.find_free("127.0.0.1", 1)[0]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "bench.references:app", "--port", str(port), "--no-access-log",
         "--log-level", "warning"],
        cwd=ROOT,
        env={**os.environ, "DOORBELL_DATABASE_URL": stack.database_url.replace("postgresql:", "postgresql+psycopg:")},
    )  # fmt: skip
    stack.on_close(process.terminate)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.post(f"{url}/insert", content=b"{}").is_success
        except httpx.TransportError:
            return False

    wait(answers, "the references answer")
    return url


def show(figures: Figures, console: Console) -> None:
    table = Table("figure", "median", "lowest", "highest", title=_machine(), title_justify="left")
    for name, values in figures.samples.items():
        table.add_row(name, *(f"{each:,.1f}" for each in (figures.median(name), min(values), max(values))))
    console.print(table)
    ratios = Table("ratio", "measured", "target")
    nothing = "nothing at 64 connections, /s"
    ratios.add_row(
        "accepted / handler that does nothing, 64 connections",
        f"{figures.ratio('accept at 64 connections, /s', nothing):.2f}",
        "≥ 0.30",
    )
    ratios.add_row(
        "accepted / handler with one INSERT, 64 connections",
        f"{figures.ratio('accept at 64 connections, /s', 'insert at 64 connections, /s'):.2f}",
        "",
    )
    ratios.add_row(
        "events processed / empty workflows",
        f"{figures.ratio('processed, /s', 'empty workflows, /s'):.2f}",
        "≥ 0.60",
    )
    console.print(ratios)


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--events", type=int, default=2000, help="of each processed backlog")
    parser.add_argument("--json", type=Path, help="where to write all samples")
    chosen = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="doorbell-bench-") as directory, Stack(Path(directory)) as stack:
        stack.start_api()
        endpoint = stack.connect_source()
        references = start_references(stack)
        for _ in range(chosen.rounds):
            measure_accepting(stack, endpoint, references, figures, chosen.seconds)
        # What was accepted so far is not what processing is measured with.
        stack.clear_logs()
        stack.start_worker()
        for _ in range(chosen.rounds):
            measure_processing(stack, endpoint, figures, chosen.events, chosen.seconds)
        measure_idle_latency(stack, endpoint, figures)
        for name, megabytes in stack.memory_mb().items():
            figures.add(f"memory of {name}, MB", megabytes)
    show(figures, Console())
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": _machine(), "samples": figures.samples}, indent=2))


if __name__ == "__main__":
    main()
