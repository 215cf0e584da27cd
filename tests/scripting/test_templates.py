"""Templates: what they give, where they run, and what stops them."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import ANY

import pytest

from app.core.errors import Permanent
from app.scripting import liquid
from app.scripting.templates import Template, Templates

OWNER = ("development", "welcome")
# A scope that holds it is for a process of its own.
LARGE = "x" * 20_000


@pytest.fixture(scope="module")
async def templates() -> AsyncIterator[Templates]:
    templates = Templates(1)
    yield templates
    await templates.close()


async def rendered(templates: Templates, source: str, scope: Any, *, html: bool = False) -> str:
    [text] = await templates.render([Template(source, html)], scope, OWNER)
    return text


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ data.x }} {{ x }} {{ recipient.name }} {{ tenant.name }}", "1 1 Ada "),
        ("{{ data.items | map: 't' | join: ', ' }}", "a, b"),
        ("{% for i in data.items %}{{ forloop.index }}{{ i.t }}{% endfor %}", "1a2b"),
        ("{{ data.items | json }}", '[{"t":"a"},{"t":"b"}]'),
        ("{{ nothing.at.all | default: 'd' }}", "d"),
        ("{{ recipient.name.__class__ }}{{ data.items.append }}", ""),
    ],
)
async def test_templates(templates: Templates, template: str, expected: str) -> None:
    data = {"x": 1, "items": [{"t": "a"}, {"t": "b"}]}
    scope = {**data, "data": data, "recipient": {"name": "Ada"}, "tenant": None}
    assert await rendered(templates, template, scope) == expected
    assert await rendered(templates, template, {**scope, "large": LARGE}) == expected


@pytest.mark.parametrize("more", [{}, {"large": LARGE}])
async def test_values_in_html_are_escaped(templates: Templates, more: Any) -> None:
    scope = {"x": "<b>", **more}
    html = await rendered(templates, "{{ x }}{{ x | safe }}{{ x | json }}", scope, html=True)
    assert html == "&lt;b&gt;<b>&#34;&lt;b&gt;&#34;"
    assert await rendered(templates, "{{ x }}", scope) == "<b>"


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in (1..1000000000) %}x{% endfor %}",
        "{% for i in (1..5000) %}{% for j in (1..5000) %}x{% endfor %}{% endfor %}",
        "{{ (1..1000000000) | join }}",
        "{% assign a = 'aaaaaaaaaa' %}{% for i in (1..60) %}{% assign a = a | append: a %}{% endfor %}",
        "{% assign a = 'aaaaaaaaaa' %}{% for i in (1..9) %}{% assign a = a | replace: 'a', a %}{% endfor %}",
        "{% for i in (1..9999) %}{{ big }}{% endfor %}",
        "{{ x | no_such_filter }}",
        "{{ 1 | divided_by: 0 }}",
        "{{ many | uniq | size }}",
        "{{ (1..100000000) | reversed }}{% if (1..900000000) contains 'x' %}{% endif %}",
        "{% for i in (1..10000) reversed %}{% if (1..1000000000) contains 0.5 %}{% endif %}{% endfor %}",
        "{% assign p = text | split: '' %}{% for i in (1..9999) %}{{ p | join | size }}{% endfor %}",
        "{% assign n = 9 %}{% for i in (1..60) %}{% assign n = n | times: n %}{% endfor %}{{ n }}",
        "{% assign p = text | split: '' %}{% for i in (1..9999) %}{% assign p = p | concat: p %}{% endfor %}",
        "{{ 'now' | date: wide }}",
    ],
)
async def test_templates_are_bounded(templates: Templates, template: str) -> None:
    """In whatever takes the time or the memory, and for good: it is no failure that may pass."""
    scope = {
        "big": "x" * 1000,
        "text": "x" * 500_000,
        "many": [[number] for number in range(60_000)],
        "wide": "%Y" * 2_000_000,
    }
    with pytest.raises(Permanent):
        await rendered(templates, template, scope)


async def test_markdown_is_bounded(templates: Templates) -> None:
    with pytest.raises(Permanent, match="more than a second"):
        await templates.html_of("[" * 900_000, OWNER)
    assert await templates.html_of("**a** " * 50, OWNER)
    assert await templates.text_of("<a " * 300_000, OWNER) == ""


async def test_memory_is_bounded(templates: Templates) -> None:
    with pytest.raises(Permanent, match=r"memory|CPU"):
        await rendered(templates, "{{ data.l | size }}", {"data": {"l": [{}] * 4_000_000}})
    # The next one finds a process of its own.
    assert await rendered(templates, "{{ x }}", {"x": 1, "large": LARGE}) == "1"


async def test_the_loop_goes_on_meanwhile(templates: Templates) -> None:
    """What a sender can size never holds the event loop."""
    longest, ended = 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not ended:
            began = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - began)

    watching = asyncio.create_task(watch())
    started = time.monotonic()
    with pytest.raises(Permanent):
        await templates.html_of("![" * 400_000, OWNER)
    took, ended = time.monotonic() - started, True
    await watching
    assert longest < took / 2


@pytest.mark.parametrize(
    "template", ["{% if x %}", "{% include 'x' %}", "{% render 'x' %}", "{{ x", "{% if x %}" + " " * 5000]
)
async def test_templates_that_cannot_be_saved(templates: Templates, template: str) -> None:
    assert await templates.problems([template, "{{ x }}"], OWNER) == {template: ANY}


async def test_parsing_is_bounded(templates: Templates) -> None:
    with pytest.raises(Permanent):
        await templates.problems(["{{a}}" * 50_000], OWNER)


@pytest.mark.parametrize(
    "source",
    [
        "Hello {{ recipient.name | default: 'there' | capitalize }}, {{ data.at | date: '%Y-%m-%d' }}",
        "{% for item in data.items %}{{ item.name }}: {{ item.price | times: 1.2 | round: 2 }}{% endfor %}",
        "{% if data.plan == 'pro' and data.n > 3 %}a{% elsif data.plan contains 'x' %}b{% endif %}",
        "{% assign x = data.items | map: 'name' | join: ', ' %}{{ x | truncate: 20 }}{{ data | json }}",
    ],
)
def test_what_is_small_gives_the_same_in_this_process(source: str) -> None:
    items = [{"name": "a", "price": 1.5}, {"name": "b", "price": 2}]
    data = {"plan": "pro", "n": 4, "at": "2026-01-02T03:04:05Z", "items": items}
    scope = {"data": data, "recipient": {"name": "ada"}, **data}
    assert liquid.render_small(source, scope, 400, html=True) == liquid.render(source, scope, html=True)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in l %}{% for i in l %}{% for i in l %}{{ i }}{% endfor %}{% endfor %}{% endfor %}",
        "{% assign a = t %}" + "{% assign a = a | append: a %}" * 100,
        "{% assign a = 9 %}" + "{% assign a = a | times: a %}" * 100,
        "{{ l | uniq }}",
        "{{ t | date: t }}",
        "{{ t | replace: 'x', t }}",
        "{% for i in (1..9) %}{% endfor %}",
        "{% if l == l" + " or l == l" * 380 + "%}{% endif %}",
        "{% capture a %}{% endcapture %}",
    ],
)
def test_what_is_not_provably_small_is_left_to_a_process(source: str) -> None:
    scope = {"t": "x" * 2000, "l": list(range(1000))}
    with pytest.raises(liquid.TooLarge):
        liquid.render_small(source, scope, 8000, html=False)
