"""JSON as it was sent: arrays as the bytes of their elements, which are what was signed and what is stored;
its depth; the parts of a request that can be taken though others cannot."""

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from app.core import exact_json
from app.core.errors import Rejected

# A number too long for Python's int is no reason to refuse what `orjson` reads.
_DECODER = json.JSONDecoder(parse_int=float)
# Half of a surrogate pair: text with it cannot be written. Here it stands for what is not JSON, such as NaN.
_UNWRITABLE = "\ud800"
_LOOSE = json.JSONDecoder(parse_constant=_UNWRITABLE.__add__)
# Levels of nesting that a body has at most. What is stored and sent has more around it, and `orjson` writes
# 254.
MAXIMUM_DEPTH = 200
_WRITTEN_DEPTH = 254
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class Part:
    """One event of a request, as JSON. `problem` says why it cannot be taken."""

    body: bytes
    decoded: Any = None
    problem: Rejected | None = None


def part_of(body: bytes, where: str) -> Part:
    """A part of a request, which is an event when it is a JSON object. `where` names it in what is wrong."""
    try:
        decoded = exact_json.loads(body)
    except orjson.JSONDecodeError as error:
        return Part(body, problem=Rejected(400, "invalid_json", f"{where} is not JSON: {error}"))
    if not isinstance(decoded, dict):
        return Part(body, problem=Rejected(400, "invalid_batch", f"{where} is not an object"))
    if is_too_deep(body, decoded):
        return Part(body, problem=Rejected(400, "json_too_deep", too_deep(where)))
    return Part(body, decoded)


def too_deep(where: str) -> str:
    """What is wrong with JSON that is nested too deep."""
    return f"{where} is nested more than {MAXIMUM_DEPTH} levels deep"


def loads_loosely(text: bytes) -> Any:
    """The value of a text that is JSON but for some of its parts: half of a surrogate pair, NaN, bytes that
    are not UTF-8. Such a part becomes text that cannot be written: `part_of` refuses what it is in, and
    nothing else.

    Raises:
        ValueError: it is not JSON otherwise either.
    """
    try:
        return _LOOSE.decode(_text(text))
    except RecursionError:
        raise ValueError("nested too deep") from None


def as_sent(value: Any) -> bytes:
    """A value as JSON, also one that `part_of` will refuse."""
    try:
        return exact_json.dumps(value)
    except orjson.JSONEncodeError:
        pass
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except RecursionError:
        return b""


def _text(sent: bytes) -> str:
    """Bytes as text, from which they can be had again whatever they are."""
    return sent.removeprefix(exact_json.BYTE_ORDER_MARK).decode(errors="surrogateescape")


def elements(array: bytes, limit: int | None = None) -> list[bytes]:
    """The elements of an array, each as it was sent; with `limit`, the first ones.

    Raises:
        ValueError: it is not an array, or is nested too deep.
    """
    text = _text(array)
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
        found.append(text[position:end].encode(errors="surrogateescape"))
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            raise ValueError("not an array")
    return found


def is_too_deep(text: bytes, value: Any, limit: int = MAXIMUM_DEPTH) -> bool:
    """Whether JSON, which was read from this text, is nested deeper than `limit`."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    for _ in range(_WRITTEN_DEPTH - limit):
        value = [value]
    try:
        exact_json.dumps(value)
    except orjson.JSONEncodeError:
        return True
    return False


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
