"""Conditions, delays and requests by themselves."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.directory.conditions import ConditionGroup, holds
from app.directory.definition import RequestTemplate
from app.directory.delays import MAXIMUM_DELAY, DelaySettings, UnknownTime, wait_until
from app.directory.requests import outgoing
from app.models.types import EARLIEST
from app.scripting.templates import Templates

OWNER = ("development", "welcome")
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


SCOPE = {"data": {"n": 5, "s": "frog", "l": ["a", "b"], "at": "2026-01-01T00:00:00Z", "t": True, "z": None}}


@pytest.mark.parametrize(
    ("variable", "operator", "argument", "expected"),
    [
        ("data.n", "equal_to", "5", True),
        ("data.n", "equal_to", '"5"', False),
        ("data.t", "equal_to", "true", True),
        ("data.t", "equal_to", "1", False),
        ("data.s", "equal_to", "frog", True),
        ("data.s", "equal_to", '"frog"', True),
        ("data.nope", "equal_to", "null", True),
        ("data.s", "not_equal_to", "toad", True),
        ("data.n", "greater_than", "4.5", True),
        ("data.s", "greater_than", "4", False),
        ("data.n", "less_than_or_equal_to", "data.n", True),
        ("data.s", "contains", "ro", True),
        ("data.l", "contains", "a", True),
        ("data.l", "not_contains", "c", True),
        ("data.l", "contains_all", '["a", "b"]', True),
        ("data.l", "contains_all", '["a", "c"]', False),
        ("data.z", "empty", None, True),
        ("data.n", "not_empty", None, True),
        ("data.nope", "exists", None, False),
        ("data.at", "is_timestamp", None, True),
        ("data.s", "is_not_timestamp", None, True),
        ("data.at", "is_timestamp_before", "2026-01-01T01:00:00+02:00", False),
        ("data.at", "is_timestamp_on_or_after", '"2026-01-01T00:00:00"', True),
        ("data.l.1", "equal_to", "b", True),
    ],
)
def test_conditions(variable: str, operator: str, argument: str | None, expected: bool) -> None:
    condition = {"variable": variable, "operator": operator, "argument": argument}
    assert holds(ConditionGroup.model_validate({"all": [condition]}), SCOPE) is expected


def test_groups_of_conditions() -> None:
    yes = {"variable": "data.n", "operator": "equal_to", "argument": "5"}
    no = {**yes, "argument": "6"}

    def met(group: Any) -> bool:
        return holds(ConditionGroup.model_validate(group), SCOPE)

    assert met({"any": [no, yes]})
    assert met({"any": [{"all": [yes, no]}, {"all": [yes]}]})
    assert not met({"any": [{"all": [yes, no]}, no]})
    assert not met({"all": [yes, no]})
    assert met({"all": []})
    for wrong in (
        {},
        {"all": [yes], "any": [yes]},
        {"all": [{"any": [yes]}]},
        {"all": [{**yes, "operator": "x"}]},
    ):
        with pytest.raises(ValidationError):
            ConditionGroup.model_validate(wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OPERATORS = ConditionGroup.model_json_schema()["$defs"]["Condition"]["properties"]["operator"]["enum"]


@given(value=JSON, argument=st.text(max_size=8), operator=st.sampled_from(OPERATORS))
def test_conditions_never_raise(value: Any, argument: str, operator: str) -> None:
    condition = {"variable": "data.x", "operator": operator, "argument": argument}
    holds(ConditionGroup.model_validate({"all": [condition]}), {"data": {"x": value}})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"delay_for": {"unit": "minutes", "value": 5}}, MOMENT + timedelta(minutes=5)),
        ({"delay_for": {"unit": "months", "value": 1}}, datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ({"delay_for": {"unit": "weeks", "value": 999_999_999}}, MOMENT + MAXIMUM_DELAY),
        ({"delay_until_field_path": "data.at"}, datetime(2026, 3, 1, 8, tzinfo=UTC)),
        ({"delay_until_field_path": "data.in"}, MOMENT + timedelta(days=2)),
        (
            {"delay_until_field_path": "data.at", "delay_for": {"unit": "hours", "value": -24}},
            datetime(2026, 2, 28, 8, tzinfo=UTC),
        ),
    ],
)
def test_delays(settings: dict[str, Any], expected: datetime) -> None:
    scope = {"data": {"at": "2026-03-01T09:00:00+01:00", "in": {"unit": "days", "value": 2}}}
    assert wait_until(DelaySettings.model_validate(settings), scope, MOMENT) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0001-01-01T00:00:00+14:00", EARLIEST), ("9999-12-31T23:59:59-14:00", MOMENT + MAXIMUM_DELAY)],
)
def test_delays_end_at_times_that_can_be_stored(text: str, expected: datetime) -> None:
    settings = DelaySettings.model_validate({"delay_until_field_path": "data.at"})
    assert wait_until(settings, {"data": {"at": text}}, MOMENT) == expected


@given(value=JSON)
def test_delays_raise_their_own_error_only(value: Any) -> None:
    settings = DelaySettings.model_validate({"delay_until_field_path": "data.x"})
    with suppress(UnknownTime):
        wait_until(settings, {"data": {"x": value}}, MOMENT)


@pytest.mark.parametrize(
    "extra", [".evil.example/", "@evil.example/", "/ok", ":99@evil.example", "\\@evil.example"]
)
async def test_data_does_not_decide_where_a_request_goes(extra: str) -> None:
    templates = Templates(1)
    template = RequestTemplate.model_validate({"url": "https://api.example.com/{{ x }}"})
    request = await outgoing(template, {"x": extra}, templates, ("development", "welcome"))
    assert request.url.startswith("https://api.example.com/")
    for url in (
        "https://{{ x }}/",
        "https://api.example.com{{ x }}",
        "{{ x }}",
        "ftp://a/",
        "https://u@a/",
        "http://",
    ):
        with pytest.raises(ValidationError):
            RequestTemplate.model_validate({"url": url})
