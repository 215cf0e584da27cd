"""`doorbell retention`: how long things are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from app.cli.management import ManagementClient
from app.cli.options import AsJson, Connection, grouped
from app.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from app.retention.periods import RetentionKind

Days = Annotated[int | None, typer.Option(min=1, metavar="DAYS", help="Days to keep them from now on.")]


@dataclass(frozen=True)
class Periods:
    """How long each kind is kept, None where nothing is said."""

    payloads: Days = None
    logs: Days = None
    workflow_runs: Days = None
    messages: Days = None
    bulk_operations: Days = None

    def by_kind(self) -> dict["RetentionKind", int]:
        """The days that are given."""
        from app.retention.periods import RetentionKind

        given = {RetentionKind[name.upper()]: days for name, days in vars(self).items()}
        return {kind: days for kind, days in given.items() if days is not None}


@grouped
def retention(
    periods: Periods,
    reset: Annotated[
        bool, typer.Option("--reset", help="All that is not given here back to its default.")
    ] = False,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Show how long things are kept, or set it. It holds for all environments.

    Example: doorbell retention --payloads 7 --logs 90
    """
    days = periods.by_kind()
    with connection.client() as client:
        if days or reset:
            change_retention(client, days, reset=reset)
        raise typer.Exit(show_retention(client, Console(), as_json=as_json))


def show_retention(client: ManagementClient, console: Console, *, as_json: bool) -> int:
    """Show how long each kind is kept; the exit code."""
    from app.retention.periods import RetentionKind

    found = client.get("/v1/retention")
    if as_json:
        print_json(console, found)
        return 0
    rows = [
        (kind.removesuffix("_days").replace("_", " "), str(found[kind]), str(found["defaults"][kind]))
        for kind in RetentionKind
    ]
    print_table(console, ("kept", "days", "default"), rows)
    return 0


def change_retention(client: ManagementClient, days: Mapping["RetentionKind", int], *, reset: bool) -> None:
    """Set how long these kinds are kept, all others back to their defaults if `reset`."""
    from app.retention.periods import RetentionKind

    others = dict.fromkeys(RetentionKind) if reset else {}
    wanted = {kind.value: each for kind, each in {**others, **days}.items()}
    client.put("/v1/retention", {"retention": wanted})
