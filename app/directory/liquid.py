"""Liquid under limits: no files, no other templates, bounded in output and loops.
`app/directory/templates.py` is its front.

What a template sees is plain JSON, so it can reach nothing else. Values in HTML are escaped unless the
template says `| safe`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from liquid import Environment, Mode
from liquid.exceptions import LiquidError, ResourceLimitError
from liquid.filter import liquid_filter
from markupsafe import Markup

from app.core import exact_json
from app.core.errors import InvalidTemplate, Permanent

MAXIMUM_OUTPUT_BYTES = 1024 * 1024
MAXIMUM_ITERATIONS = 10_000
MAXIMUM_LOCAL_BYTES = 1024 * 1024


class _Bounded(Environment):
    """Liquid under the limits above, without the tags that load other templates."""

    output_stream_limit = MAXIMUM_OUTPUT_BYTES
    loop_iteration_limit = MAXIMUM_ITERATIONS
    local_namespace_limit = MAXIMUM_LOCAL_BYTES

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        for name in ("include", "render"):
            self.tags.pop(name, None)
        self.filters["json"] = _json
        self.filters["safe"] = _safe
        for name, function in self.filters.items():
            self.filters[name] = _bounded(name, function)


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, refusing what would take more memory than a template may have."""

    @functools.wraps(function)
    def guarded(*values: Any, **options: Any) -> Any:
        if any(isinstance(value, range) and len(value) > MAXIMUM_ITERATIONS for value in values):
            raise ResourceLimitError(f"{name}: the range is too long", token=None)
        if name == "replace" and len(values) == 3:
            value, old, new = map(str, values)
            if len(value) + value.count(old) * len(new) > MAXIMUM_OUTPUT_BYTES:
                raise ResourceLimitError("replace: the result is too long", token=None)
        result = function(*values, **options)
        if isinstance(result, str) and len(result) > MAXIMUM_OUTPUT_BYTES:
            raise ResourceLimitError(f"{name}: the result is too long", token=None)
        return result

    return guarded


@liquid_filter
def _json(value: object) -> str:
    """Knock's `json`: the value as JSON."""
    return exact_json.dumps(value, default=str).decode()


@liquid_filter
def _safe(value: object) -> str:
    """The value as HTML, not escaped."""
    return Markup(str(value))


_TEXT = _Bounded(tolerance=Mode.STRICT, strict_filters=True)
_HTML = _Bounded(tolerance=Mode.STRICT, strict_filters=True, autoescape=True)


def parse(source: str) -> None:
    """Read a template.

    Raises:
        InvalidTemplate: it is none.
    """
    try:
        _TEXT.from_string(source)
    except (LiquidError, RecursionError) as error:
        raise InvalidTemplate(f"is not a Liquid template: {_first_line(error)}") from None


def render(source: str, scope: Mapping[str, Any], *, html: bool) -> str:
    """The text that a template gives.

    Raises:
        Permanent: it cannot be rendered within the limits.
    """
    try:
        return (_HTML if html else _TEXT).from_string(source).render(scope)
    except (LiquidError, ArithmeticError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise Permanent(f"a template cannot be rendered: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """What is wrong, without the drawing of the source that follows."""
    return str(error).partition("\n")[0]
