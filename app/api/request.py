"""How the directory reads requests: ids with encoded slashes, `name[]` queries, JSON that Postgres can
store."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.storable import MAXIMUM_BODY_BYTES, check_storable, unstorable
from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.core.validation import names_another_path
from app.models.types import new_id

# A larger body is parsed in a thread.
_PARSED_AT_ONCE = 128 * 1024
_BRACKETED = re.compile(r"([^\[\]]+)((?:\[\w*\])+)")
_UNION_TAGS = frozenset({"id-string", "inline-user", "inline-object", "inline-tenant", "reference"})


class DirectoryRequest(Request):
    """A request whose JSON can be stored and whose query is read as Knock's SDKs write it."""

    async def body(self) -> bytes:
        """The body, bounded while it is read."""
        if not hasattr(self, "_body"):
            _check_length(self.headers.get("content-length", ""))
            chunks: list[bytes] = []
            size = 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > MAXIMUM_BODY_BYTES:
                    raise _too_large()
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) <= _PARSED_AT_ONCE:
                self._json = _parsed(body)
            else:
                self._json = await asyncio.get_running_loop().run_in_executor(_parsers(), _parsed, body)
        return self._json

    @property
    def query_params(self) -> QueryParams:
        if not hasattr(self, "_query_params"):
            query = self.scope["query_string"].decode("latin-1")
            self._query_params = QueryParams(list(plain_query(query)) if query else [])
        return self._query_params


class DirectoryRoute(APIRoute):
    """A route that reads its request as a DirectoryRequest and names the fields that are wrong.

    FastAPI reads the body before it calls any dependency: `admit` comes before both.
    """

    async def admit(self, request: Request) -> None:
        """Let a caller in by the headers of the request.

        Raises:
            RequestError: 401, the credential opens nothing.
        """
        raise NotImplementedError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            request = DirectoryRequest(request.scope, request.receive)
            request.state.request_id = str(new_id())
            await self.admit(request)
            _restore_path_params(request)
            if await request.body():
                # Before FastAPI does, which would hide what is wrong behind an answer of its own.
                await request.json()
            try:
                response = await handle(request)
            except RequestValidationError as error:
                if names_another_path(error.errors()):
                    raise
                raise invalid_parameters(error) from None
            response.headers["x-request-id"] = request.state.request_id
            return response

        return handler


class EncodedSlashes:
    """Lets `%2F` in an id survive routing, which works on the decoded path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"%2f" in (raw_path := scope.get("raw_path") or b"").lower():
            scope = {**scope, "path": raw_path.decode("latin-1"), "doorbell_encoded_path": True}
        await self._app(scope, receive, send)


@cache
def _parsers() -> ThreadPoolExecutor:
    """Threads that parse large bodies: more at once would need as many times the memory."""
    return ThreadPoolExecutor(2, "parser")


def _parsed(body: bytes) -> Any:
    """A body that is JSON and can be stored."""
    try:
        parsed = exact_json.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, "invalid_json", f"The body is not JSON: {error}") from None
    check_storable(body, parsed)
    return parsed


def _check_length(declared: str) -> None:
    """Refuse what says beforehand that it is too large."""
    if (
        declared.isascii()
        and declared.isdigit()
        and len(declared) < 20
        and int(declared) > MAXIMUM_BODY_BYTES
    ):
        raise _too_large()


def _too_large() -> RequestError:
    return RequestError(413, "request_too_large", f"A request has at most {MAXIMUM_BODY_BYTES} bytes")


def _restore_path_params(request: Request) -> None:
    if request.scope.get("doorbell_encoded_path"):
        for name, value in request.path_params.items():
            request.path_params[name] = unquote(value)
    if any("\x00" in str(value) for value in request.path_params.values()):
        raise unstorable("the path")


def plain_query(query: str) -> Iterator[tuple[str, str]]:
    """The query's parameters with brackets read: `a[]=1` is `a=1`; `a[id]=1&a[collection]=2` is JSON under
    `a`.

    Of several objects, the first has the first value of each member: Knock's clients differ in whether the
    members of an object are together or the values of a member.
    """
    objects: dict[str, dict[str, list[str]]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if "\x00" in name or "\x00" in value:
            raise unstorable("the query")
        bracketed = _BRACKETED.fullmatch(name)
        base, inner = (bracketed[1], bracketed[2].strip("[]")) if bracketed else (name, "")
        member = inner.rpartition("[")[2].rpartition("]")[2]
        if not member or member.isdigit():
            yield base, value
        else:
            objects.setdefault(base, {}).setdefault(member, []).append(value)
    for base, members in objects.items():
        for place in range(max(map(len, members.values()))):
            parts = {name: values[place] for name, values in members.items() if place < len(values)}
            yield base, exact_json.dumps(parts).decode()


def invalid_parameters(error: RequestValidationError) -> RequestError:
    """Knock's answer to parameters that do not fit."""
    errors = [FieldError(_field(each["loc"]), each["msg"]) for each in error.errors()]
    first = errors[0]
    return RequestError(422, "invalid_params", f"{first.field}: {first.message}", errors=errors)


def _field(location: tuple[str | int, ...]) -> str:
    parts = [str(part) for part in location[1:] if part not in _UNION_TAGS]
    return ".".join(parts) or str(location[0])
