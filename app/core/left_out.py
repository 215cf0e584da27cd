"""How an entry of an action's `left_out` reads, wherever people see it."""

from typing import Any


def named(left_out: dict[str, Any]) -> str:
    """What an entry is about: a parameter, a property, or a member of a list."""
    what: str = left_out.get("parameter") or left_out["property"]
    return f"{what}: {left_out['member']}" if "member" in left_out else what
