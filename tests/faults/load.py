"""Senders as they are: each sends its event until it gets a 2xx, to whichever API process answers."""

import asyncio
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.faults.cluster import Cluster

EVENTS = 50
SENDERS = 8
# Seconds between two events of a sender, and before one is sent again.
PACE = 0.25
PAUSE = 0.25
ATTEMPTS = 120


@dataclass
class Load:
    """What was sent and what was accepted. A marker stands for one action that a sender wants done once."""

    sent: int = 0
    keyed: set[str] = field(default_factory=set)
    unkeyed: set[str] = field(default_factory=set)
    accepted: list[str] = field(default_factory=list)
    refusals: int = 0


def bodies(chance: random.Random, name: str) -> Iterator[dict[str, Any]]:
    """Bodies to send: most with an idempotency key, a third of them repeats of one before."""
    keyed: list[dict[str, Any]] = []
    for number in itertools.count():
        while keyed and chance.random() < 0.33:
            yield chance.choice(keyed)
        body = {"type": "order.paid", "user": f"user_{number % 5}", "marker": f"{name}-{number}"}
        if chance.random() < 0.8:
            body["id"] = body["marker"]
            keyed.append(body)
        yield body


async def send(
    cluster: Cluster, path: str, chance: random.Random, name: str, lifted: asyncio.Event, load: Load
) -> None:
    """Send until the fault is lifted, and `EVENTS` at least."""
    waiting = bodies(chance, name)

    async def sender() -> None:
        while not lifted.is_set() or load.sent < EVENTS:
            body = next(waiting)
            load.sent += 1
            (load.keyed if "id" in body else load.unkeyed).add(body["marker"])
            await _send_one(cluster, path, body, chance, load)
            await asyncio.sleep(PACE * chance.uniform(0.5, 1.5))

    await asyncio.gather(*(sender() for _ in range(SENDERS)))


async def _send_one(
    cluster: Cluster, path: str, body: dict[str, Any], chance: random.Random, load: Load
) -> None:
    for _ in range(ATTEMPTS):
        try:
            api = chance.choice(cluster.apis)
            answer = await cluster.client.post(f"{api.url}{path}", content=orjson.dumps(body))
        except httpx.TransportError:
            load.refusals += 1
        else:
            if answer.status_code == 200:
                load.accepted.append(answer.json()["id"])
                return
            load.refusals += 1
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) > 0
        await asyncio.sleep(PAUSE)
    raise AssertionError(f"{body['marker']} was never accepted")
