"""Where in a received event its type may stand: what a person chooses from who connects a service of their
own."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.actions.paths import DecodedEvent, child_path
from app.events.reception import read_event_type
from app.logs.entries import LogEntry
from app.models.status import EventStatus

MAXIMUM_DEPTH = 3
MAXIMUM_CHOICES = 12
MAXIMUM_VALUE_LENGTH = 80
# Types look like names; sentences, addresses and times do not.
_NAME = re.compile(r"[A-Za-z][\w.:/ -]*")
_TELLING = (
    re.compile(r"(event|message|webhook|hook)?[-_ ]?(type|name|topic)|event|topic", re.IGNORECASE),
    re.compile(r"type|event|topic|action|kind|trigger|method|name", re.IGNORECASE),
)
# Of a header's name, what says that it is about the connection and not about the event.
_OF_CONNECTION = re.compile(
    r"accept|agent|cache|connection|content|cookie|encoding|forwarded|host|length|origin|sec-|signature"
)


@dataclass(frozen=True)
class Choice:
    """A path, and what it reads from the event."""

    path: str
    value: str


def event_type_choices(body: dict[str, Any] | None, headers: dict[str, str]) -> list[Choice]:
    """The paths that may lead to the type of this event, the likeliest first."""
    found = list(_texts(body or {}, "body", MAXIMUM_DEPTH))
    found += [
        Choice(child_path("headers", name), value)
        for name, value in headers.items()
        if not _OF_CONNECTION.search(name)
    ]
    likely = [
        each
        for each in found
        if len(each.value) <= MAXIMUM_VALUE_LENGTH and _NAME.fullmatch(each.value) and "@" not in each.value
    ]
    return sorted(likely, key=_unlikeliness)[:MAXIMUM_CHOICES]


def event_type_in(entry: LogEntry, path: str | None) -> str | None:
    """The type that a path reads from an event of the log, which of a refused one is none.

    Of an event whose body is not there any more it is the type that was read at its receipt.
    """
    if entry.event.status == EventStatus.REJECTED:
        return None
    if entry.data is None:
        return entry.event.event_type
    event_type, _ = read_event_type(path, DecodedEvent(entry.data, entry.headers, entry.preprocess_output))
    return event_type


def _unlikeliness(choice: Choice) -> tuple[int, bool, int]:
    last = choice.path.rpartition(".")[2]
    exactly, somewhat = _TELLING
    rank = 0 if exactly.fullmatch(last) else 1 if somewhat.search(last) else 2
    return choice.path.count(".") if rank < 2 else MAXIMUM_DEPTH + 1, rank > 0, rank


def _texts(value: dict[str, Any], path: str, depth: int) -> Iterator[Choice]:
    for name, each in value.items():
        if isinstance(each, str):
            yield Choice(child_path(path, name), each)
        elif isinstance(each, dict) and depth > 1:
            yield from _texts(each, child_path(path, name), depth - 1)
