"""JSON for reading: coloured, folded below the first levels, and every key carries its path, to be copied."""

from typing import Any

import orjson
from markupsafe import Markup

from app.actions.paths import child_path
from app.api.dashboard.wording import count
from app.core import exact_json

# Deeper levels and longer lists are folded at first, so that large payloads stay readable.
OPEN_LEVELS = 3
OPEN_ITEMS = 30
# What is picked from lies beneath `body` and `headers`, and is to be seen.
PICKED_LEVELS = 2
MAXIMUM_VALUES = 4000
MAXIMUM_LENGTH = 300_000


def json_view(value: Any, root: str = "", *, is_picked: bool = False) -> Markup:
    """A value as nested, foldable lines. `root` is the path of the value itself, for example `body`.
    `is_picked`: keys and values carry their paths as `data-pick`, for a page that does something with the one
    that is clicked.

    What has too many values to be unfolded is shown as text.
    """
    if _is_large(value):
        return Markup('<pre class="json" translate="no">{}</pre>').format(_cut(json_text(value)))
    return Markup('<div class="json" translate="no">{}</div>').format(
        _value(value, root, -PICKED_LEVELS if is_picked else 0, is_picked)
    )


def json_text(value: Any) -> str:
    """A value as indented JSON."""
    return exact_json.dumps(value, option=orjson.OPT_INDENT_2).decode()


def json_line(value: Any) -> str:
    """A value as JSON in one line."""
    return exact_json.dumps(value).decode()


def _is_large(value: Any) -> bool:
    """Whether it has more values than `MAXIMUM_VALUES`. Not recursive: a sender decides how deep an event is
    nested."""
    seen, remaining = 0, [value]
    while remaining and seen <= MAXIMUM_VALUES:
        each = remaining.pop()
        seen += 1
        if isinstance(each, dict):
            remaining.extend(each.values())
        elif isinstance(each, list):
            remaining.extend(each)
    return seen > MAXIMUM_VALUES


def _cut(text: str) -> str:
    left = len(text) - MAXIMUM_LENGTH
    return text if left <= 0 else f"{text[:MAXIMUM_LENGTH]}\n... and {left:,} characters more"


def _value(value: Any, path: str, level: int, is_picked: bool) -> Markup:
    if isinstance(value, dict) and value:
        items = [
            (_key(name, child_path(path, name), is_picked), each, child_path(path, name))
            for name, each in value.items()
        ]
        return _nested("{", items, "}", level, is_picked)
    if isinstance(value, list) and value:
        positions = [
            (Markup(""), each, f"{path}.{number}" if path else str(number))
            for number, each in enumerate(value)
        ]
        return _nested("[", positions, "]", level, is_picked)
    pick = Markup(' data-pick="{}"').format(path) if is_picked else ""
    return Markup('<span class="json-{}"{}>{}</span>').format(
        _kind(value), pick, exact_json.dumps(value).decode()
    )


def _nested(
    opening: str, items: list[tuple[Markup, Any, str]], closing: str, level: int, is_picked: bool
) -> Markup:
    last = len(items) - 1
    lines = Markup("").join(
        Markup("<li>{}{}{}</li>").format(
            key, _value(each, path, level + 1, is_picked), "" if number == last else ","
        )
        for number, (key, each, path) in enumerate(items)
    )
    size = count(len(items), "key" if opening == "{" else "item")
    is_open = (level < OPEN_LEVELS and len(items) <= OPEN_ITEMS) or level <= 0
    return Markup(
        '<details{}><summary>{}<span class="json-count">{}</span></summary><ul>{}</ul>{}</details>'
    ).format(Markup(" open") if is_open else "", opening, size, lines, closing)


def _key(name: str, path: str, is_picked: bool) -> Markup:
    use = "pick" if is_picked else "path"
    return Markup('<span class="json-key" data-{}="{}">{}</span>: ').format(
        use, path, exact_json.dumps(name).decode()
    )


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if value is None or isinstance(value, bool):
        return "word"
    return "number" if isinstance(value, int | float) else "empty"
