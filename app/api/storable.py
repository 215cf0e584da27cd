"""What of a request can be stored."""

from collections.abc import Iterator
from typing import Any

from app.core.errors import RequestError
from app.core.raw_json import is_too_deep

# Room for a workflow's data, 10 MB, and a thousand recipients beside it.
MAXIMUM_BODY_BYTES = 16 * 1024 * 1024
# Merging goes level by level; Postgres's stack holds more than this.
MAXIMUM_DEPTH = 100


def check_storable(body: bytes, parsed: Any) -> None:
    """Refuse what Postgres cannot hold as jsonb.

    Raises:
        RequestError: it names the character or the depth.
    """
    # The depth first: the texts are found by recursion.
    if is_too_deep(body, parsed, MAXIMUM_DEPTH):
        raise RequestError(422, "invalid_params", f"The body is nested more than {MAXIMUM_DEPTH} levels deep")
    if b"\\u0000" in body and any("\x00" in each for each in _texts(parsed)):
        raise unstorable("the body")


def unstorable(where: str) -> RequestError:
    """The refusal of a character that Postgres has no text for."""
    return RequestError(422, "invalid_params", f"The character U+0000 in {where} cannot be stored")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
