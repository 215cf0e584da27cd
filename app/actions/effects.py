"""What an evaluated payload changes: its subject, the properties that it sets, the members that it names."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from app.actions.base import Effect, Payload, Subject
from app.database.engine import to_json
from app.models.directory import USERS
from app.models.types import digest_of

# Longer names and ids are kept as digests: an entry of an index holds 2,700 bytes.
MAXIMUM_NAME = 200
# Properties of one payload that are told apart.
MAXIMUM_LEAVES = 1000
# Objects that a destination replaces as a whole, by the parameter that holds them by name.
_WHOLE_BELOW = frozenset({"channel_data", "preferences"})
_SEGMENT = re.compile(r'(?:^|\.)(?:"(?:[^"\\]|\\.)*"|[^."]+)')
_PLAIN = re.compile(r'[^."]+')


@dataclass(frozen=True)
class ChangedMember:
    """Somebody whom a payload adds or removes: as listed, who it is, and a name of what it is a member
    of."""

    value: Any
    subject: Subject
    target: str


def subject_of(effect: Effect, payload: Payload) -> Subject:
    """What a payload changes."""
    return effect.subject(payload)


def address_of(effect: Effect) -> frozenset[str]:
    """The parameters that say which subject it is."""
    return frozenset({"id", "collection"}) if effect.members is None else frozenset()


def members_of(effect: Effect, payload: Payload) -> list[ChangedMember]:
    """Whom a payload adds or removes."""
    assert effect.members is not None
    of = effect.subject(payload)
    return [_member(of, each, payload.get("tenant")) for each in payload[effect.members]]


def _member(of: Subject, value: Any, tenant: str | None) -> ChangedMember:
    is_membership = isinstance(value, dict) and "user" in value
    who = value["user"] if is_membership else value
    within = value.get("tenant", tenant) if is_membership else tenant
    subject = (
        Subject(USERS, who) if isinstance(who, str) else Subject(who.get("collection", USERS), who["id"])
    )
    return ChangedMember(value, subject, storable(to_json([*of, within])))


def leaves_of(payload: Payload, address: Collection[str]) -> list[str]:
    """The properties that a payload sets, as paths: destinations merge objects within objects."""
    found: dict[str, None] = {}
    for path, _ in _leaves(payload, address):
        if len(found) == MAXIMUM_LEAVES:
            break
        found[storable(path)] = None
    return list(found)


def ancestors_of(path: str) -> list[str]:
    """What the property at a path is part of."""
    return [path[: each.start()] for each in _SEGMENT.finditer(path) if each.start()]


def without_leaves(payload: Payload, address: Collection[str], dropped: Collection[str]) -> Payload:
    """The payload without the properties at these paths."""
    kept: Payload = {}
    for name, value in payload.items():
        if name in address:
            kept[name] = value
        elif name == "properties":
            properties = {
                each: _pruned(item, _joined("", each), each, dropped) for each, item in value.items()
            }
            kept[name] = {each: item for each, item in properties.items() if item is not _GONE}
        elif (pruned := _pruned(value, _joined("", name), name, dropped)) is not _GONE:
            kept[name] = pruned
    return kept


_GONE: Any = object()


def _pruned(value: Any, path: str, top: str, dropped: Collection[str], depth: int = 0) -> Any:
    """A value without what is dropped of it; _GONE when nothing is left."""
    if not _is_branch(value, top, depth):
        return _GONE if storable(path) in dropped else value
    kept = {
        name: each
        for name, item in value.items()
        if (each := _pruned(item, _joined(path, name), top, dropped, depth + 1)) is not _GONE
    }
    return kept or _GONE


def _leaves(payload: Payload, address: Collection[str]) -> Iterator[tuple[str, Any]]:
    for name, value in payload.items():
        if name == "properties":
            for each, item in value.items():
                yield from _below(item, _joined("", each), each, 0)
        elif name not in address:
            yield from _below(value, _joined("", name), name, 0)


def _below(value: Any, path: str, top: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not _is_branch(value, top, depth):
        yield path, value
        return
    for name, item in value.items():
        yield from _below(item, _joined(path, name), top, depth + 1)


def _is_branch(value: Any, top: str, depth: int) -> bool:
    return isinstance(value, dict) and bool(value) and not (top in _WHOLE_BELOW and depth == 1)


def _joined(path: str, name: str) -> str:
    """A path with one more name, as the mapping language writes it."""
    if not _PLAIN.fullmatch(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{path}.{name}" if path else name


def storable(text: str) -> str:
    """A text as Postgres keeps it in an index: itself, or a digest when it is long or holds a NUL."""
    if len(text) <= MAXIMUM_NAME and "\x00" not in text:
        return text
    return f"sha256:{digest_of(text).hex()}"
