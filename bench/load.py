"""The load generator, in a process of its own: signed Stripe events over keep-alive connections.

    python -m bench.load URL --connections 64 --seconds 5          as many as the server takes (closed loop)
    python -m bench.load URL --connections 64 --seconds 5 --rate 200   offered at a fixed rate (open loop)

Prints JSON: requests answered 2xx, others, seconds, and latencies in milliseconds. At a fixed rate a latency
counts from the moment at which the request was due, so that a stalled server is not flattered (coordinated
omission). Requests are made and signed before the clock starts; the client costs the machine little: it
writes bytes and looks for the end of the answer.
"""

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections import deque
from collections.abc import Iterator
from urllib.parse import urlsplit

import orjson

from app.models.types import now
from app.providers.registry import providers

SECRET = "whsec_" + "bench" * 6
BODY_BYTES = 1536
CUSTOMERS = 1000


def requests(url: str, count: int) -> Iterator[bytes]:
    """Whole HTTP requests, each a different event of about 1.5 KB, signed as Stripe signs."""
    parts = urlsplit(url)
    scheme = providers()["stripe"].scheme
    assert scheme is not None
    example = providers()["stripe"].examples["invoice.paid"][0].body
    filler = "x" * max(0, BODY_BYTES - len(orjson.dumps(example)))
    moment = now()
    for number in range(count):
        event = {**example, "id": f"evt_{secrets.token_hex(12)}", "filler": filler}
        event["created"] = int(moment.timestamp())
        # Many customers: the events of a single one would wait for each other at its row.
        customer = {**example["data"]["object"], "customer": f"cus_{number % CUSTOMERS}"}
        event["data"] = {**example["data"], "object": customer}
        body = orjson.dumps(event)
        headers = {
            "host": parts.netloc,
            "content-type": "application/json",
            "content-length": str(len(body)),
            **scheme.sign(body, SECRET, moment, ""),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        yield f"POST {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Load:
    """One run."""

    def __init__(self, url: str, pool: deque[bytes]) -> None:
        self._address = urlsplit(url)
        self._pool = pool
        self.latencies: list[float] = []
        self.refused = 0

    async def closed(self, connections: int, seconds: float) -> None:
        """Every connection sends its next request when the one before is answered."""
        end = time.perf_counter() + seconds

        async def client() -> None:
            reader, writer = await self._connect()
            while self._pool and time.perf_counter() < end:
                began = time.perf_counter()
                await self._exchange(reader, writer)
                self.latencies.append(time.perf_counter() - began)
            writer.close()

        await asyncio.gather(*(client() for _ in range(connections)))

    async def open(self, connections: int, seconds: float, rate: float) -> None:
        """Requests fall due at a fixed rate; one that finds all connections busy waits, and its wait
        counts."""
        began = time.perf_counter()
        due = deque(began + number / rate for number in range(int(seconds * rate)))

        async def client() -> None:
            reader, writer = await self._connect()
            while due and self._pool:
                moment = due.popleft()
                if (early := moment - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                await self._exchange(reader, writer)
                self.latencies.append(time.perf_counter() - moment)
            writer.close()

        await asyncio.gather(*(client() for _ in range(connections)))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._address.hostname, self._address.port)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._pool.popleft())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if length:
            await reader.readexactly(length)
        if head[9:10] != b"2":
            self.refused += 1


def percentile(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--most", type=int, default=40_000, help="requests made ahead")
    chosen = parser.parse_args()
    count = int(chosen.rate * chosen.seconds) if chosen.rate else chosen.most
    load = Load(chosen.url, deque(requests(chosen.url, count)))
    import uvloop

    cpu, began = time.process_time(), time.perf_counter()
    if chosen.rate:
        uvloop.run(load.open(chosen.connections, chosen.seconds, chosen.rate))
    else:
        uvloop.run(load.closed(chosen.connections, chosen.seconds))
    elapsed = time.perf_counter() - began
    latencies = sorted(load.latencies)
    json.dump(
        {
            "accepted": len(latencies) - load.refused,
            "refused": load.refused,
            "seconds": elapsed,
            "rate": (len(latencies) - load.refused) / elapsed,
            "cpu_ms": (time.process_time() - cpu) * 1000 / max(1, len(latencies)),
            "p50_ms": percentile(latencies, 0.5) * 1000,
            "p99_ms": percentile(latencies, 0.99) * 1000,
            "max_ms": latencies[-1] * 1000,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
