"""JSON-RPC 2.0 as reverse ETL tools speak it: errors within the answer, batches, notifications.

https://www.jsonrpc.org/specification
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from app.core import exact_json
from app.core.errors import DoorbellError

Json = dict[str, Any]
Method = Callable[[Json], Awaitable[Json | None]]

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
# Requests of a batch; each may write thousands of events.
MAXIMUM_BATCH = 50


class InvalidParams(DoorbellError):
    """A method's parameters are not what it takes; the message says which."""


async def answer(body: bytes, methods: Mapping[str, Method]) -> Json | list[Json] | None:
    """The answer to a request or to a batch of requests, whatever it is; None when only notifications came,
    which are answered by nothing."""
    try:
        request = exact_json.loads(body)
    except orjson.JSONDecodeError as error:
        return _error(None, PARSE_ERROR, f"the body is not JSON: {error}")
    if not isinstance(request, list):
        return await _answer(request, methods)
    if not request:
        return _error(None, INVALID_REQUEST, "the batch has no requests")
    if len(request) > MAXIMUM_BATCH:
        message = f"the batch has {len(request)} requests, allowed are {MAXIMUM_BATCH}"
        return _error(None, INVALID_REQUEST, message)
    # One after another: requests of one batch may be about one audience.
    answered = [await _answer(each, methods) for each in request]
    return [each for each in answered if each is not None] or None


async def _answer(request: Any, methods: Mapping[str, Method]) -> Json | None:
    """The answer to one request, None to a notification."""
    if not isinstance(request, dict):
        return _error(None, INVALID_REQUEST, "a request is a JSON object")
    identifier = request.get("id")
    if isinstance(identifier, bool) or not isinstance(identifier, str | int | float | None):
        return _error(None, INVALID_REQUEST, "id is not a string, a number or null")
    if request.get("jsonrpc") != "2.0":
        return _error(identifier, INVALID_REQUEST, 'jsonrpc is not "2.0"')
    if not isinstance(request.get("method"), str):
        return _error(identifier, INVALID_REQUEST, "method is not a string")
    answered = await _call(identifier, request["method"], request.get("params", {}), methods)
    return answered if "id" in request else None


async def _call(identifier: Any, name: str, params: Any, methods: Mapping[str, Method]) -> Json:
    if name not in methods:
        known = ", ".join(methods)
        return _error(identifier, METHOD_NOT_FOUND, f"there is no method {name[:100]!r}; there are {known}")
    if not isinstance(params, dict):
        return _error(identifier, INVALID_PARAMS, "params is not an object")
    try:
        result = await methods[name](params)
    except InvalidParams as error:
        return _error(identifier, INVALID_PARAMS, str(error))
    return {"jsonrpc": "2.0", "id": identifier, "result": result}


def _error(identifier: Any, code: int, message: str) -> Json:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}


def member(params: Json, *names: str) -> Json:
    """The object under these names, one within the other.

    Raises:
        InvalidParams: it is missing or something else.
    """
    value: Any = params
    for position, name in enumerate(names, start=1):
        value = value.get(name)
        if not isinstance(value, dict):
            raise InvalidParams(f"{'.'.join(names[:position])} is not an object")
    return dict(value)


def rows(params: Json, name: str, limit: int) -> list[Any]:
    """The array under this name.

    Raises:
        InvalidParams: it is missing, something else, or too long.
    """
    value = params.get(name)
    if not isinstance(value, list):
        raise InvalidParams(f"{name} is not an array")
    if len(value) > limit:
        raise InvalidParams(f"{name} has {len(value)} entries, allowed are {limit}")
    return value
