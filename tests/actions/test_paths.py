"""The mapping language: what paths and templates mean, and that no path, template or event can break it."""

import copy
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.actions.paths import (
    MAXIMUM_PATH_KEYS,
    MAXIMUM_PATH_LENGTH,
    MAXIMUM_TEMPLATE_DEPTH,
    MISSING,
    DecodedEvent,
    PathError,
    TemplateError,
    evaluate,
    parse_path,
    paths_in,
    resolve,
)

EVENT = DecodedEvent(
    body={
        "id": 7,
        "type": "order",
        "empty": None,
        "body": {"id": "inner"},
        "headers": "not the headers",
        "a.b": {"c d": [10, 20]},
        'say "hi"': 1,
        "back\\slash": 2,
        "*": "a star",
        "0": "a zero",
        "größe": {"日本": "値"},
        "items": [{"id": 1, "tags": ["x", "y"]}, {"tags": []}, {"id": None}, "text"],
        "orders": [{"lines": [{"sku": "a"}, {"sku": "b"}]}, {"lines": [{"sku": "c"}, {}]}, {}],
    },
    headers={"x-topic": "orders/create", "x-request.id": "r1"},
    preprocess={"user": {"id": "u1"}},
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("body.id", 7),
        ("id", 7),
        ("body", EVENT.body),
        ("body.body.id", "inner"),
        ("body.headers", "not the headers"),
        ('"body".id', "inner"),
        ('"headers"', "not the headers"),
        ("headers.x-topic", "orders/create"),
        ('headers."x-request.id"', "r1"),
        ("preprocess.user.id", "u1"),
        ("empty", None),
        ("empty.deeper", MISSING),
        ("ID", MISSING),
        ("headers.X-Topic", "orders/create"),
        ('headers."X-Request.ID"', "r1"),
        ("body.headers.X-Topic", MISSING),
        ('"a.b"."c d".1', 20),
        ('body."a.b".c d.0', 10),
        (r'"say \"hi\""', 1),
        (r'"back\\slash"', 2),
        ("größe.日本", "値"),
        ("0", "a zero"),
        ("items.0.id", 1),
        ("items.00.id", 1),
        ("items.4", MISSING),
        ("items.-1", MISSING),
        ("items.1.5", MISSING),
        ("items.٣", MISSING),
        ("items." + "9" * 1000, MISSING),
        ("items.*.id", [1, None]),
        ("items.*.tags", [["x", "y"], []]),
        ("items.*.tags.*", [["x", "y"], []]),
        ("items.*.tags.0", ["x"]),
        ("items.*.nothing", []),
        ("orders.*.lines.*.sku", [["a", "b"], ["c"]]),
        ("*", "a star"),
        ('"*"', "a star"),
        ('items."*"', MISSING),
        ("type.*", MISSING),
        ("id.0", MISSING),
        ("type.0", MISSING),
    ],
)
def test_paths(path: str, value: Any) -> None:
    found = evaluate(path, EVENT)
    assert found == value
    assert (found is MISSING) == (value is MISSING)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "empty"),
        (" a", "spaces around"),
        ("a.", "expected a key at position 3"),
        (".a", "expected a key at position 1"),
        ("a..b", "expected a key at position 3"),
        ('a."b', "expected a key at position 3"),
        ('a."b"c', "expected a dot at position 6"),
        ('a"b"', "expected a dot at position 2"),
        ("a" * (MAXIMUM_PATH_LENGTH + 1), "at most 1024 characters, this one 1025"),
        (".".join("*" * (MAXIMUM_PATH_KEYS + 1)), "at most 100 keys, this one 101"),
    ],
)
def test_what_is_no_path(path: str, says: str) -> None:
    with pytest.raises(PathError, match=re.escape(says)):
        parse_path(path)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ({"value": "body.id"}, "body.id"),
        ({"value": None}, None),
        ({"value": {"value": 1}}, {"value": 1}),
        ({"value": "id", "unit": "type"}, {"value": 7, "unit": "order"}),
        ({"a": {"b": ["id", {"value": "x"}, "nowhere"]}, "gone": "nowhere"}, {"a": {"b": [7, "x"]}}),
        ({"nothing": None, "null": "empty"}, {"null": None}),
        ([True, 2, 3.5, None], [True, 2, 3.5]),
        ([], []),
        ({}, {}),
        (None, MISSING),
        (False, False),
    ],
)
def test_templates(template: Any, value: Any) -> None:
    assert evaluate(template, EVENT) == value


def nested(depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = [inside]
    return inside


def test_depth_of_templates() -> None:
    deepest = nested(MAXIMUM_TEMPLATE_DEPTH, "id")
    assert evaluate(deepest, EVENT) == nested(MAXIMUM_TEMPLATE_DEPTH, 7)
    assert list(paths_in(deepest)) == ["id"]
    for too_deep in ([deepest], nested(900, "id"), {"a": deepest}):
        with pytest.raises(TemplateError, match="nested at most 32 deep"):
            evaluate(too_deep, EVENT)
        with pytest.raises(TemplateError, match="nested at most 32 deep"):
            list(paths_in(too_deep))
    assert evaluate({"value": nested(900, 1)}, EVENT) == nested(900, 1)


def test_projections_over_a_very_deep_event() -> None:
    deep = DecodedEvent(body={"a": nested(900, 1)})
    assert evaluate("a" + ".*" * (MAXIMUM_PATH_KEYS - 1), deep) == nested(900, 1)


def test_paths_of_a_template() -> None:
    template = {"a": "x.y", "b": [{"value": "no.path"}, "z", 1], "c": {"value": "p", "d": "q"}}
    assert list(paths_in(template)) == ["x.y", "z", "p", "q"]


KEYS = st.one_of(
    st.sampled_from(["body", "headers", "preprocess", "value", "*", "0", "a.b", '"', "\\", ""]), st.text()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
PATHS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(["body", "a", "*", "0", "1", '"a.b"', "9" * 400, "é"]), min_size=1, max_size=8
    ).map(".".join),
)
TEMPLATES = st.recursive(
    PATHS | st.none() | st.integers() | st.booleans() | st.fixed_dictionaries({"value": JSON}),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
EVENTS = st.builds(DecodedEvent, JSON, st.dictionaries(st.text(), st.text(), max_size=3), JSON)


@given(template=TEMPLATES, event=EVENTS)
@example(template=nested(500, "a"), event=EVENT)
@example(template=".".join("*" * 500), event=EVENT)
@example(template="a." + "9" * 900, event=DecodedEvent(body={"a": [1]}))
def test_evaluation_raises_only_its_own_error_and_changes_nothing(template: Any, event: DecodedEvent) -> None:
    before = copy.deepcopy((template, event))
    try:
        first = evaluate(template, event)
    except TemplateError:
        pass
    else:
        assert evaluate(template, event) == first
    assert (template, event) == before


def quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(keys=st.lists(KEYS, min_size=1, max_size=8), value=JSON)
def test_a_quoted_path_leads_to_any_key(keys: list[str], value: Any) -> None:
    body = value
    for key in reversed(keys):
        body = {key: body}
    path = ".".join(map(quoted, keys))
    parsed = parse_path(path)
    assert parsed.root == "body"
    assert [key.name for key in parsed.keys] == keys
    assert not any(key.projects for key in parsed.keys)
    event = DecodedEvent(body=body)
    assert resolve(parsed, event) == value
    assert evaluate(f"body.{path}", event) == value
    assert evaluate(f"preprocess.{path}", DecodedEvent(body=None, preprocess=body)) == value


@given(keys=st.lists(st.from_regex(r"[^.\"\s*]+", fullmatch=True), min_size=1, max_size=8))
def test_bare_keys_need_no_quotes(keys: list[str]) -> None:
    bare, written = parse_path("body." + ".".join(keys)), parse_path("body." + ".".join(map(quoted, keys)))
    assert bare.keys == written.keys


@given(items=st.lists(st.dictionaries(st.sampled_from("ab"), JSON, max_size=2)), index=st.integers(0, 10))
def test_projections_and_indexes_agree_with_python(items: list[dict[str, Any]], index: int) -> None:
    event = DecodedEvent(body={"items": items})
    assert evaluate("items.*.a", event) == [each["a"] for each in items if "a" in each]
    assert evaluate("items.*", event) == items
    expected = items[index]["a"] if index < len(items) and "a" in items[index] else MISSING
    assert evaluate(f"items.{index}.a", event) == expected


@given(text=st.text(max_size=60))
def test_any_text_is_a_path_or_a_named_error(text: str) -> None:
    try:
        parsed = parse_path(text)
    except PathError as error:
        named = repr(text) in str(error)
        assert named, "the error shows the path"
    else:
        assert parsed.text == text
        assert all(isinstance(key.name, str) for key in parsed.keys)
