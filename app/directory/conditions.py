"""Conditions of workflows and steps, in Knock's model (`app/core/conditions.py`).

Scope: https://docs.knock.app/concepts/conditions
"""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from app.core.conditions import Combination, Comparison, argument_of, compares, look_up

# What a variable may begin with; an argument that does is a path too.
PREFIXES = ("data", "recipient", "actor", "tenant", "workflow", "run", "refs")


class Condition(Comparison):
    """One comparison."""

    @model_validator(mode="after")
    def _fits(self) -> "Condition":
        if not _is_path(self.variable):
            raise ValueError(f"variable must begin with one of {', '.join(f'{each}.' for each in PREFIXES)}")
        return self


class ConditionGroup(Combination):
    """Conditions of which all, or any, must hold. Members of `any` may be groups of `all`."""

    all: "list[Condition] | None" = None
    any: "list[Condition | ConditionGroup] | None" = None


def holds(group: ConditionGroup | None, scope: Mapping[str, Any]) -> bool:
    """Whether the conditions are met. None, or an empty group, is always met."""
    if group is None:
        return True
    if group.any is not None:
        return not group.any or any(
            _holds(each, scope) if isinstance(each, Condition) else holds(each, scope) for each in group.any
        )
    return all(_holds(each, scope) for each in group.all or [])


def _is_path(text: str) -> bool:
    return text.partition(".")[0] in PREFIXES and "." in text


def _holds(condition: Condition, scope: Mapping[str, Any]) -> bool:
    variable = look_up(condition.variable, scope)
    return compares(condition.operator, variable, _argument(condition.argument, scope))


def _argument(text: str | None, scope: Mapping[str, Any]) -> Any:
    """A path, else JSON, else the text itself."""
    if text is None:
        return None
    return look_up(text, scope) if _is_path(text) else argument_of(text)
