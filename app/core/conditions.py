"""Conditions in Knock's model: variable, operator, argument, combined by `all` and `any`.

What a variable may read is the owner's: steps of workflows (`app/directory/conditions.py`), mappings
(`app/actions/conditions.py`). Operators: https://docs.knock.app/concepts/conditions
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from pydantic import Field, ValidationInfo, field_validator, model_validator

from app.core import exact_json
from app.core.changes import Change
from app.core.errors import Permanent

MAXIMUM_CONDITIONS = 100
# Comparisons of `contains_all`, whose two sides may both be as large as an event.
MAXIMUM_COMPARISONS = 20_000
MAXIMUM_SEARCHED = 20_000_000

Operator = Literal[
    "equal_to",
    "not_equal_to",
    "greater_than",
    "less_than",
    "greater_than_or_equal_to",
    "less_than_or_equal_to",
    "contains",
    "not_contains",
    "contains_all",
    "not_contains_all",
    "empty",
    "not_empty",
    "exists",
    "not_exists",
    "is_timestamp",
    "is_not_timestamp",
    "is_timestamp_on_or_after",
    "is_timestamp_before",
]
UNARY = frozenset({"empty", "not_empty", "exists", "not_exists", "is_timestamp", "is_not_timestamp"})
# Knock takes the empty string for what is not there.
NOTHING = ""


class TooMuchToCompare(Permanent):
    """Both sides of a comparison are too large."""


class Comparison(Change):
    """One comparison."""

    variable: str
    operator: Operator
    argument: str | None = Field(None, validate_default=True)

    @field_validator("argument")
    @classmethod
    def _is_there(cls, given: str | None, info: ValidationInfo) -> str | None:
        operator = info.data.get("operator")
        if given is None and operator is not None and operator not in UNARY:
            raise ValueError(f"is required with {operator}")
        return given


class Combination(Change):
    """Conditions of which all, or any, must hold. Members of `any` may be groups of `all`."""

    all: list[Any] | None = None
    any: list[Any] | None = None

    @model_validator(mode="after")
    def _is_one_group(self) -> "Combination":
        if (self.all is None) == (self.any is None):
            raise ValueError("must have either all or any")
        if len(self.all or self.any or []) > MAXIMUM_CONDITIONS:
            raise ValueError(f"has more than {MAXIMUM_CONDITIONS} conditions")
        if any(isinstance(each, Combination) and each.any is not None for each in self.any or []):
            raise ValueError("groups within any can only be groups of all")
        return self


def argument_of(text: str) -> Any:
    """The value of an argument that is no path: JSON, else the text itself."""
    try:
        return exact_json.loads(text)
    except orjson.JSONDecodeError:
        return text


def compares(operator: Operator, variable: Any, argument: Any) -> bool:
    """Whether a comparison holds.

    Raises:
        TooMuchToCompare: both sides are too large, or nested too deep.
    """
    try:
        return _OPERATORS[operator](variable, argument)
    except RecursionError:
        raise TooMuchToCompare("the values are nested too deep to be compared") from None


def look_up(path: str, scope: Mapping[str, Any]) -> Any:
    """The value at a dotted path, or the empty string; numbers are places in arrays."""
    value: Any = scope
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, NOTHING)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return NOTHING
    return value


def moment_of(value: Any) -> datetime | None:
    """A timestamp in ISO 8601, in UTC unless it says otherwise; None when it is not one."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _equal(left: Any, right: Any) -> bool:
    """Equal as JSON: a number is not a boolean, but 1 is 1.0. Null equals what is not there."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right or (left in (None, NOTHING) and right in (None, NOTHING)))


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def check(left: Any, right: Any) -> bool:
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (left, right))
        texts = isinstance(left, str) and isinstance(right, str) and bool(left and right)
        return (numbers or texts) and compare(left, right)

    return check


def _contains(variable: Any, argument: Any) -> bool:
    if isinstance(variable, str):
        return isinstance(argument, str) and argument in variable
    return isinstance(variable, list) and any(_equal(each, argument) for each in variable)


def _contains_all(variable: Any, argument: Any) -> bool:
    wanted = argument if isinstance(argument, list) else [argument]
    if isinstance(variable, str) and len(variable) * len(wanted) > MAXIMUM_SEARCHED:
        raise TooMuchToCompare(f"{len(wanted)} texts are too many to look for in {len(variable)} characters")
    if isinstance(variable, list) and len(wanted) > 1 and len(variable) * len(wanted) > MAXIMUM_COMPARISONS:
        raise TooMuchToCompare(f"{len(wanted)} values are too many to look for among {len(variable)}")
    return all(_contains(variable, each) for each in wanted)


def _is_empty(variable: Any, _: Any) -> bool:
    return variable in ("", None, [], {})


def _in_order(compare: Callable[[datetime, datetime], bool]) -> Callable[[Any, Any], bool]:
    def check(left: Any, right: Any) -> bool:
        first, second = moment_of(left), moment_of(right)
        return first is not None and second is not None and compare(first, second)

    return check


def _not(check: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: not check(left, right)


def _exists(variable: Any, _: Any) -> bool:
    return variable not in (None, NOTHING)


def _is_timestamp(variable: Any, _: Any) -> bool:
    return moment_of(variable) is not None


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "equal_to": _equal,
    "not_equal_to": _not(_equal),
    "greater_than": _ordered(lambda left, right: left > right),
    "less_than": _ordered(lambda left, right: left < right),
    "greater_than_or_equal_to": _ordered(lambda left, right: left >= right),
    "less_than_or_equal_to": _ordered(lambda left, right: left <= right),
    "contains": _contains,
    "not_contains": _not(_contains),
    "contains_all": _contains_all,
    "not_contains_all": _not(_contains_all),
    "empty": _is_empty,
    "not_empty": _not(_is_empty),
    "exists": _exists,
    "not_exists": _not(_exists),
    "is_timestamp": _is_timestamp,
    "is_not_timestamp": _not(_is_timestamp),
    "is_timestamp_on_or_after": _in_order(lambda left, right: left >= right),
    "is_timestamp_before": _in_order(lambda left, right: left < right),
}
