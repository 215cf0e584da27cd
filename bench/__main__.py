"""`make bench`: Doorbell measured side by side with its references, in one run, in interleaved rounds.

    python -m bench [--rounds 3] [--seconds 5] [--events 2000] [--json FILE]
    python -m bench --measures burst stored --burst 20000 --stored 5000000
    python -m bench --measures memory --minutes 60

Prints a table of medians with their spread, ratios to the references, and CPU milliseconds an event by
process, which noise disturbs least. Ratios compare figures of the same run only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from rich.console import Console

from app.stack import ports
from bench import measures
from bench.figures import Figures
from bench.measures import Bench
from bench.stack import ROOT, Stack, wait

MEASURES = ("accepting", "stored", "processing", "idle", "burst", "memory", "scale", "observing")
USUAL = ("accepting", "processing", "idle")


def start_references(stack: Stack) -> str:
    """The reference handlers behind uvicorn, set as the API is; their URL."""
    port = ports.find_free("127.0.0.1", 1)[0]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "bench.references:app", "--port", str(port), "--no-access-log",
         "--log-level", "warning"],
        cwd=ROOT,
        env={**os.environ, "DOORBELL_DATABASE_URL": stack.database_url.replace(
            "postgresql:", "postgresql+psycopg:")},
    )  # fmt: skip
    stack.on_close(process.terminate)
    stack.others["references"] = process.pid
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.post(f"{url}/insert", content=b"{}").is_success
        except httpx.TransportError:
            return False

    wait(answers, "the references answer")
    return url


def run(bench: Bench, chosen: argparse.Namespace) -> None:
    """The chosen measures. Those of the edge come before a worker runs."""
    stack, wanted = bench.stack, set(chosen.measures)
    references = start_references(stack) if wanted & {"accepting", "observing"} else ""
    if "accepting" in wanted:
        for _ in range(chosen.rounds):
            measures.accepting(bench, references)
    stack.others.pop("references", None)
    if "stored" in wanted:
        measures.stored(bench, chosen.stored, chosen.rounds)
    # What was accepted so far is not what processing is measured with.
    stack.clear_logs()
    stack.start_worker()
    if "processing" in wanted:
        for _ in range(chosen.rounds):
            measures.processing(bench)
    if "idle" in wanted:
        measures.idle_latency(bench)
    for name, megabytes in stack.memory_mb().items():
        bench.figures.add(f"memory of {name}, MB", megabytes)
    if "burst" in wanted:
        measures.burst(bench, chosen.burst)
    if "memory" in wanted:
        measures.memory(bench, chosen.minutes)
    if "scale" in wanted:
        measures.scale_out(bench)
    if "observing" in wanted:
        stack.stop("worker")
        for _ in range(chosen.rounds):
            measures.observing(bench, references)
    for name, seconds in stack.ready_after.items():
        bench.figures.add(f"{name} ready after, s", seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=USUAL, help="what is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--events", type=int, default=2000, help="of each processed backlog")
    parser.add_argument("--burst", type=int, default=2000, help="events of the burst")
    parser.add_argument("--stored", type=int, default=200_000, help="events stored beforehand")
    parser.add_argument("--minutes", type=float, default=2, help="that memory is watched")
    parser.add_argument("--json", type=Path, help="where to write all samples")
    chosen = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="doorbell-bench-") as directory, Stack(Path(directory)) as stack:
        stack.start_api()
        bench = Bench(stack, stack.connect_source(), figures, chosen.seconds, chosen.events)
        run(bench, chosen)
    figures.show(Console())
    if chosen.json:
        figures.write(chosen.json)


if __name__ == "__main__":
    main()
