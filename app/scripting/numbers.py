"""Whole numbers that a script reads rounded: JavaScript's own numbers have 53 bits."""

from typing import Any

LARGEST_EXACT = 2**53 - 1
MAXIMUM_SHOWN = 200
_DIGITS = bytes(ord("0") if each in b"0123456789" else each for each in range(256))
_MANY_DIGITS = b"0" * len(str(LARGEST_EXACT))


def rounded_in_javascript(text: bytes, body: Any) -> str | None:
    """What to note of a body that a script read, when it holds a number that the script cannot."""
    if _MANY_DIGITS not in text.translate(_DIGITS):
        return None
    place = _first_rounded(body)
    if place is None:
        return None
    return (
        f"script: JavaScript rounds the whole number at {_shown(place)}; "
        "paths into body keep its digits, and the script finds them in ctx.rawBody"
    )


def _shown(place: str) -> str:
    """A place for the log: short, and without what Postgres cannot store."""
    return place[:MAXIMUM_SHOWN].replace("\x00", "\\u0000")


def _first_rounded(body: Any) -> str | None:
    """Where the first such number is. Not recursive: a sender decides how deep an event is nested."""
    remaining: list[tuple[str, Any]] = [("body", body)]
    while remaining:
        place, value = remaining.pop()
        if isinstance(value, int) and abs(value) > LARGEST_EXACT:
            return place
        if isinstance(value, dict):
            remaining += [(f"{place}.{name}", item) for name, item in reversed(value.items())]
        elif isinstance(value, list):
            remaining += [(f"{place}.{number}", item) for number, item in reversed(list(enumerate(value)))]
    return None
