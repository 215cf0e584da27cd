"""Liquid under limits: no files, no other templates, bounded in output and loops.
`app/scripting/templates.py` decides where a template runs.

What a template sees is plain JSON, so it can reach nothing else. Values in HTML are escaped unless the
template says `| safe`.

`render` is for a process that can be ended: filters, ranges and comparisons of a template within its limits
can still take minutes. `render_small` is for the event loop: it counts the work, and gives up where it is not
provably little.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from liquid import BoundTemplate, Environment, Mode, RenderContext
from liquid.exceptions import FilterArgumentError, LiquidError, ResourceLimitError
from liquid.filter import liquid_filter
from markupsafe import Markup

from app.core import exact_json
from app.core.errors import InvalidTemplate, Permanent
from app.core.moments import moment_of

MAXIMUM_OUTPUT_BYTES = 1024 * 1024
MAXIMUM_ITERATIONS = 10_000
MAXIMUM_LOCAL_BYTES = 1024 * 1024

# Characters of template times bytes that one operation may read: each operation takes some characters, and a
# byte some nanoseconds. The worst that fits was measured at 15 ms.
SMALL_WORK = 10_000_000
# The same unit for filters: what they are given and what they give.
_FILTERED = 50
_SMALL_VALUE = 16 * 1024
_SMALL_LIST = 1_000
_SMALL_NUMBER = 2**63
# Texts of dates, and formats: the parser takes a tenth of a millisecond.
_SMALL_DATE = 64
_DATE_WORK = 100_000
_KEPT_TEMPLATES = 256
# Of the filter `number`: before and after the point.
MAXIMUM_DIGITS = 60
MAXIMUM_DECIMALS = 20

# What they keep, write or repeat is not counted.
_LARGE_TAGS = frozenset(
    {"capture", "cycle", "decrement", "echo", "ifchanged", "increment", "liquid", "tablerow"}
)
_SMALL_FILTERS = frozenset(
    {
        "abs",
        "append",
        "at_least",
        "at_most",
        "capitalize",
        "ceil",
        "date",
        "default",
        "divided_by",
        "downcase",
        "escape",
        "first",
        "floor",
        "iso8601",
        "join",
        "json",
        "last",
        "lstrip",
        "map",
        "minus",
        "modulo",
        "number",
        "plus",
        "prepend",
        "replace",
        "round",
        "rstrip",
        "safe",
        "size",
        "split",
        "strip",
        "times",
        "truncate",
        "upcase",
        "url_encode",
        "where",
    }
)
_LOOP = re.compile(r"\{%-?\s*for\b")
_ERRORS = (LiquidError, ArithmeticError, ValueError, TypeError, RecursionError)

Scope = Mapping[str, Any]


class TooLarge(Exception):
    """The work is not provably little."""


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
        self.filters["iso8601"] = _iso8601
        self.filters["number"] = _number
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


class _Rendering:
    """What a small render may still do."""

    def __init__(self, source: str, scope_bytes: int) -> None:
        self._left = SMALL_WORK
        self._bytes = max(scope_bytes, 1024)
        start, end = _LOOP.search(source), source.rfind("endfor")
        self._loop_length = end - start.start() if start and end > 0 else 0
        self.spend(len(source) * self._bytes)

    def iterate(self, times: int) -> None:
        self.spend(times * self._loop_length * self._bytes)

    def spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise TooLarge


_WORK: ContextVar[_Rendering] = ContextVar("work")


class _CountedContext(RenderContext):
    """Counts the iterations of all loops."""

    def loop(self, namespace: Mapping[str, object], forloop: Any) -> Any:
        _WORK.get().iterate(forloop.length)
        return super().loop(namespace, forloop)


class _CountedTemplate(BoundTemplate):
    context_class = _CountedContext


class _Small(_Bounded):
    """The tags and filters whose work can be counted."""

    template_class = _CountedTemplate
    output_stream_limit = 64 * 1024
    local_namespace_limit = 64 * 1024

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        self.tags = {name: tag for name, tag in self.tags.items() if name not in _LARGE_TAGS}
        self.filters = {
            name: _counted(name, function)
            for name, function in self.filters.items()
            if name in _SMALL_FILTERS
        }


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, giving up when what it is given or gives is not small."""

    @functools.wraps(function)
    def guarded(*values: Any, **options: Any) -> Any:
        work = _WORK.get()
        for value in values:
            work.spend(_FILTERED * _small(value))
        if name == "date":
            work.spend(_DATE_WORK)
            if any(len(str(value)) > _SMALL_DATE for value in values):
                raise TooLarge
        if name == "replace":
            work.spend(_FILTERED * str(values[0]).count(str(values[1])) * len(str(values[-1])))
        result = function(*values, **options)
        work.spend(_FILTERED * _small(result))
        return result

    return guarded


def _small(value: object) -> int:
    """The size of a filter's argument or result. What lists and objects hold is no larger than the scope."""
    if isinstance(value, str):
        size = len(value)
        if size > _SMALL_VALUE:
            raise TooLarge
        return size
    if isinstance(value, int) and abs(value) >= _SMALL_NUMBER:
        raise TooLarge
    if isinstance(value, list | dict | tuple):
        if len(value) > _SMALL_LIST:
            raise TooLarge
        return 8 * len(value)
    return 1


@liquid_filter
def _json(value: object) -> str:
    """Knock's `json`: the value as JSON."""
    return exact_json.dumps(value, default=str).decode()


@liquid_filter
def _safe(value: object) -> str:
    """The value as HTML, not escaped."""
    return Markup(str(value))


@liquid_filter
def _iso8601(value: object, zone: object = "UTC") -> str:
    """A moment in ISO 8601 with its zone: of seconds or milliseconds since 1970, or of ISO 8601 text."""
    moment = moment_of(value)
    if moment is None:
        raise FilterArgumentError(f"iso8601: {str(value)[:40]!r} is no moment", token=None)
    try:
        local = moment.astimezone(ZoneInfo(str(zone)[:64]))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FilterArgumentError(f"iso8601: there is no time zone {str(zone)[:40]!r}", token=None) from None
    precision = "milliseconds" if local.microsecond else "seconds"
    return local.isoformat(timespec=precision).replace("+00:00", "Z")


@liquid_filter
def _number(value: object, digits: object = 2, thousands: object = ",", point: object = ".") -> str:
    """A number with so many digits after the point, and a sign between thousands."""
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise FilterArgumentError(f"number: {str(value)[:40]!r} is no number", token=None) from None
    if not found.is_finite() or found.adjusted() > MAXIMUM_DIGITS:
        raise FilterArgumentError("number: has too many digits", token=None)
    if not isinstance(digits, int) or not 0 <= digits <= MAXIMUM_DECIMALS:
        raise FilterArgumentError(f"number: takes 0 to {MAXIMUM_DECIMALS} digits", token=None)
    with localcontext(prec=MAXIMUM_DIGITS + MAXIMUM_DECIMALS + 2):
        written = f"{found.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):,f}"
    signs = {",": str(thousands), ".": str(point)}
    return "".join(signs.get(each, each) for each in written)


_TEXT = _Bounded(tolerance=Mode.STRICT, strict_filters=True)
_HTML = _Bounded(tolerance=Mode.STRICT, strict_filters=True, autoescape=True)
_SMALL_TEXT = _Small(tolerance=Mode.STRICT, strict_filters=True)
_SMALL_HTML = _Small(tolerance=Mode.STRICT, strict_filters=True, autoescape=True)


def parse(source: str) -> None:
    """Read a template.

    Raises:
        InvalidTemplate: it is none.
    """
    try:
        _TEXT.from_string(source)
    except (LiquidError, RecursionError) as error:
        raise InvalidTemplate(f"is not a Liquid template: {_first_line(error)}") from None


def check(source: str, roots: Sequence[str]) -> None:
    """Read a template whose names all begin with one of these roots, and whose filters there are.

    Raises:
        InvalidTemplate: it is none.
    """
    parse(source)
    found = _TEXT.from_string(source).analyze()
    if unknown := [each for each in found.filters if each not in _TEXT.filters]:
        raise InvalidTemplate(f"has no filter {unknown[0]!r}; there are {', '.join(sorted(_TEXT.filters))}")
    if unknown := [each for each in found.globals if each not in roots]:
        raise InvalidTemplate(
            f"reads {unknown[0]!r}: names begin with {', '.join(roots)}. Write body.{unknown[0]} for the body"
        )


def render(source: str, scope: Scope, *, html: bool) -> str:
    """The text that a template gives.

    Raises:
        Permanent: it cannot be rendered within the limits.
    """
    try:
        return (_HTML if html else _TEXT).from_string(source).render(scope)
    except _ERRORS as error:
        raise Permanent(f"a template cannot be rendered: {_first_line(error)}") from error


def render_small(source: str, scope: Scope, scope_bytes: int, *, html: bool) -> str:
    """The text that a template gives when that is little work. Both are small already.

    Raises:
        TooLarge: it is not, or something is wrong: `render` says what.
    """
    if ".." in source:
        # A range may have any length.
        raise TooLarge
    work = _WORK.set(_Rendering(source, scope_bytes))
    try:
        return _small_template(source, html).render(scope)
    except _ERRORS as error:
        raise TooLarge from error
    finally:
        _WORK.reset(work)


@functools.lru_cache(_KEPT_TEMPLATES)
def _small_template(source: str, html: bool) -> BoundTemplate:
    return (_SMALL_HTML if html else _SMALL_TEXT).from_string(source)


def _first_line(error: BaseException) -> str:
    """What is wrong, without the drawing of the source that follows."""
    return str(error).partition("\n")[0]
