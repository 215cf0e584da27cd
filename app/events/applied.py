"""What was applied to whom: for each property of a user, object or tenant, and each membership, which event
set it last at a destination.

It is written in the statement that records an action's success, and read before an action is sent:
`app/events/superseded.py` decides with it what an older event may still change.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.actions.base import ActionType, ChangeKind, Effect, Payload, Subject
from app.actions.effects import address_of, leaves_of, members_of, storable, subject_of
from app.database.engine import to_json
from app.models.types import now

# What `properties` of a membership has as its only key.
MEMBERSHIP = "member"
# The words with which the types of events end that say that they create something.
_CREATES = ("created", "create", "inserted", "insert")

# An index finds each row, whatever the planner expects of the table.
APPLIED_ROWS = """
FROM json_to_recordset(CAST(:keys AS json)) AS wanted (
    environment text, collection text, id text, target text, destination text)
CROSS JOIN LATERAL (
    SELECT * FROM applied_changes AS applied
    WHERE applied.environment = wanted.environment AND applied.collection = wanted.collection
      AND applied.id = wanted.id AND applied.target = wanted.target
      AND applied.destination = wanted.destination LIMIT 1
) AS found
"""
_LOOK_UP = text(f"SELECT found.* {APPLIED_ROWS}")

Mark = Mapping[str, Any]


class SubjectKey(NamedTuple):
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

    rows: Mapping[SubjectKey, Applied] = field(default_factory=dict)
    looked_up_at: datetime = field(default_factory=now)

    def of(self, key: SubjectKey) -> Applied:
        return self.rows.get(key, Applied())


@dataclass(frozen=True)
class NotedChange:
    """What a call that succeeded changed of a row. `deletes`: the thing itself."""

    key: SubjectKey
    properties: tuple[str, ...]
    deletes: bool = False


@dataclass(frozen=True)
class LookUp:
    """What to look up at a destination of an environment."""

    environment: str
    destination: str
    keys: Sequence[SubjectKey]


def says_it_creates(event_type: str | None) -> bool:
    """Whether a type of event says that the thing was created: `user.created`, `customers/create`."""
    return (event_type or "").lower().endswith(_CREATES)


def event_time(occurred_at: datetime | None, received_at: datetime) -> int | None:
    """An event's own time in milliseconds. Nothing occurs after its receipt, whatever a clock says."""
    return None if occurred_at is None else int(min(occurred_at, received_at).timestamp() * 1000)


def keys_of(action: ActionType, payload: Payload | None) -> list[SubjectKey]:
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


def changes_of(action: ActionType, payload: Payload) -> list[NotedChange]:
    """What a call with this payload changed."""
    effect = action.effect
    if effect is None:
        return []
    if effect.members is not None:
        return [
            NotedChange(_key(each.subject, each.target), (MEMBERSHIP,))
            for each in members_of(effect, payload)
        ]
    key = _key(subject_of(effect, payload))
    if effect.change is ChangeKind.DELETES:
        return [NotedChange(key, (), deletes=True)]
    return [NotedChange(key, tuple(leaves_of(payload, address_of(effect))))]


def membership_keys(effect: Effect, payload: Payload) -> Iterator[tuple[Any, SubjectKey, SubjectKey]]:
    """Each member that a payload lists, as listed, with its own row and that of the membership."""
    for member in members_of(effect, payload):
        yield member.value, _key(member.subject), _key(member.subject, member.target)


def subject_key(effect: Effect, payload: Payload) -> SubjectKey:
    """The row of what an action changes."""
    return _key(subject_of(effect, payload))


def latest(positions: Iterable[Position]) -> Position | None:
    """The last of these."""
    last: Position | None = None
    for each in positions:
        if last is None or each.is_later_than(last):
            last = each
    return last


def _key(subject: Subject, target: str = "") -> SubjectKey:
    return SubjectKey(storable(subject.collection), storable(subject.id), target)


async def look_up(connection: AsyncConnection, look_ups: Sequence[LookUp]) -> list[Standing]:
    """What was applied by now, for each look-up."""
    if not any(each.keys for each in look_ups):
        return [Standing() for _ in look_ups]
    found = await connection.execute(_LOOK_UP, {"keys": wanted_rows(look_ups)})
    return standings(look_ups, found.mappings().all())


def wanted_rows(look_ups: Sequence[LookUp]) -> str:
    """The rows to look up, as JSON."""
    found = {(each.environment, *key, each.destination) for each in look_ups for key in each.keys}
    names = ("environment", *SubjectKey._fields, "destination")
    return to_json([dict(zip(names, each, strict=True)) for each in found])


def standings(look_ups: Sequence[LookUp], rows: Sequence[RowMapping]) -> list[Standing]:
    """What was found, for each look-up."""
    moment = now()
    found = {
        (
            row["environment"],
            row["destination"],
            SubjectKey(row["collection"], row["id"], row["target"]),
        ): Applied(row["properties"], row["deleted"], row["version"], row["last_event"])
        for row in rows
    }
    return [
        Standing(
            {
                key: found[each.environment, each.destination, key]
                for key in each.keys
                if (each.environment, each.destination, key) in found
            },
            moment,
        )
        for each in look_ups
    ]
