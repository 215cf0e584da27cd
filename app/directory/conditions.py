"""Conditions of workflows and steps, in Knock's model: variable, operator, argument, combined by `all` and
`any`.

Operators and scope: https://docs.knock.app/concepts/conditions
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from pydantic import model_validator

from app.core import exact_json
from app.core.changes import Change

MAXIMUM_CONDITIONS = 100
# What a variable may begin with; an argument that does is a path too.
PREFIXES = ("data", "recipient", "actor", "tenant", "workflow", "run", "refs")

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
_UNARY = frozenset({"empty", "not_empty", "exists", "not_exists", "is_timestamp", "is_not_timestamp"})
# Knock takes the empty string for what is not there.
_MISSING = ""


class Condition(Change):
    """One comparison."""

    variable: str
    operator: Operator
    argument: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Condition":
        if not _is_path(self.variable):
            raise ValueError(f"variable must begin with one of {', '.join(f'{each}.' for each in PREFIXES)}")
        if self.argument is None and self.operator not in _UNARY:
            raise ValueError(f"argument is required with {self.operator}")
        return self


class ConditionGroup(Change):
    """Conditions of which all, or any, must hold. Members of `any` may be groups of `all`."""

    all: "list[Condition] | None" = None
    any: "list[Condition | ConditionGroup] | None" = None

    @model_validator(mode="after")
    def _is_one_group(self) -> "ConditionGroup":
        if (self.all is None) == (self.any is None):
            raise ValueError("must have either all or any")
        if len(self.all or self.any or []) > MAXIMUM_CONDITIONS:
            raise ValueError(f"has more than {MAXIMUM_CONDITIONS} conditions")
        if any(isinstance(each, ConditionGroup) and each.any is not None for each in self.any or []):
            raise ValueError("groups within any can only be groups of all")
        return self


def holds(group: ConditionGroup | None, scope: Mapping[str, Any]) -> bool:
    """Whether the conditions are met. None, or an empty group, is always met."""
    if group is None:
        return True
    if group.any is not None:
        return not group.any or any(
            _holds(each, scope) if isinstance(each, Condition) else holds(each, scope) for each in group.any
        )
    return all(_holds(each, scope) for each in group.all or [])


def look_up(path: str, scope: Mapping[str, Any]) -> Any:
    """The value at a dotted path, or the empty string; numbers are places in arrays."""
    value: Any = scope
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, _MISSING)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _MISSING
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


def _is_path(text: str) -> bool:
    return text.partition(".")[0] in PREFIXES and "." in text


def _holds(condition: Condition, scope: Mapping[str, Any]) -> bool:
    variable = look_up(condition.variable, scope)
    return _OPERATORS[condition.operator](variable, _argument(condition.argument, scope))


def _argument(text: str | None, scope: Mapping[str, Any]) -> Any:
    """A path, else JSON, else the text itself."""
    if text is None:
        return None
    if _is_path(text):
        return look_up(text, scope)
    try:
        return exact_json.loads(text)
    except orjson.JSONDecodeError:
        return text


def _equal(left: Any, right: Any) -> bool:
    """Equal as JSON: a number is not a boolean, but 1 is 1.0. Null equals what is not there."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right or (left in (None, _MISSING) and right in (None, _MISSING)))


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
    return all(_contains(variable, each) for each in (argument if isinstance(argument, list) else [argument]))


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
    return variable not in (None, _MISSING)


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
