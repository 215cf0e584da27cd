"""Paths and templates over a decoded event `{body, headers, preprocess}`.

A path is dot notation: `body.data.object.id`. A first segment that is none of the three names is read from
`body`. `items.0.id` indexes an array, `items.*.id` projects over one, `"a.b".c` quotes a key with dots.

A template is what a mapping's parameter holds: a string is a path, `{"value": ...}` is a constant, other
objects and arrays hold templates, numbers and booleans are themselves, null is nothing. The language in full,
with examples, is in `docs/mappings.md`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from app.core.errors import DoorbellError

ROOTS = ("body", "headers", "preprocess")
MAXIMUM_PATH_LENGTH = 1024
# Each projection and each level of a template is a level of Python's own stack.
MAXIMUM_PATH_KEYS = 100
MAXIMUM_TEMPLATE_DEPTH = 32

# What is no part of a key unless it stands in quotes: it is how other languages write indexes, templates and
# operators. Saved paths are held to it (`app/actions/spelling.py`), the event path reads any key.
OTHER_SYNTAX = re.compile(r"""[\s\[\](){}<>=+?|&;,'"`\\^!%~/*]|^-\d+$""")
COUNTED_BACK = re.compile(r"-\d+")
QUOTED_KEY = re.compile(r'"(?:[^"\\]|\\.)*"')
_SEGMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."]+)')


class Missing(Enum):
    """The type of `MISSING`, which stands for a value that is not there (null is a value)."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


@dataclass(frozen=True)
class DecodedEvent:
    """What paths are read from. Header names are lower-case."""

    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    preprocess: Any = None


class TemplateError(DoorbellError):
    """A template that cannot be evaluated as it is written, whatever the event."""


class PathError(TemplateError):
    """A path that is not written as one."""


@dataclass(frozen=True)
class Path:
    """A parsed path: the root it starts from and the keys to follow. `*` as an unquoted key projects."""

    text: str
    root: str
    keys: tuple["Key", ...]


@dataclass(frozen=True)
class Key:
    """One segment of a path."""

    name: str
    projects: bool = False


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """The path that `text` writes.

    Raises:
        PathError: the text is not a path; the message says where it breaks.
    """
    if not text or text != text.strip():
        raise PathError(f"{text!r} is not a path: it is empty or has spaces around it")
    if len(text) > MAXIMUM_PATH_LENGTH:
        raise PathError(f"a path has at most {MAXIMUM_PATH_LENGTH} characters, this one {len(text)}")
    keys = tuple(_segments(text))
    if len(keys) > MAXIMUM_PATH_KEYS:
        raise PathError(f"a path has at most {MAXIMUM_PATH_KEYS} keys, this one {len(keys)}")
    if keys[0].name in ROOTS and not text.startswith('"'):
        root, keys = keys[0].name, keys[1:]
        return Path(text, root, _header_name(keys) if root == "headers" else keys)
    return Path(text, "body", keys)


def _header_name(keys: tuple["Key", ...]) -> tuple["Key", ...]:
    """Header names compare without case; those of an event are lower-case."""
    return tuple(replace(each, name=each.name.lower()) for each in keys)


def child_path(path: str, name: str) -> str:
    """The path of a key below a path; a name that would be read otherwise is quoted."""
    is_bare = bool(name) and "." not in name and name not in ("$", "@") and not OTHER_SYNTAX.search(name)
    step = name if is_bare else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{path}.{step}" if path else step


def _segments(text: str) -> Iterator[Key]:
    position = 0
    while True:
        match = _SEGMENT.match(text, position)
        if match is None:
            raise PathError(
                f"{text!r} is not a path: expected a key at position {position + 1}. "
                'Write keys between dots, and keys with dots in quotes: body."a.b".c'
            )
        quoted, bare = match.groups()
        if quoted is not None:
            yield Key(re.sub(r"\\(.)", r"\1", quoted))
        else:
            yield Key(bare, projects=bare == "*")
        position = match.end()
        if position == len(text):
            return
        if text[position] != ".":
            raise PathError(f"{text!r} is not a path: expected a dot at position {position + 1}")
        position += 1


def resolve(path: Path, event: DecodedEvent) -> Any:
    """The value at `path`, or MISSING. A projection gives a list of the values that are there."""
    return _follow(getattr(event, path.root), path.keys)


def _follow(value: Any, keys: tuple[Key, ...]) -> Any:
    for position, key in enumerate(keys):
        if key.projects and isinstance(value, list):
            found = (_follow(item, keys[position + 1 :]) for item in value)
            return [item for item in found if item is not MISSING]
        value = _step(value, key.name)
        if value is MISSING:
            return MISSING
    return value


def _step(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name, MISSING)
    if isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
        return value[int(name)]
    return MISSING


def evaluate(template: Any, event: DecodedEvent) -> Any:
    """The value of a template; MISSING when its path leads nowhere.

    Inside objects and arrays, members that are missing are left out. The event is never changed, and the
    result may share structure with it.

    Raises:
        PathError: a path in the template is not written as one.
        TemplateError: the template is nested too deep.
    """
    return _evaluate(template, event, MAXIMUM_TEMPLATE_DEPTH)


def _evaluate(template: Any, event: DecodedEvent, depth: int) -> Any:
    if isinstance(template, str):
        return resolve(parse_path(template), event)
    if is_constant(template):
        return template["value"]
    if isinstance(template, dict):
        _check_depth(depth)
        members = ((key, _evaluate(item, event, depth - 1)) for key, item in template.items())
        return {key: value for key, value in members if value is not MISSING}
    if isinstance(template, list):
        _check_depth(depth)
        values = (_evaluate(item, event, depth - 1) for item in template)
        return [value for value in values if value is not MISSING]
    return MISSING if template is None else template


def is_constant(template: Any) -> bool:
    """Whether a template is `{"value": ...}`, a constant."""
    return isinstance(template, dict) and template.keys() == {"value"}


def paths_in(template: Any) -> Iterator[str]:
    """Every path that a template reads, as written.

    Raises:
        TemplateError: the template is nested too deep.
    """
    return _paths_in(template, MAXIMUM_TEMPLATE_DEPTH)


def _paths_in(template: Any, depth: int) -> Iterator[str]:
    if isinstance(template, str):
        yield template
    elif isinstance(template, dict | list) and not is_constant(template):
        _check_depth(depth)
        for item in template.values() if isinstance(template, dict) else template:
            yield from _paths_in(item, depth - 1)


def _check_depth(depth: int) -> None:
    if depth == 0:
        raise TemplateError(
            f"a template is nested at most {MAXIMUM_TEMPLATE_DEPTH} deep; a constant may be deeper"
        )
