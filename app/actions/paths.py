"""Paths and templates over a decoded event `{body, headers, preprocess}`.

A path is dot notation: `body.data.object.id`. A first segment that is none of the three names is read from
`body`. `items.0.id` indexes an array, `items.*.id` projects over one, `"a.b".c` quotes a key with dots.

A template is what a mapping's parameter holds: a string is a path, `{"value": ...}` is a constant, other
objects and arrays hold templates, numbers and booleans are themselves, null is nothing. Objects with a key of
`EXPRESSIONS` are expressions. The language in full, with examples, is in `docs/mappings.md`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from app.core import exact_json
from app.core.errors import DoorbellError

ROOTS = ("body", "headers", "preprocess")
MAXIMUM_PATH_LENGTH = 1024
# Each projection and each level of a template is a level of Python's own stack.
MAXIMUM_PATH_KEYS = 100
MAXIMUM_TEMPLATE_DEPTH = 32
MAXIMUM_ALTERNATIVES = 20

# The first that has a value; Liquid; a constant; an object whose keys are not read as an expression's.
FIRST_OF, LIQUID, LITERAL, OBJECT = "$first_of", "$template", "$literal", "$object"
# Beside LIQUID: what its text is read as.
READ_AS = "$as"
READ_AS_KINDS = {"number": "a number", "boolean": "true or false", "json": "JSON"}
MAXIMUM_SHOWN_TEXT = 60
EXPRESSIONS = (FIRST_OF, LIQUID, LITERAL, OBJECT)

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


class TemplateError(DoorbellError):
    """A template that cannot be evaluated: as it is written, or on this event."""


@dataclass(frozen=True)
class DecodedEvent:
    """What paths are read from. Header names are lower-case."""

    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    preprocess: Any = None
    # The texts of Liquid templates that were rendered on it (`app/actions/liquid_values.py`), by template.
    rendered: Mapping[str, "str | TemplateError"] = field(default_factory=dict, repr=False)


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
        if (kind := expression_in(template)) is not None:
            return _EVALUATIONS[kind](template, event, depth - 1)
        members = ((key, _evaluate(item, event, depth - 1)) for key, item in template.items())
        return {key: value for key, value in members if value is not MISSING}
    if isinstance(template, list):
        _check_depth(depth)
        values = (_evaluate(item, event, depth - 1) for item in template)
        return [value for value in values if value is not MISSING]
    return MISSING if template is None else template


def _first_of(template: dict[str, Any], event: DecodedEvent, depth: int) -> Any:
    """The first alternative that has a value; null, empty text and an empty array are none."""
    for each in template[FIRST_OF]:
        value = _evaluate(each, event, depth)
        if value is not MISSING and value is not None and value not in ("", []):
            return value
    return MISSING


def _liquid(template: dict[str, Any], event: DecodedEvent, depth: int) -> Any:
    text = event.rendered.get(template[LIQUID], MISSING)
    if text is MISSING:
        raise TemplateError(f"{LIQUID} was not rendered")
    if isinstance(text, TemplateError):
        raise text
    return _read_as(template.get(READ_AS), text)


def _read_as(kind: str | None, text: str) -> Any:
    """The value that the text of a template stands for; without a type the text itself."""
    if kind is None:
        return text
    if not text.strip():
        return MISSING
    try:
        value = exact_json.loads(text.strip())
    except exact_json.JSONDecodeError:
        value = MISSING
    is_boolean = isinstance(value, bool)
    fits = {
        "boolean": is_boolean,
        "number": isinstance(value, int | float) and not is_boolean,
        "json": value is not MISSING,
    }[kind]
    if fits:
        return value
    shown = text if len(text) <= MAXIMUM_SHOWN_TEXT else f"{text[:MAXIMUM_SHOWN_TEXT]}..."
    raise TemplateError(f"{LIQUID} gives {shown!r}, which is not {READ_AS_KINDS[kind]}")


def _object(template: dict[str, Any], event: DecodedEvent, depth: int) -> Any:
    members = ((key, _evaluate(item, event, depth)) for key, item in template[OBJECT].items())
    return {key: value for key, value in members if value is not MISSING}


_EVALUATIONS: dict[str, Callable[[dict[str, Any], DecodedEvent, int], Any]] = {
    FIRST_OF: _first_of,
    LIQUID: _liquid,
    LITERAL: lambda template, event, depth: template[LITERAL],
    OBJECT: _object,
}


def expression_in(template: dict[str, Any]) -> str | None:
    """The key that makes an object an expression; None when it is none.

    Raises:
        TemplateError: it is one and not written as one.
    """
    kind = next((each for each in EXPRESSIONS if each in template), None)
    if kind is None:
        return None
    if others := template.keys() - {kind, *([READ_AS] if kind == LIQUID else [])}:
        raise TemplateError(
            f"{kind} stands alone, not beside {', '.join(sorted(others))}: "
            f'for an object with such a key write {{"{OBJECT}": {{...}}}}'
        )
    if problem := _problem_of(kind, template):
        raise TemplateError(f"{kind} {problem}")
    return kind


def _problem_of(kind: str, template: dict[str, Any]) -> str | None:
    """What is wrong with how an expression is written."""
    given = template[kind]
    if kind == FIRST_OF:
        fits = isinstance(given, list) and 0 < len(given) <= MAXIMUM_ALTERNATIVES
        return None if fits else f"must be a list of 1 to {MAXIMUM_ALTERNATIVES} templates"
    if kind == OBJECT:
        return None if isinstance(given, dict) else "must be an object"
    if kind == LIQUID:
        if not isinstance(given, str) or not given.strip():
            return "must be the text of a Liquid template"
        if READ_AS in template and template[READ_AS] not in READ_AS_KINDS:
            return f"has {READ_AS} {template[READ_AS]!r}: write one of {', '.join(READ_AS_KINDS)}"
    return None


def liquid_in(template: Any) -> Iterator[str]:
    """The Liquid templates in a template, as written.

    Raises:
        TemplateError: an expression is not written as one, or the template is nested too deep.
    """
    return _liquid_in(template, MAXIMUM_TEMPLATE_DEPTH)


def _liquid_in(template: Any, depth: int) -> Iterator[str]:
    if isinstance(template, dict) and not is_constant(template) and expression_in(template) == LIQUID:
        yield template[LIQUID]
        return
    for each in _members(template, depth):
        yield from _liquid_in(each, depth - 1)


def _members(template: Any, depth: int) -> Iterable[Any]:
    """The templates that stand in a template."""
    if isinstance(template, list):
        _check_depth(depth)
        return template
    if not isinstance(template, dict) or is_constant(template):
        return ()
    _check_depth(depth)
    kind = expression_in(template)
    if kind in (LIQUID, LITERAL):
        return ()
    inner = template if kind is None else template[kind]
    return inner.values() if isinstance(inner, dict) else inner


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
        return
    for each in _members(template, depth):
        yield from _paths_in(each, depth - 1)


def _check_depth(depth: int) -> None:
    if depth == 0:
        raise TemplateError(
            f"a template is nested at most {MAXIMUM_TEMPLATE_DEPTH} deep; a constant may be deeper"
        )
