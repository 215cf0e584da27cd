"""Lists in pages: Knock's cursors, `after` and `before`, over a sort key that is unique."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from sqlalchemy import Label, Row, Select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped

from app.core.errors import FieldError, RequestError

Item = TypeVar("Item")
Column = Mapped[Any]


@dataclass(frozen=True)
class PageRequest:
    """Which page of a list."""

    size: int
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page. The cursors are None where the list ends."""

    items: list[Item]
    size: int
    after: str | None
    before: str | None


async def fetch_page(
    connection: AsyncConnection,
    query: Select[Any],
    key: Sequence[Column],
    request: PageRequest,
    item: Callable[[Row[Any]], Item],
    *,
    descending: bool = False,
    parse: Callable[[str], Any] | Sequence[Callable[[str], Any]] = str,
) -> Page[Item]:
    """The page of `query` in the order of `key`, which the rows must be unique by.

    `parse` reads the parts of a cursor: one for all of them, or one for each.
    """
    backwards = request.before is not None and request.after is None
    if cursor := request.before if backwards else request.after:
        parsers = [parse] * len(key) if callable(parse) else parse
        position = tuple_(*_decoded(cursor, parsers, "before" if backwards else "after"))
        beyond = tuple_(*key) < position if descending != backwards else tuple_(*key) > position
        query = query.where(beyond)
    labelled: list[Label[Any]] = [column.label(f"cursor_{number}") for number, column in enumerate(key)]
    order = (column.desc() if descending != backwards else column.asc() for column in key)
    found = await connection.execute(query.add_columns(*labelled).order_by(*order).limit(request.size + 1))
    rows = found.all()
    more, rows = len(rows) > request.size, rows[: request.size]
    if backwards:
        rows = rows[::-1]
    first, last = (_encoded(rows[0], key), _encoded(rows[-1], key)) if rows else (None, None)
    return Page(
        items=[item(row) for row in rows],
        size=request.size,
        after=last if more or backwards else None,
        before=first if (more if backwards else request.after) else None,
    )


def _encoded(row: Row[Any], key: Sequence[Column]) -> str:
    values = [str(row._mapping[f"cursor_{number}"]) for number in range(len(key))]
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def _decoded(cursor: str, parsers: Sequence[Callable[[str], Any]], field: str) -> list[Any]:
    try:
        values = orjson.loads(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        )
        if not isinstance(values, list) or len(values) != len(parsers):
            raise ValueError
        return [parse(_text(value)) for parse, value in zip(parsers, values, strict=True)]
    except (ValueError, binascii.Error):
        error = FieldError(field, "is not a cursor of this list")
        raise RequestError(422, "invalid_params", f"{field} {error.message}", errors=[error]) from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError
    return value
