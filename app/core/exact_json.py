"""JSON whose whole numbers keep their digits: `orjson` reads those beyond 64 bits as floats, and writes none.

Everything else is as `orjson` does it. A number of more than 308 digits is no number to it.
"""

import json
from collections.abc import Callable
from typing import Any

import orjson

JSONDecodeError = orjson.JSONDecodeError
JSONEncodeError = orjson.JSONEncodeError

_DECODER = json.JSONDecoder()
# What 64 bits do not hold has 19 digits at least; with a sign or not, all of 20 or more are beyond.
_DIGITS = bytes(ord("0") if chr(each).isdigit() and each < 128 else each for each in range(256))
_MANY_DIGITS = b"0" * 19
# What some editors and libraries of Microsoft's put before a text; it is no part of it.
BYTE_ORDER_MARK = "\ufeff".encode()
_LARGEST, _SMALLEST = 2**64 - 1, -(2**63)


def loads(text: bytes | str) -> Any:
    """The value that a JSON text writes. A byte order mark before it is skipped.

    Raises:
        JSONDecodeError: it is not JSON.
    """
    sent = (text.encode() if isinstance(text, str) else bytes(text)).removeprefix(BYTE_ORDER_MARK)
    value = orjson.loads(sent)
    if _MANY_DIGITS not in sent.translate(_DIGITS):
        return value
    try:
        # `orjson` has found it to be JSON, which this reads more loosely.
        return _DECODER.decode(sent.decode())
    except RecursionError:
        return value


def dumps(value: Any, default: Callable[[Any], Any] | None = None, option: int = 0) -> bytes:
    """JSON as `orjson` writes it.

    Raises:
        JSONEncodeError: it cannot be written.
    """
    try:
        return orjson.dumps(value, default, option)
    except JSONEncodeError as error:
        if "64-bit" not in str(error):
            raise
    try:
        return orjson.dumps(_written_out(value), default, option)
    except RecursionError:
        raise JSONEncodeError("nested too deep") from None


def _written_out(value: Any) -> Any:
    """The value with each whole number beyond 64 bits as its digits."""
    if isinstance(value, dict):
        return {name: _written_out(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written_out(item) for item in value]
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        return orjson.Fragment(str(value))
    return value
