"""What was applied to whom: for each property of a user, object or tenant, and each membership, which event
set it last at a destination.

It is written in the statement that records an action's success, and read before an action is sent:
`app/events/superseded.py` decides with it what an older event may still change.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from app.actions.base import ActionType, Change, Effect, Payload, Subject
from app.actions.effects import address_of, leaves_of, members_of, storable, subject_of
from app.models.types import now

# What `properties` of a membership has as its only key.
MEMBERSHIP = "member"
# The words with which the types of events end that say that they create something.
_CREATES = ("created", "create", "inserted", "insert")

Mark = Mapping[str, Any]


class Key(NamedTuple):
    """A row: a user, object or tenant, or with a `target` its membership in that."""

    collection: str
    id: str
    target: str = ""


@dataclass(frozen=True)
class Position:
    """Where an event stands among those about the same thing.

    `event_id` is that of the original, if the event is a replay. `occurred_at`: its own time in
    milliseconds, if it has one. `creates`: it says that it creates the thing. `is_whole`: the action's
    mapping has `skip_older`.
    """

    event_id: str
    occurred_at: int | None = None
    creates: bool = False
    source_key: str = ""
    is_whole: bool = False

    def as_mark(self) -> dict[str, Any]:
        """As it is stored. What is false or missing takes no place."""
        given = {
            "e": self.event_id,
            "t": self.occurred_at,
            "c": self.creates,
            "s": self.source_key,
            "w": self.is_whole,
        }
        return {name: value for name, value in given.items() if value not in (None, False, "")}

    @classmethod
    def of_mark(cls, mark: Mark) -> "Position":
        """As it was stored."""
        return cls(mark["e"], mark.get("t"), mark.get("c", False), mark.get("s", ""), mark.get("w", False))

    def is_later_than(self, other: "Position") -> bool:
        """By their own times where both have one, else by receipt. At equal times the event that creates the
        thing is the older. As the database's doorbell_is_later."""
        if self.occurred_at is not None and other.occurred_at is not None:
            if self.occurred_at != other.occurred_at:
                return self.occurred_at > other.occurred_at
            if self.creates != other.creates:
                return other.creates
        return self.event_id > other.event_id


@dataclass(frozen=True)
class Applied:
    """A row as it is now."""

    properties: Mapping[str, Mark] = field(default_factory=dict)
    deleted: Mark | None = None
    version: int = 0
    last_event: str = ""

    def version_after(self, event_id: str) -> int:
        """The version when an event changes the row as it is now."""
        return self.version + (self.last_event != event_id)


@dataclass(frozen=True)
class Standing:
    """What was applied so far to what an action changes, and when that was looked up."""

    rows: Mapping[Key, Applied] = field(default_factory=dict)
    looked_up_at: datetime = field(default_factory=now)

    def of(self, key: Key) -> Applied:
        return self.rows.get(key, Applied())


@dataclass(frozen=True)
class AppliedChange:
    """What a call that succeeded changed of a row. `deletes`: the thing itself."""

    key: Key
    properties: tuple[str, ...]
    deletes: bool = False


def says_it_creates(event_type: str | None) -> bool:
    """Whether a type of event says that the thing was created: `user.created`, `customers/create`."""
    return (event_type or "").lower().endswith(_CREATES)


def event_time(occurred_at: datetime | None, received_at: datetime) -> int | None:
    """An event's own time in milliseconds. Nothing occurs after its receipt, whatever a clock says."""
    return None if occurred_at is None else int(min(occurred_at, received_at).timestamp() * 1000)


def keys_of(action: ActionType, payload: Payload | None) -> list[Key]:
    """The rows that say whether an action's event is older: what it changes, and what that belongs to."""
    effect = action.effect
    if effect is None or payload is None:
        return []
    subject = subject_of(effect, payload)
    if effect.members is None:
        return [_key(subject)]
    keys = [_key(subject)]
    for member in members_of(effect, payload):
        keys += [_key(member.subject), _key(member.subject, member.target)]
    return keys


def changes_of(action: ActionType, payload: Payload) -> list[AppliedChange]:
    """What a call with this payload changed."""
    effect = action.effect
    if effect is None:
        return []
    if effect.members is not None:
        return [
            AppliedChange(_key(each.subject, each.target), (MEMBERSHIP,))
            for each in members_of(effect, payload)
        ]
    key = _key(subject_of(effect, payload))
    if effect.change is Change.DELETES:
        return [AppliedChange(key, (), deletes=True)]
    return [AppliedChange(key, tuple(leaves_of(payload, address_of(effect))))]


def membership_keys(effect: Effect, payload: Payload) -> Iterator[tuple[Any, Key, Key]]:
    """Each member that a payload lists, as listed, with its own row and that of the membership."""
    for member in members_of(effect, payload):
        yield member.value, _key(member.subject), _key(member.subject, member.target)


def subject_key(effect: Effect, payload: Payload) -> Key:
    """The row of what an action changes."""
    return _key(subject_of(effect, payload))


def latest(positions: Iterable[Position]) -> Position | None:
    """The last of these."""
    last: Position | None = None
    for each in positions:
        if last is None or each.is_later_than(last):
            last = each
    return last


def _key(subject: Subject, target: str = "") -> Key:
    return Key(storable(subject.collection), storable(subject.id), target)
