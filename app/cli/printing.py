"""How commands print what the Management API answers: lines of JSON for programs, tables and colors for
people."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.core.errors import CommandError

GOOD = frozenset({"succeeded", "success", "ignored", "idempotent", "runs"})
BAD = frozenset({"failed", "rejected"})
SHOWN_LENGTH = 300


def print_json(console: Console, value: Any) -> None:
    """One line, at once, exactly as JSON writes it."""
    console.file.write(compact(value) + "\n")
    console.file.flush()


def print_table(
    console: Console,
    columns: Iterable[str],
    rows: Iterable[Iterable[str | Text]],
    *,
    whole: str | None = None,
) -> None:
    """A table without lines, whose cells wrap and are never cut off; those of the column `whole` stay on one
    line."""
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
        column.no_wrap = column.header == whole
    for row in rows:
        table.add_row(*(plain(each) if isinstance(each, str) else each for each in row))
    console.print(table)


def print_line(console: Console, *parts: str | Text) -> None:
    """Parts that are not empty on one line, which a terminal wraps where it ends."""
    texts = [each if isinstance(each, Text) else plain(each) for each in parts]
    console.print(Text("  ").join(each for each in texts if each), soft_wrap=True, highlight=False)


def plain(text: str) -> Text:
    """Text from outside, in which nothing is markup and nothing moves the cursor of a terminal."""
    return Text("".join(each if each.isprintable() else _escaped(each) for each in text))


def status_text(status: str) -> Text:
    """A status in its color."""
    style = "green" if status in GOOD else "red" if status in BAD else "yellow"
    return Text(status, style=style)


def compact(value: Any) -> str:
    """A value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def shortened(text: str) -> str:
    """The beginning of a text: enough to know it by."""
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}…"


def counted(number: int, noun: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def time_text(moment: str | None) -> str:
    """A time of an answer, in UTC, to the second."""
    return "" if moment is None else f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S}Z"


def minute_text(moment: str) -> str:
    """A time of an answer, in UTC, to the minute."""
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M}Z"


def agrees(console: Console, question: str) -> bool:
    """Whether the person at the terminal says yes.

    Raises:
        CommandError: there is nobody.
    """
    if not console.is_terminal:
        raise CommandError("there is nobody to ask: give --yes to go on without asking")
    # As plain text: as markup, the answers to choose from would be a style.
    return console.input(plain(f"{question} [y/N] ")).strip().lower() in ("y", "yes")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
