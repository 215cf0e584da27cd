"""Senders as they are: each sends its event until it gets a 2xx, to whichever API process answers."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.faults.cluster import Cluster

SENDERS = 8
ATTEMPTS = 200
PAUSE = 0.1


@dataclass
class Load:
    """What was sent and what was accepted. A marker stands for one action that a sender wants done once."""

    markers: list[str] = field(default_factory=list)
    keyed: set[str] = field(default_factory=set)
    accepted: list[str] = field(default_factory=list)
    refusals: int = 0


def plan(chance: random.Random, name: str, events: int) -> list[dict[str, Any]]:
    """Bodies to send: most with an idempotency key, a third of them repeats of one before."""
    bodies: list[dict[str, Any]] = []
    for number in range(events):
        keyed = [each for each in bodies if "id" in each]
        if keyed and chance.random() < 0.33:
            bodies.append(chance.choice(keyed))
            continue
        body = {"type": "order.paid", "user": f"user_{number % 5}", "marker": f"{name}-{number}"}
        bodies.append({**body, "id": body["marker"]} if chance.random() < 0.8 else body)
    return bodies


async def send(
    cluster: Cluster, path: str, bodies: list[dict[str, Any]], chance: random.Random, pace: float
) -> Load:
    """Send everything, `pace` seconds apart at each sender."""
    load = Load()
    for body in bodies:
        if body["marker"] not in load.markers:
            load.markers.append(body["marker"])
        if "id" in body:
            load.keyed.add(body["marker"])
    waiting = iter(bodies)

    async def sender() -> None:
        for body in waiting:
            await _send_one(cluster, path, body, chance, load)
            await asyncio.sleep(pace * chance.uniform(0.5, 1.5))

    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return load


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
