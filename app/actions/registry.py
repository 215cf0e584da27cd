"""Finds the action types: every `ActionType` in the modules of this package."""

import importlib
import pkgutil
from functools import cache

import app.actions
from app.actions.base import ActionType


@cache
def action_types() -> dict[str, ActionType]:
    """All action types by name, in the order in which they run."""
    modules = (
        importlib.import_module(f"app.actions.{info.name}")
        for info in pkgutil.iter_modules(app.actions.__path__)
    )
    found = {
        each.name: each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, ActionType)
    }
    return {each.name: each for each in sorted(found.values(), key=lambda each: each.order)}
