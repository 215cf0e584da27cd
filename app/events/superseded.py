"""What of an action is still to be sent, when later events changed the same thing: without `skip_older` what
no later one set, with it nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.actions.base import ActionType, ChangeKind, Effect, Payload
from app.actions.effects import address_of, ancestors_of, leaves_of, without_leaves
from app.actions.registry import action_types
from app.events.applied import (
    Applied,
    LookUp,
    Mark,
    Position,
    Standing,
    changes_of,
    keys_of,
    latest,
    look_up,
    membership_keys,
    subject_key,
)
from app.models.types import id_time_range

# The actions of events as they were evaluated, which a replay sends again or evaluates anew.
_ACTIONS = text("""
SELECT action.* FROM unnest(CAST(:ids AS uuid[]), CAST(:firsts AS uuid[]), CAST(:ends AS uuid[])) AS event
  (id, first, "end")
CROSS JOIN LATERAL (
    SELECT event_id, environment, action_type, payload, position FROM actions
    WHERE actions.id >= event.first AND actions.id < event."end" AND actions.event_id = event.id
      AND action_type = ANY(CAST(:types AS text[])) AND payload IS NOT NULL OFFSET 0
) AS action
""")

# How many of the things that a call does not carry are named, each.
MAXIMUM_NAMED = 100


@dataclass(frozen=True)
class Rest:
    """What is left of a call. `payload` None: nothing. `left_out` names the rest, `reason` says why."""

    payload: Payload | None
    left_out: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None


def rest_of(action: ActionType, payload: Payload, position: Position, standing: Standing) -> Rest:
    """What is left of a call, given what was applied so far."""
    effect = action.effect
    if effect is None or not any(_later(each, position) for each in standing.rows.values()):
        return Rest(payload)
    if effect.members is not None:
        return _members_left(effect, payload, position, standing)
    row = standing.of(subject_key(effect, payload))
    if effect.change is ChangeKind.DELETES:
        return _superseded(latest(_later(row, position).values()), "set it again")
    return _properties_left(effect, payload, position, row)


def holders_of(action: ActionType, payload: Payload, standing: Standing) -> list[Position]:
    """The events that hold what a payload changes, and what that is part of; the last one last."""
    assert action.effect is not None
    found: dict[str, Position] = {}
    for change in changes_of(action, payload):
        row = standing.of(change.key)
        mine = set(change.properties) | {above for each in change.properties for above in ancestors_of(each)}
        marks = [
            mark
            for name, mark in row.properties.items()
            if change.deletes or not mine.isdisjoint([name, *ancestors_of(name)])
        ]
        if row.deleted is not None:
            marks.append(row.deleted)
        found |= {each["e"]: Position.of_mark(each) for each in marks}
    return sorted(found.values(), key=cmp_to_key(_compared))


async def count_superseded(connection: AsyncConnection, ids: Sequence[UUID], destination: str) -> int:
    """How many of these events have an action of which a later success left something out, or all."""
    types = action_types()
    ranges = [id_time_range(each) for each in ids]
    rows = await connection.execute(
        _ACTIONS,
        {
            "ids": list(ids),
            "firsts": [first for first, _ in ranges],
            "ends": [end for _, end in ranges],
            "types": [each.name for each in types.values() if each.effect is not None],
        },
    )
    actions = rows.all()
    look_ups = [
        LookUp(each.environment, destination, keys_of(types[each.action_type], each.payload))
        for each in actions
    ]
    older = set()
    for each, standing in zip(actions, await look_up(connection, look_ups), strict=True):
        position = Position(str(each.event_id)) if each.position is None else Position.of_mark(each.position)
        rest = rest_of(types[each.action_type], each.payload, position, standing)
        if rest.payload is None or rest.left_out:
            older.add(each.event_id)
    return len(older)


def _compared(one: Position, other: Position) -> int:
    return 1 if one.is_later_than(other) else -1


def _properties_left(effect: Effect, payload: Payload, position: Position, row: Applied) -> Rest:
    later = _later(row, position)
    if deleted := later.pop(_DELETED, None):
        return _superseded(deleted, "deleted it")
    if position.is_whole:
        whole = [each for each in later.values() if _is_alike(each, position)]
        if whole:
            return _superseded(latest(whole), "was applied")
    address = address_of(effect)
    leaves = leaves_of(payload, address)
    dropped = _set_later(leaves, later)
    if not dropped:
        return Rest(payload)
    left_out = [_named({"property": each}, by) for each, by in dropped.items()]
    if len(dropped) == len(leaves):
        return replace(_superseded(latest(dropped.values()), "set all of it"), left_out=_capped(left_out))
    return Rest(without_leaves(payload, address, dropped), _capped(left_out))


def _members_left(effect: Effect, payload: Payload, position: Position, standing: Standing) -> Rest:
    parameter = effect.members
    assert parameter is not None
    parent = _deletion(standing.of(subject_key(effect, payload)), position)
    kept, left_out, superseding = [], [], []
    for value, member, membership in membership_keys(effect, payload):
        found = [
            parent,
            _deletion(standing.of(member), position),
            *_later(standing.of(membership), position).values(),
        ]
        by = latest(each for each in found if each is not None)
        if by is None:
            kept.append(value)
        else:
            superseding.append(by)
            left_out.append(_named({"parameter": parameter, "member": member.id}, by))
    if not superseding:
        return Rest(payload)
    if not kept:
        what = "changed the membership"
        return replace(_superseded(latest(superseding), what), left_out=_capped(left_out))
    return Rest({**payload, parameter: kept}, _capped(left_out))


# A key that no path is: it is where a deletion stands among what is later.
_DELETED = ""


def _later(row: Applied, position: Position) -> dict[str, Position]:
    """What later events did to a row, by property."""
    marks: Mapping[str, Mark] = (
        row.properties if row.deleted is None else {**row.properties, _DELETED: row.deleted}
    )
    found = {name: Position.of_mark(mark) for name, mark in marks.items()}
    return {name: each for name, each in found.items() if _is_later(each, position)}


def _deletion(row: Applied, position: Position) -> Position | None:
    deleted = None if row.deleted is None else Position.of_mark(row.deleted)
    return deleted if deleted is not None and _is_later(deleted, position) else None


def _is_later(one: Position, other: Position) -> bool:
    """Of two actions of one event, neither is."""
    return one.event_id != other.event_id and one.is_later_than(other)


def _is_alike(one: Position, other: Position) -> bool:
    """Whether both carry the whole object as one source knows it: of another source's, parts may be
    missing."""
    return one.is_whole and one.source_key == other.source_key


def _set_later(paths: Sequence[str], later: Mapping[str, Position]) -> dict[str, Position]:
    """Those of these properties that something set later: them, what they are part of, or a part of them."""
    around = {above: by for name, by in later.items() for above in ancestors_of(name)} | dict(later)
    found = {}
    for path in paths:
        by = next((later[above] for above in ancestors_of(path) if above in later), around.get(path))
        if by is not None:
            found[path] = by
    return found


def _superseded(by: Position | None, what: str) -> Rest:
    assert by is not None
    moment = "" if by.occurred_at is None else f" of {_moment(by.occurred_at)}"
    return Rest(None, reason=f"superseded: the later event {by.event_id}{moment} {what}")


def _named(what: dict[str, Any], by: Position) -> dict[str, Any]:
    return {**what, "reason": f"superseded by event {by.event_id}"}


def _moment(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _capped(left_out: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(left_out) <= MAXIMUM_NAMED:
        return left_out
    others = {"parameter": f"{len(left_out) - MAXIMUM_NAMED} others", "reason": "superseded"}
    return [*left_out[:MAXIMUM_NAMED], others]
