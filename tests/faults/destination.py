"""The destination as it can be on a bad day: a real HTTP server that notes every request that reached it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

# Longer than the first try of an action may take (`app/workflows/policies.py`).
SLOW = 5.5


@dataclass
class Destination:
    """`mode`: healthy, slow, flapping, or dropping, which executes and then closes the connection unanswered.

    `calls`: the requests by marker, each as idempotency key and body.
    """

    mode: str = "healthy"
    url: str = ""
    calls: defaultdict[str, list[tuple[str, bytes]]] = field(default_factory=lambda: defaultdict(list))
    _turn: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        decoded: dict[str, Any] = orjson.loads(body)
        self.calls[decoded["data"]["marker"]].append((request.headers["idempotency-key"], body))
        self._turn += 1
        if self.mode == "slow":
            await asyncio.sleep(SLOW)
        elif self.mode == "flapping" and self._turn % 2:
            return web.json_response({"code": "unavailable", "message": "down", "status": 503}, status=503)
        elif self.mode == "dropping" and request.transport:
            request.transport.abort()
        return web.json_response({"workflow_run_id": "123e4567-e89b-12d3-a456-426614174000"})


@asynccontextmanager
async def serve_destination() -> AsyncIterator[Destination]:
    destination = Destination()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", destination.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        destination.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield destination
    finally:
        await runner.cleanup()
