"""Values of a body that are never mapped and never shown, such as password hashes: providers declare where
they are."""

from collections.abc import Callable, Sequence
from typing import Any

from app.actions.paths import MISSING, Key, parse_path
from app.core.secrets import REDACTED


def redacted(body: Any, paths: Sequence[str]) -> Any:
    """The body as people may see it. Empty values stay: that a value is not set is no secret."""
    return _changed_at(body, paths, lambda value: value if value in (None, "") else REDACTED)


def withheld(body: Any, paths: Sequence[str]) -> Any:
    """The body as mappings may read it: without these values, as if they had not been sent."""
    return _changed_at(body, paths, lambda value: MISSING)


def _changed_at(body: Any, paths: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """The body with each value at these paths changed, copied where it differs."""
    for path in paths:
        body = _change(body, parse_path(path).keys, change)
    return body


def _change(value: Any, keys: Sequence[Key], change: Callable[[Any], Any]) -> Any:
    if not keys:
        return change(value)
    key, rest = keys[0], keys[1:]
    if key.projects and isinstance(value, list):
        return [_change(item, rest, change) for item in value]
    if not isinstance(value, dict) or key.name not in value:
        return value
    changed = _change(value[key.name], rest, change)
    if changed is MISSING:
        return {name: item for name, item in value.items() if name != key.name}
    return {**value, key.name: changed}
