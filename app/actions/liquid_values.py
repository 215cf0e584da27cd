"""Liquid in the parameters of mappings: checked when it is saved, rendered before the rest is evaluated.

A template that cannot be rendered on an event is a value that does not fit: the parameter is left out and
named, or fails the action when it is required.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from app.actions.paths import LIQUID, ROOTS, DecodedEvent, TemplateError
from app.core.errors import InvalidTemplate, Permanent
from app.scripting.templates import Template, Templates
from app.scripting.turns import Owner

MAXIMUM_LIQUID_LENGTH = 4 * 1024
# Of one parameter.
MAXIMUM_LIQUIDS = 20
# For those that are rendered one by one, after one of them failed.
DEADLINE = 5.0
_SHOWN = 60
LIQUID_ROOTS = (*ROOTS, "vars")


def liquid_problem(source: str) -> str | None:
    """What keeps a template from being saved."""
    if len(source) > MAXIMUM_LIQUID_LENGTH:
        return f"{LIQUID} has {len(source)} characters, at most {MAXIMUM_LIQUID_LENGTH} are allowed"
    # Here: the library is 4 MB.
    from app.scripting import liquid

    try:
        liquid.check(source, LIQUID_ROOTS)
    except InvalidTemplate as error:
        return f"{LIQUID} {_short(source)} {error}"
    return None


async def with_rendered(
    event: DecodedEvent,
    sources: Iterable[str],
    templates: Templates,
    variables: Mapping[str, str],
    owner: Owner,
) -> DecodedEvent:
    """The event with the texts that templates give on it, or why one gives none.

    Raises:
        Busy: too many calls of the owner wait already.
    """
    wanted = list(dict.fromkeys(sources))
    if not wanted:
        return event
    scope = {**{root: getattr(event, root) for root in ROOTS}, "vars": dict(variables)}
    rendered: dict[str, str | TemplateError] = {}
    try:
        texts = await templates.render([Template(each) for each in wanted], scope, owner)
        rendered.update(zip(wanted, texts, strict=True))
    except Permanent:
        end = time.monotonic() + DEADLINE
        for each in wanted:
            if time.monotonic() > end:
                rendered[each] = TemplateError(f"{LIQUID} {_short(each)}: there was no time to render it")
            else:
                rendered[each] = await _render_one(each, templates, scope, owner)
    return replace(event, rendered=rendered)


async def _render_one(
    source: str, templates: Templates, scope: Mapping[str, object], owner: Owner
) -> str | TemplateError:
    try:
        (text,) = await templates.render([Template(source)], scope, owner)
    except Permanent as error:
        return TemplateError(f"{LIQUID} {_short(source)}: {error}")
    return text


def _short(source: str) -> str:
    return repr(source if len(source) <= _SHOWN else f"{source[:_SHOWN]}...")
