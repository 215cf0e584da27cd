"""A stand-in for Knock at its worst: it enforces the documented rate limits, fails at random, and drops
connections before and after doing what it was asked."""

import random
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web
from starlette.responses import Response

from tests.knock import success

# Calls a second of each endpoint: docs.knock.app/api-reference, rate limits and the tier of each endpoint.
ENDPOINTS = {
    "users_identify": ("PUT", r"/v1/users/[^/]+", 60),
    "users_merge": ("POST", r"/v1/users/[^/]+/merge", 5),
    "users_delete": ("DELETE", r"/v1/users/[^/]+", 5),
    "objects_set": ("PUT", r"/v1/objects/[^/]+/[^/]+", 60),
    "objects_delete": ("DELETE", r"/v1/objects/[^/]+/[^/]+", 60),
    "tenants_set": ("PUT", r"/v1/tenants/[^/]+", 60),
    "tenants_delete": ("DELETE", r"/v1/tenants/[^/]+", 5),
    "objects_subscribe": ("POST", r"/v1/objects/[^/]+/[^/]+/subscriptions", 60),
    "objects_unsubscribe": ("DELETE", r"/v1/objects/[^/]+/[^/]+/subscriptions", 60),
    "audiences_add_member": ("POST", r"/v1/audiences/[^/]+/members", 60),
    "audiences_remove_member": ("DELETE", r"/v1/audiences/[^/]+/members", 60),
    "workflows_cancel": ("POST", r"/v1/workflows/[^/]+/cancel", 1000),
    "workflows_trigger": ("POST", r"/v1/workflows/[^/]+/trigger", 1000),
}


def _response(answer: Response) -> web.Response:
    return web.Response(body=bytes(answer.body), status=answer.status_code, content_type="application/json")


@dataclass(frozen=True)
class Arrival:
    """A request, and what was done with it."""

    at: float
    endpoint: str
    request: str
    body: bytes
    idempotency_key: str
    outcome: str


@dataclass
class StrictKnock:
    """`trouble` is the share of requests that fail in one of five ways; `rates` times the documented
    limits."""

    trouble: float = 0.0
    rates: float = 1.0
    url: str = ""
    arrivals: list[Arrival] = field(default_factory=list)
    _chance: random.Random = field(default_factory=lambda: random.Random(7))
    _taken: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    _triggered: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def outcomes(self, endpoint: str | None = None) -> Counter[str]:
        """How many requests ended how."""
        return Counter(each.outcome for each in self.arrivals if endpoint in (None, each.endpoint))

    def busiest_second(self, endpoint: str) -> int:
        """The most requests within any one second."""
        most, window = 0, deque[float]()
        for each in self.arrivals:
            if each.endpoint == endpoint:
                window.append(each.at)
                while window[0] <= each.at - 1:
                    window.popleft()
                most = max(most, len(window))
        return most

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.method == "GET":
            return _response(success(request.method, request.path))
        endpoint = next(
            name
            for name, (method, path, _) in ENDPOINTS.items()
            if method == request.method and re.fullmatch(path, request.raw_path.split("?")[0])
        )
        outcome = self._outcome(endpoint, body, request.headers["idempotency-key"])
        self.arrivals.append(
            Arrival(
                time.monotonic(),
                endpoint,
                f"{request.method} {request.raw_path}",
                body,
                request.headers["idempotency-key"],
                outcome,
            )
        )
        if outcome in ("dropped", "dropped after"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if outcome == "done":
            done = success(request.method, request.path, body)
            return web.Response(
                body=bytes(done.body), status=done.status_code, content_type="application/json"
            )
        status = {"limited": 429, "busy": 429, "down": 503, "broken": 500, "conflict": 409, "mismatch": 400}[
            outcome
        ]
        error = {"code": outcome, "message": f"it is {outcome}", "status": status, "type": "api_error"}
        headers = {"retry-after": "1"} if status == 429 else {}
        return web.Response(
            body=orjson.dumps(error), status=status, content_type="application/json", headers=headers
        )

    def _outcome(self, endpoint: str, body: bytes, key: str) -> str:
        taken, moment = self._taken[endpoint], time.monotonic()
        while taken and taken[0] <= moment - 1:
            taken.popleft()
        if len(taken) >= ENDPOINTS[endpoint][2] * self.rates:
            return "limited"
        taken.append(moment)
        trouble = None
        if self._chance.random() < self.trouble:
            trouble = self._chance.choice(["busy", "down", "broken", "conflict", "dropped", "dropped after"])
        if trouble is not None and trouble != "dropped after":
            return trouble
        if endpoint == "workflows_trigger" and self._triggered.setdefault(key, (body, endpoint))[0] != body:
            return "mismatch"
        return trouble or "done"

    @property
    def triggered(self) -> int:
        """How many workflows ran: a repeated idempotency key runs none."""
        return len(self._triggered)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["StrictKnock"]:
        """Answer on a free port of loopback."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()
