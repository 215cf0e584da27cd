"""A burst of events against a destination that enforces Knock's rate limits.

    python -m bench.knock_burst [--events 10000] [--workers 2] [--trouble 0.05] [--rates 1] [--minutes 30]

Each event identifies a user (60 calls a second) and triggers a workflow (1,000 a second). The destination is
a real HTTP server on loopback that answers 429 above the limits; of the rest it fails `--trouble`, and drops
connections before and after executing. `--rates` scales the limits on both sides, for a machine that cannot
reach them. Prints what was sent and how long it took; exits with 1 when an action failed.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from bench.measures import run_json
from bench.stack import ENVIRONMENT, TOKEN, Stack, wait
from tests.strict_knock import ENDPOINTS, StrictKnock

SHOWN = ("users_identify", "workflows_trigger")


def use_destination(stack: Stack, url: str) -> None:
    """Let actions run against this URL."""
    httpx.put(
        f"{stack.url}/v1/environments/{ENVIRONMENT}/destination",
        headers={"authorization": f"Bearer {TOKEN}"},
        json={"destination": {"url": url, "api_key": "sk_bench"}},
    ).raise_for_status()


def burst(stack: Stack, url: str, events: int, workers: int, seconds: float) -> float:
    """Send the events at once and wait for the last one's end; the seconds it took."""
    stack.start_api()
    endpoint = stack.connect_source()
    use_destination(stack, url)
    for number in range(workers):
        stack.start_worker(f"worker-{number + 1}")
    began = time.monotonic()
    load = run_json("bench.load", endpoint, "--connections", "16", "--seconds", "120", "--most", str(events))
    if load["accepted"] != events:
        raise RuntimeError(f"{load['accepted']} of {events} events were accepted")

    def finished() -> bool:
        count: int = stack.query("SELECT count(*) FROM events WHERE finished_at IS NOT NULL")[0][0]
        return count == events

    wait(finished, f"{events} events are processed", seconds)
    return time.monotonic() - began


def show(stack: Stack, knock: StrictKnock, events: int, seconds: float) -> bool:
    """Print the figures; whether every action succeeded."""
    console, table = Console(), Table("figure", "value")
    table.add_row("events", f"{events:,}")
    table.add_row("first event to last action, s", f"{seconds:.1f}")
    for name in SHOWN:
        outcomes, rate = knock.outcomes(name), ENDPOINTS[name][2] * knock.rates
        table.add_row(f"{name}: requests, a second", f"{outcomes.total() / seconds:.1f} of {rate:g}")
        table.add_row(f"{name}: most within any second", str(knock.busiest_second(name)))
        table.add_row(f"{name}: outcomes", ", ".join(f"{key} {value:,}" for key, value in outcomes.items()))
    statuses = dict(stack.query("SELECT status, count(*) FROM actions GROUP BY status"))
    table.add_row("actions", ", ".join(f"{key} {value:,}" for key, value in statuses.items()))
    attempts = stack.query("SELECT attempts, count(*) FROM actions GROUP BY attempts ORDER BY attempts")
    table.add_row("actions by attempts", ", ".join(f"{key}: {value:,}" for key, value in attempts))
    table.add_row("workflows that ran", f"{knock.triggered:,}")
    bodies: dict[str, set[bytes]] = {}
    for each in knock.arrivals:
        bodies.setdefault(each.idempotency_key, set()).add(each.body)
    same = Counter(len(each) for each in bodies.values())
    table.add_row("calls with one body on every attempt", f"{same[1]:,} of {same.total():,}")
    for name, cpu in stack.cpu_seconds().items():
        table.add_row(f"CPU of {name}, ms an event", f"{cpu * 1000 / events:.1f}")
    console.print(table)
    return set(statuses) == {"succeeded"} and same.total() == same[1] and knock.triggered == events


async def run(events: int, workers: int, trouble: float, rates: float, seconds: float) -> bool:
    os.environ["DOORBELL_KNOCK_RATE_FACTOR"] = str(0.9 * rates)
    with tempfile.TemporaryDirectory(prefix="doorbell-burst-") as directory:
        async with StrictKnock(trouble=trouble, rates=rates).serve() as knock:
            with Stack(Path(directory)) as stack:
                took = await asyncio.to_thread(burst, stack, knock.url, events, workers, seconds)
                return show(stack, knock, events, took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--trouble", type=float, default=0.05, help="share of requests that fail")
    parser.add_argument("--rates", type=float, default=1.0, help="times Knock's limits, on both sides")
    parser.add_argument("--minutes", type=float, default=30, help="wait at most")
    chosen = parser.parse_args()
    done = asyncio.run(run(chosen.events, chosen.workers, chosen.trouble, chosen.rates, chosen.minutes * 60))
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
