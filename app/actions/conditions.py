"""Conditions on mappings: whether an event runs the action, in Knock's model of conditions.

Variables are paths as parameters have them, with their root, and `vars.<key>` is a public variable of the
environment. Secret variables are for scripts alone: a reason names the value that a condition read.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any

import orjson
from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from app.actions.paths import MISSING, ROOTS, DecodedEvent, PathError, parse_path, resolve
from app.actions.spelling import check_path
from app.core import exact_json
from app.core.conditions import (
    MAXIMUM_CONDITIONS,
    NOTHING,
    UNARY,
    Combination,
    Comparison,
    TooMuchToCompare,
    argument_of,
    compares,
)
from app.core.errors import DoorbellError
from app.core.validation import field_errors

VARIABLES = "vars"
CONDITION_ROOTS = (*ROOTS, VARIABLES)
MAXIMUM_ARGUMENT_LENGTH = 4096
# How the error of an action begins that is skipped because of its conditions.
UNMET = "conditions not met: "
MAXIMUM_REASONS = 3
MAXIMUM_SHOWN_VALUE = 60

_WORDS = {
    "equal_to": "be equal to",
    "not_equal_to": "not be equal to",
    "greater_than": "be greater than",
    "less_than": "be less than",
    "greater_than_or_equal_to": "be greater than or equal to",
    "less_than_or_equal_to": "be less than or equal to",
    "contains": "contain",
    "not_contains": "not contain",
    "contains_all": "contain all of",
    "not_contains_all": "not contain all of",
    "empty": "be empty",
    "not_empty": "not be empty",
    "exists": "exist",
    "not_exists": "not exist",
    "is_timestamp": "be a timestamp",
    "is_not_timestamp": "not be a timestamp",
    "is_timestamp_on_or_after": "be a timestamp on or after",
    "is_timestamp_before": "be a timestamp before",
}


class ConditionError(DoorbellError):
    """A condition that cannot be evaluated on an event; the message names it."""


class MappingCondition(Comparison):
    """One comparison: what an event has at a path, with text, a JSON value or what it has at another path."""

    variable: str = Field(description="A path with its root, or `vars.<key>`.", examples=["body.plan"])
    argument: Annotated[str, Field(max_length=MAXIMUM_ARGUMENT_LENGTH)] | None = Field(
        None, validate_default=True, description="A path, else JSON, else the text itself."
    )

    @field_validator("variable")
    @classmethod
    def _is_a_path(cls, given: str) -> str:
        if not _has_root(given) and given not in ROOTS:
            known = ", ".join(f"{each}." for each in CONDITION_ROOTS)
            raise ValueError(f"{given!r} must begin with one of {known}: write body.{given} for the body")
        _check(given)
        return given

    @field_validator("argument", mode="before")
    @classmethod
    def _is_text(cls, given: Any, info: ValidationInfo) -> Any:
        if info.data.get("operator") in UNARY and given is not None:
            raise ValueError(f"must be left out with {info.data['operator']}")
        if given is None or isinstance(given, str):
            return given
        written = exact_json.dumps(given, default=str).decode()
        raise ValueError(f"is not text: write it as JSON in quotes, {exact_json.dumps(written).decode()}")

    @field_validator("argument")
    @classmethod
    def _is_readable(cls, given: str | None) -> str | None:
        if given is not None and _has_root(given):
            _check(given)
        return given


def _member(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """A member of `any`, so that what is wrong with it is named at its own place."""
    if not isinstance(value, dict):
        raise ValueError("is not an object")  # noqa: TRY004 (Pydantic collects this one)
    is_group = not value.keys().isdisjoint({"all", "any"})
    return (MappingConditions if is_group else MappingCondition).model_validate(value)


class MappingConditions(Combination):
    """Conditions of which all, or any, must hold. Members of `any` may be groups of `all`."""

    all: list[MappingCondition] | None = None
    any: "list[Annotated[MappingCondition | MappingConditions, WrapValidator(_member)]] | None" = None

    @model_validator(mode="after")
    def _is_bounded(self) -> "MappingConditions":
        if sum(1 for _ in _conditions_in(self)) > MAXIMUM_CONDITIONS:
            raise ValueError(f"has more than {MAXIMUM_CONDITIONS} conditions")
        return self


def reason_unmet(
    stored: Mapping[str, Any] | None, event: DecodedEvent, variables: Mapping[str, str]
) -> str | None:
    """Why an event does not run the action of a mapping with these conditions; None when it does.

    Raises:
        ConditionError: a condition cannot be evaluated on the event.
    """
    if stored is None:
        return None
    conditions = _parsed(exact_json.dumps(stored))
    failed = _unmet(conditions, event, variables)
    if not failed:
        return None
    shown = failed[:MAXIMUM_REASONS]
    more = f"; and {len(failed) - len(shown)} more" if len(failed) > len(shown) else ""
    return _storable(UNMET + "; ".join(shown) + more)


def is_unmet(error: str | None) -> bool:
    """Whether the error of a skipped action says that its conditions were not met."""
    return error is not None and error.startswith(UNMET)


@lru_cache(maxsize=1024)
def _parsed(stored: bytes) -> MappingConditions:
    try:
        return MappingConditions.model_validate(exact_json.loads(stored))
    except ValidationError as error:
        first = field_errors(error.errors(), within="conditions")[0]
        message = f"the conditions cannot be read: {first.field}: {first.message}"
        raise ConditionError(message) from None


def _conditions_in(group: MappingConditions) -> Iterator[MappingCondition]:
    for each in [*(group.all or []), *(group.any or [])]:
        if isinstance(each, MappingConditions):
            yield from _conditions_in(each)
        else:
            yield each


def _unmet(group: MappingConditions, event: DecodedEvent, variables: Mapping[str, str]) -> list[str]:
    """Why the group does not hold, one reason for each condition; none when it does."""
    if group.any is None:
        return [reason for each in group.all or [] if (reason := _reason(each, event, variables)) is not None]
    reasons: list[str] = []
    for member in group.any:
        if isinstance(member, MappingConditions):
            found = _unmet(member, event, variables)
        else:
            reason = _reason(member, event, variables)
            found = [] if reason is None else [reason]
        if not found:
            return []
        reasons += found
    return reasons


def _reason(condition: MappingCondition, event: DecodedEvent, variables: Mapping[str, str]) -> str | None:
    """Why a condition does not hold; None when it does."""
    variable = _value(condition.variable, event, variables)
    argument = _argument(condition.argument, event, variables)
    try:
        if compares(condition.operator, variable, argument):
            return None
    except TooMuchToCompare as error:
        raise ConditionError(_storable(f"condition {_written(condition)}: {error}")) from None
    found = "has no value" if variable == NOTHING else f"is {_shown(variable)}"
    wanted = "" if condition.argument is None else f" {_shown_argument(condition.argument, argument)}"
    return f"{condition.variable} {found}, and must {_WORDS[condition.operator]}{wanted}"


def _written(condition: MappingCondition) -> str:
    parts = (condition.variable, condition.operator, condition.argument)
    return " ".join(each for each in parts if each is not None)


def _argument(text: str | None, event: DecodedEvent, variables: Mapping[str, str]) -> Any:
    if text is None:
        return None
    return _value(text, event, variables) if _has_root(text) else argument_of(text)


def _value(path: str, event: DecodedEvent, variables: Mapping[str, str]) -> Any:
    if path.startswith(f"{VARIABLES}."):
        return variables.get(path.removeprefix(f"{VARIABLES}."), NOTHING)
    value = resolve(parse_path(path), event)
    return NOTHING if value is MISSING else value


def _has_root(text: str) -> bool:
    return text.startswith(tuple(f"{each}." for each in CONDITION_ROOTS))


def _check(path: str) -> None:
    if path.startswith(f"{VARIABLES}."):
        return
    try:
        check_path(path)
    except PathError as error:
        raise ValueError(str(error)) from None


def _shown(value: Any) -> str:
    """A value as JSON when it is short, else what it is."""
    if isinstance(value, list):
        return f"an array with {len(value)} entries"
    if isinstance(value, dict):
        return f"an object with {len(value)} entries"
    if isinstance(value, str) and len(value) > MAXIMUM_SHOWN_VALUE:
        value = f"{value[:MAXIMUM_SHOWN_VALUE]}..."
    try:
        return exact_json.dumps(value).decode()
    except orjson.JSONEncodeError:
        return "text that is not Unicode"


def _shown_argument(text: str, value: Any) -> str:
    """An argument as it was compared; of one that is read from the event, where."""
    written = _shown(value) if not isinstance(value, list) else text[:MAXIMUM_SHOWN_VALUE]
    return f"{text} ({_shown(value)})" if _has_root(text) else written


def _storable(text: str) -> str:
    return text.replace("\x00", "\\u0000")
