"""JSON-RPC 2.0 as reverse ETL tools speak it: one request, one answer, errors within the answer.

https://www.jsonrpc.org/specification. Neither batches nor notifications: no tool sends them.
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


class InvalidParams(DoorbellError):
    """A method's parameters are not what it takes; the message says which."""


async def answer(body: bytes, methods: Mapping[str, Method]) -> Json:
    """The answer to a request, whatever the request is."""
    try:
        request = exact_json.loads(body)
    except orjson.JSONDecodeError as error:
        return _error(None, PARSE_ERROR, f"the body is not JSON: {error}")
    if not isinstance(request, dict):
        return _error(None, INVALID_REQUEST, "a request is one JSON object")
    identifier = request.get("id")
    if not isinstance(identifier, str | int | float) or isinstance(identifier, bool):
        return _error(None, INVALID_REQUEST, "id is not a string or a number")
    if request.get("jsonrpc") != "2.0":
        return _error(identifier, INVALID_REQUEST, 'jsonrpc is not "2.0"')
    name, params = request.get("method"), request.get("params", {})
    if not isinstance(name, str):
        return _error(identifier, INVALID_REQUEST, "method is not a string")
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
