"""JSON as it was sent: arrays as the bytes of their elements, which are what was signed and what is stored;
its depth."""

import json
import re
from typing import Any

import orjson

from app.core import exact_json

# A number too long for Python's int is no reason to refuse what `orjson` reads.
_DECODER = json.JSONDecoder(parse_int=float)
# Levels of nesting that a body has at most. What is stored and sent has more around it, and `orjson` writes
# 254.
MAXIMUM_DEPTH = 200
_WRITTEN_DEPTH = 254
_SPACE = re.compile(r"[ \t\n\r]*")


def elements(array: bytes, limit: int | None = None) -> list[bytes]:
    """The elements of an array, each as it was sent; with `limit`, the first ones.

    Raises:
        ValueError: it is not an array, or is nested too deep.
    """
    text = array.decode()
    position = _skip(text, 0)
    if text[position : position + 1] != "[":
        raise ValueError("not an array")
    found: list[bytes] = []
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]" and (limit is None or len(found) < limit):
        try:
            _, end = _DECODER.raw_decode(text, position)
        except RecursionError:
            raise ValueError("nested too deep") from None
        found.append(text[position:end].encode())
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            raise ValueError("not an array")
    return found


def is_too_deep(text: bytes, value: Any) -> bool:
    """Whether JSON, which was read from this text, is nested deeper than `MAXIMUM_DEPTH`."""
    if text.count(b"[") + text.count(b"{") <= MAXIMUM_DEPTH:
        return False
    for _ in range(_WRITTEN_DEPTH - MAXIMUM_DEPTH):
        value = [value]
    try:
        exact_json.dumps(value)
    except orjson.JSONEncodeError:
        return True
    return False


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
