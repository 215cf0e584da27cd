"""Ids as senders write them: text, or a whole number, which stands for its digits."""

from typing import Any

# JSON has one type of number: a whole one may have been written as 7.0. From here on two numbers that differ
# are read as the same float, so that its digits are not those that were sent.
INEXACT_FROM = 2**53


def identifier_of(value: Any) -> str | None:
    """The id that a value is; None when it is none. Empty text is none, and a float that may be rounded."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < INEXACT_FROM:
        return str(int(value))
    return None


def may_be_rounded(value: Any) -> bool:
    """Whether a number was written with a fraction or an exponent, and is too large to keep its digits."""
    return isinstance(value, float) and abs(value) >= INEXACT_FROM
