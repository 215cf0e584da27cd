"""A stand-in for Knock, the far side of the internet: a real HTTP server that answers as it is told."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class Call:
    """One request that arrived."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]
    query: str = ""
    raw: bytes = b""

    @property
    def idempotency_key(self) -> str:
        return self.headers["idempotency-key"]


@dataclass
class Down:
    """Refuses, as `refuse` of a `KnockServer`, the calls that it `concerns`, to be tried again in a second,
    until it is `over`."""

    concerns: Callable[[Call], bool]
    over: bool = False

    async def __call__(self, call: Call) -> Response | None:
        if self.over or not self.concerns(call):
            return None
        return error(503, "unavailable", "down", retry_after="1")


@dataclass
class KnockServer:
    """Answers 200 like Knock, unless `answers` holds other responses to give first, where None is Knock's
    own, or `refuse` gives one for the call. `done` are the calls that it took, in the order in which it did.
    With a closed `gate`, calls that arrived wait for their answer until it opens."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    done: list[Call] = field(default_factory=list)
    answers: deque[Response | None] = field(default_factory=deque)
    refuse: Callable[[Call], Awaitable[Response | None]] | None = None
    delay: float = 0.0
    gate: asyncio.Event | None = None

    def properties_of(self, path: str) -> dict[str, Any] | None:
        """What is set there by now; None when it does not exist."""
        found: dict[str, Any] | None = None
        for each in self.done:
            if each.path == path and each.method == "PUT":
                found = {**(found or {}), **(each.body or {})}
            elif each.path == path and each.method == "DELETE":
                found = None
        return found

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE"])]
        )

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        call = Call(
            request.method,
            # As sent: an id with a slash in it must not become two segments.
            request.scope["raw_path"].decode(),
            orjson.loads(body) if body else None,
            dict(request.headers),
            request.url.query,
            body,
        )
        self.calls.append(call)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.gate is not None:
            await self.gate.wait()
        if self.answers and (answer := self.answers.popleft()) is not None:
            return answer
        if self.refuse is not None and (refusal := await self.refuse(call)) is not None:
            return refusal
        self.done.append(call)
        return success(request.method, request.url.path, body)


def success(method: str, path: str, body: bytes = b"") -> Response:
    """What Knock answers to a call that it takes."""
    at = "2026-01-01T00:00:00Z"
    match (method, path.split("/")[2:]):
        case (_, [*_, "trigger"]):
            return JSONResponse({"workflow_run_id": "123e4567-e89b-12d3-a456-426614174000"})
        case ("GET", ["users"]):
            page = {"__typename": "PageInfo", "after": None, "before": None, "page_size": 1}
            return JSONResponse({"entries": [], "page_info": page})
        case ("PUT", ["users", user]) | ("POST", ["users", user, "merge"]):
            return JSONResponse({"__typename": "User", "id": user, "updated_at": at})
        case ("PUT", ["tenants", tenant]):
            return JSONResponse({"__typename": "Tenant", "id": tenant, "settings": None})
        case ("PUT", ["objects", collection, key]):
            found = {"__typename": "Object", "id": key, "collection": collection}
            return JSONResponse({**found, "properties": {}, "created_at": at, "updated_at": at})
        case (_, ["objects", collection, key, "subscriptions"]):
            return JSONResponse(
                [
                    {
                        "__typename": "Subscription",
                        "object": {"__typename": "Object", "id": key, "collection": collection},
                        "recipient": {
                            "__typename": "User",
                            "id": each if isinstance(each, str) else each["id"],
                        },
                        "inserted_at": at,
                        "updated_at": at,
                    }
                    for each in orjson.loads(body)["recipients"]
                ]
            )
    return Response(status_code=204)


def error(status: int, code: str, message: str, **headers: str) -> Response:
    """An error as Knock words it."""
    body = {"code": code, "message": message, "status": status, "type": "invalid_request_error"}
    return JSONResponse(
        body, status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
