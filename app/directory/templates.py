"""Liquid templates as workflow steps use them. `app/directory/liquid.py` parses and renders them.

That is imported with the first template: the library, with babel and its tables, is 4 MB.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from app.core.errors import InvalidTemplate

MAXIMUM_TEMPLATE_LENGTH = 256 * 1024


def check(source: str) -> str:
    """The template itself, when it can be rendered.

    Raises:
        InvalidTemplate: it says where and why.
    """
    if len(source) > MAXIMUM_TEMPLATE_LENGTH:
        raise InvalidTemplate(f"has more than {MAXIMUM_TEMPLATE_LENGTH} characters")
    if _is_template(source):
        from app.directory import liquid as liquid_templates

        liquid_templates.parse(source)
    return source


async def render(source: str, scope: Mapping[str, Any], *, html: bool = False) -> str:
    """The text that a template gives, rendered off the event loop.

    Raises:
        Permanent: it cannot be rendered within the limits.
    """
    return await asyncio.to_thread(_render, source, scope, html) if _is_template(source) else source


def _is_template(source: str) -> bool:
    return "{" in source


def _render(source: str, scope: Mapping[str, Any], html: bool) -> str:
    from app.directory import liquid as liquid_templates

    return liquid_templates.render(source, scope, html=html)
