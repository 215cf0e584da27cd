"""Expressions in parameters: the first value there is, Liquid, constants, objects with any key."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.actions.liquid_values import with_rendered
from app.actions.parameters import check_parameters, outcome_of
from app.actions.paths import DecodedEvent, evaluate, liquid_in
from app.actions.registry import action_types
from app.models.status import ActionStatus
from app.scripting.templates import Templates

BODY = {
    "name": "ada",
    "nick": "",
    "at": 1767225600,
    "ms": 1767225600123,
    "text": "2026-01-01T00:00:00+01:00",
    "amount": 1234567.891,
    "tags": ["a", "b"],
    "csv": "a,b,c",
    "emails": [{"id": "1", "address": "x@example.com"}, {"id": "2", "address": "y@example.com"}],
    "primary": "2",
    "deep": {"value": "body.name"},
}
IDENTIFY = action_types()["users_identify"]
TRIGGER = action_types()["workflows_trigger"]


@pytest.fixture
async def templates() -> AsyncIterator[Templates]:
    made = Templates(1)
    yield made
    await made.close()


async def value_of(templates: Templates, template: Any, body: Any = BODY) -> Any:
    event = DecodedEvent(body, {"x-kind": "vip"}, {"plan": "pro"})
    event = await with_rendered(event, liquid_in(template), templates, {"tier": "gold"}, ("e", "s"))
    return evaluate([template], event)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ({"$first_of": ["body.none", "body.nick", "body.name"]}, "ada"),
        ({"$first_of": ["body.none", {"value": "fallback"}]}, "fallback"),
        ({"$first_of": ["body.none", 0]}, 0),
        ({"$first_of": ["body.none", False]}, False),
        ({"$first_of": ["body.none", {"$template": "{{ body.name | upcase }}"}]}, "ADA"),
        ({"$template": "Hi {{ body.name | capitalize }}"}, "Hi Ada"),
        ({"$template": "{{ headers.x-kind }} {{ preprocess.plan }} {{ vars.tier }}"}, "vip pro gold"),
        ({"$template": "{{ body.tags | join: ', ' }}"}, "a, b"),
        ({"$template": "{{ body.csv | split: ',' | last }}"}, "c"),
        ({"$template": "{{ body.none | default: 'x' }}"}, "x"),
        ({"$template": "{{ body.at | iso8601 }}"}, "2026-01-01T00:00:00Z"),
        ({"$template": "{{ body.ms | iso8601: 'Asia/Tokyo' }}"}, "2026-01-01T09:00:00.123+09:00"),
        ({"$template": "{{ body.text | iso8601 }}"}, "2025-12-31T23:00:00Z"),
        ({"$template": "{{ body.amount | number: 2 }}"}, "1,234,567.89"),
        ({"$template": "{{ body.amount | number: 0, '.', ',' }}"}, "1.234.568"),
        (
            {"$template": "{% assign e = body.emails | where: 'id', body.primary | first %}{{ e.address }}"},
            "y@example.com",
        ),
        ({"$template": "{{ body.at }}", "$as": "number"}, 1767225600),
        ({"$template": "{% if body.tags.size > 1 %}true{% else %}false{% endif %}", "$as": "boolean"}, True),
        ({"$template": "{{ body.tags | json }}", "$as": "json"}, ["a", "b"]),
        ({"$literal": {"value": "body.name"}}, {"value": "body.name"}),
        ({"$literal": {"$template": "{{ x }}"}}, {"$template": "{{ x }}"}),
        ({"$object": {"value": "body.name"}}, {"value": "ada"}),
        ({"$object": {"$template": "body.name", "x": "body.none"}}, {"$template": "ada"}),
        ({"$set": "body.name", "$as": "body.csv"}, {"$set": "ada", "$as": "a,b,c"}),
        ({"value": "body.name"}, "body.name"),
        ({"a": {"$template": "{{ body.name }}"}, "b": "body.name"}, {"a": "ada", "b": "ada"}),
    ],
)
async def test_values(templates: Templates, template: Any, value: Any) -> None:
    assert await value_of(templates, template) == [value]
    assert check_parameters(TRIGGER, {"key": "k", "recipients": "body.x", "data": {"a": template}}, "") == []


@pytest.mark.parametrize("template", [{"$first_of": ["body.none", "body.nick"]}, {"$object": {}}])
async def test_no_value(templates: Templates, template: Any) -> None:
    assert await value_of(templates, {"a": template}) in ([{}], [{"a": {}}])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"$first_of": []}, "$first_of must be a list of 1 to 20"),
        ({"$first_of": "body.a"}, "$first_of must be a list"),
        ({"$first_of": ["body.a[0]"]}, "write body.a.0"),
        ({"$template": 3}, "$template must be the text of a Liquid template"),
        ({"$template": "{{ body.a"}, "is not a Liquid template"),
        ({"$template": "{{ body.a | shout }}"}, "has no filter 'shout'"),
        ({"$template": "{{ name }}"}, "Write body.name"),
        ({"$template": "{{ body.a }}", "$as": "date"}, "write one of number, boolean, json"),
        ({"$template": "x" * 5000}, "at most 4096"),
        ({"$template": "{{ body.a }}", "other": 1}, "$template stands alone, not beside other"),
        ({"$object": []}, "$object must be an object"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(template: Any, message: str) -> None:
    (error,) = check_parameters(IDENTIFY, {"id": "body.id", "name": template}, "action_parameters")
    assert error.field == "action_parameters.name"
    assert message in error.message


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"$template": "{{ body.name | iso8601 }}"}, "iso8601: 'ada' is no moment"),
        ({"$template": "{{ body.at | iso8601: 'Mars' }}"}, "there is no time zone 'Mars'"),
        ({"$template": "{{ body.name }}", "$as": "number"}, "gives 'ada', which is not a number"),
        (
            {"$template": "{% for a in (1..9999) %}{% for b in (1..9999) %}x{% endfor %}{% endfor %}"},
            "a template cannot be rendered",
        ),
    ],
)
async def test_what_fails_on_an_event_is_left_out_or_fails(
    templates: Templates, template: Any, message: str
) -> None:
    event = await with_rendered(DecodedEvent(BODY), liquid_in(template), templates, {}, ("e", "s"))
    optional = outcome_of(IDENTIFY, {"id": "body.name", "email": template}, event)
    assert optional.status is ActionStatus.PENDING
    assert [each["parameter"] for each in optional.left_out] == ["email"]
    assert message in optional.left_out[0]["reason"]
    required = outcome_of(IDENTIFY, {"id": template}, event)
    assert required.status is ActionStatus.FAILED
    assert required.error is not None
    assert required.error.startswith("id: $template ")
    assert message in required.error


async def test_one_that_fails_takes_no_other_with_it(templates: Templates) -> None:
    sources = ["{{ body.name | iso8601 }}", "{{ body.name }}"]
    event = await with_rendered(DecodedEvent(BODY), sources, templates, {}, ("e", "s"))
    assert event.rendered["{{ body.name }}"] == "ada"


async def test_a_large_event_is_rendered_apart(templates: Templates) -> None:
    body = {"name": "ada", "rest": ["x" * 100] * 2000}
    assert await value_of(templates, {"$template": "{{ body.rest.size }}"}, body) == ["2000"]
