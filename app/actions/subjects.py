"""Which users an evaluated payload is about: whom it identifies, deletes, notifies, names as actor or adds.

Erasure finds a user's events by it (`app/retention/event_erasure.py`).
"""

from typing import Any

from app.actions.base import ActionType, Payload, ValueKind
from app.models.directory import USERS

_MANY = frozenset({ValueKind.RECIPIENTS, ValueKind.REFERENCES})


def users_of(action: ActionType, payload: Payload) -> set[str]:
    """The ids of the users that a payload of this action names."""
    found = set()
    for parameter in action.parameters:
        value = payload.get(parameter.name)
        if value is None:
            continue
        if parameter.names_user:
            found.add(value)
        elif parameter.kind is ValueKind.RECIPIENT:
            found.add(_user(value))
        elif parameter.kind in _MANY:
            found.update(map(_user, value))
        elif parameter.kind is ValueKind.MEMBERS:
            found.update(_user(each["user"]) for each in value)
    return {each for each in found if each is not None}


def _user(recipient: Any) -> str | None:
    """The id of a recipient that is a user; None for an object."""
    if isinstance(recipient, str):
        return recipient
    identifier: str | None = recipient["id"] if recipient.get("collection", USERS) == USERS else None
    return identifier
