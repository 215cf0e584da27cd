"""`doorbell stats`: how much there was, and what became of it."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from app.cli.completion import complete_source
from app.cli.management import ManagementClient
from app.cli.options import AsJson, Connection, Environment, grouped
from app.cli.printing import BAD, minute_text, print_json, print_table

SHOWN_TYPES = 10
# In two lines, so that the table fits into 80 columns.
_BAD_EVENTS = "failed or\nrejected"


class Period(StrEnum):
    """How far back to look."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


_PERIODS = {
    Period.HOUR: (timedelta(hours=1), "quarter_hour"),
    Period.DAY: (timedelta(days=1), "hour"),
    Period.WEEK: (timedelta(days=7), "day"),
    Period.MONTH: (timedelta(days=30), "day"),
}


@grouped
def stats(
    environment: Environment = "development",
    source: Annotated[
        str | None, typer.Option(help="Only this source.", autocompletion=complete_source)
    ] = None,
    period: Annotated[Period, typer.Option(help="How far back.")] = Period.DAY,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Show how many events and actions there were, what became of them, how long they took, and which were
    most.

    Example: doorbell stats --environment production --period week
    """
    with connection.client() as client:
        raise typer.Exit(show_statistics(client, environment, source, period, Console(), as_json=as_json))


def show_statistics(
    client: ManagementClient,
    environment: str,
    source: str | None,
    period: Period,
    console: Console,
    *,
    as_json: bool,
) -> int:
    """Show what happened; the exit code."""
    length, interval = _PERIODS[period]
    found = client.get(
        "/v1/statistics",
        environment=environment,
        source=source,
        interval=interval,
        starting_at=(datetime.now(UTC) - length).isoformat(),
    )
    if as_json:
        print_json(console, found)
        return 0
    rows = [(minute_text(each["starts_at"]), *_row(each)) for each in found["points"]]
    columns = ("from", "events", _BAD_EVENTS, "actions", "failed", "p50 ms", "p95 ms", "p99 ms")
    print_table(console, columns, [*rows, ("all", *_row(found))])
    if found["event_types"]:
        console.print()
        types = [
            (each["source"], each["event"] or "(others)", *_counts(each["events"]))
            for each in found["event_types"][:SHOWN_TYPES]
        ]
        print_table(console, ("source", "event type", "events", _BAD_EVENTS), types)
    return 0


def _row(counted: dict[str, Any]) -> list[str]:
    latency = [counted["latency"][name] for name in ("p50_ms", "p95_ms", "p99_ms")]
    return [
        *_counts(counted["events"]),
        *_counts(counted["actions"]),
        *("" if each is None else _milliseconds(each) for each in latency),
    ]


def _milliseconds(value: float) -> str:
    """From a second on without tenths: the table fits 80 columns."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def _counts(statuses: dict[str, int]) -> tuple[str, str]:
    """All of them, and those that failed or were rejected."""
    bad = sum(count for status, count in statuses.items() if status in BAD)
    return f"{sum(statuses.values()):,}", f"{bad:,}"
