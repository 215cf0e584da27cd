"""JSON arrays as the bytes of their elements: what was signed, and what is stored, is what was sent."""

import json
import re

# A number too long for Python's int is no reason to refuse what `orjson` reads.
_DECODER = json.JSONDecoder(parse_int=float)
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


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
