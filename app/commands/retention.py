"""`doorbell retention`: how long things are kept, shown and set."""

from collections.abc import Mapping

from rich.console import Console

from app.cli.management import ManagementClient
from app.cli.printing import print_json, print_table
from app.retention.periods import Kind


def show(client: ManagementClient, console: Console, *, as_json: bool) -> int:
    """Show how long each kind is kept; the exit code."""
    found = client.get("/v1/retention")
    if as_json:
        print_json(console, found)
        return 0
    rows = [
        (kind.removesuffix("_days").replace("_", " "), str(found[kind]), str(found["defaults"][kind]))
        for kind in Kind
    ]
    print_table(console, ("kept", "days", "default"), rows)
    return 0


def change(
    client: ManagementClient, days: Mapping[Kind, int], console: Console, *, reset: bool, as_json: bool
) -> int:
    """Set how long these kinds are kept, all others back to their defaults if `reset`; the exit code."""
    others = dict.fromkeys(Kind) if reset else {}
    wanted = {kind.value: each for kind, each in {**others, **days}.items()}
    client.put("/v1/retention", {"retention": wanted})
    return show(client, console, as_json=as_json)
