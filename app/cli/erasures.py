"""`doorbell erase`: what is stored of somebody, deleted on request."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from app.cli.management import ManagementClient
from app.cli.options import AsJson, Connection, Environment, Yes, grouped
from app.cli.printing import agrees, print_json, print_table
from app.core.errors import CommandError

group = typer.Typer(help="Delete what is stored of somebody, on request.", no_args_is_help=True)


LOOK_EVERY = 0.3
FAILED = 1
_OVER = frozenset({"completed", "failed"})


@dataclass(frozen=True)
class UserErasure:
    """Whose data is erased, where, and by which texts events are found that name the user otherwise."""

    user_id: Annotated[str, typer.Argument(help="The user's id, as actions name it.")]
    environment: Environment
    search: Annotated[
        list[str] | None,
        typer.Option(help="Erase also events whose payload holds this text; may be given several times."),
    ] = None
    since: Annotated[datetime | None, typer.Option(help="Look for the texts from this time on, UTC.")] = None
    until: Annotated[datetime | None, typer.Option(help="Look for the texts up to this time, UTC.")] = None

    def request(self, *, dry_run: bool) -> dict[str, Any]:
        """The erasure as the Management API takes it."""
        return {
            "user_id": self.user_id,
            "search": self.search or [],
            "starting_at": self.since and self.since.isoformat(),
            "ending_at": self.until and self.until.isoformat(),
            "dry_run": dry_run,
        }


@group.command("user")
@grouped
def erase_user(
    wanted: UserErasure,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    yes: Yes = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is done.")] = 600,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Delete a user's payloads, actions' payloads and directory rows, and say how many of each. Needs scope
    admin.

    Log entries stay, marked as erased. docs/erasure.md says what is found and what is not.

    Example: doorbell erase user ada --environment production --search ada@example.com --dry-run
    """
    with connection.client() as client:
        code = erase(client, wanted, Console(), dry_run=dry_run, confirmed=yes, wait=wait, as_json=as_json)
    raise typer.Exit(code)


def erase(
    client: ManagementClient,
    wanted: UserErasure,
    console: Console,
    *,
    dry_run: bool,
    confirmed: bool,
    wait: float,
    as_json: bool,
) -> int:
    """Erase a user, after asking unless it is confirmed; the exit code, which says whether it is done."""
    if not dry_run and not confirmed and not _agrees(client, wanted, console, wait):
        console.print("Nothing was deleted.")
        return FAILED
    erasure = _run(client, wanted, wait, dry_run=dry_run)
    if as_json:
        print_json(console, erasure)
    else:
        _show(erasure, console)
    return 0 if erasure["status"] == "completed" else FAILED


def _agrees(client: ManagementClient, wanted: UserErasure, console: Console, wait: float) -> bool:
    """Show what would be deleted, and ask."""
    if not console.is_terminal:
        raise CommandError("there is nobody to ask: give --yes to delete without asking, or --dry-run")
    _show(_run(client, wanted, wait, dry_run=True), console)
    return agrees(console, "Delete this for ever?")


def _run(client: ManagementClient, wanted: UserErasure, wait: float, *, dry_run: bool) -> dict[str, Any]:
    """Ask for an erasure and wait for its end; how it is after `wait` seconds at the latest."""
    body = {"erasure": wanted.request(dry_run=dry_run)}
    found: dict[str, Any] = client.post("/v1/erasures", body, environment=wanted.environment)["erasure"]
    deadline = time.monotonic() + wait
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Counting" if dry_run else "Erasing", total=1.0)
        while found["status"] not in _OVER and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
            found = client.get(f"/v1/erasures/{found['id']}")
            progress.update(task, completed=found["progress"])
    return found


def _show(erasure: dict[str, Any], console: Console) -> None:
    what = "would be erased" if erasure["dry_run"] else "erased"
    rows = [(name, str(count)) for name, count in erasure["counts"].items()]
    print_table(console, ("table", what), rows)
    if erasure["status"] == "failed":
        message = "It was ended before it was done: see its workflow in Temporal, and ask again."
    elif erasure["status"] != "completed":
        message = (
            f"It is not over and goes on: GET /v1/erasures/{erasure['id']} will tell. Is a worker of "
            f"{erasure['environment']} running?"
        )
    elif erasure["counts"].get("unfinished_events") or erasure["counts"].get("unfinished_runs"):
        message = "Some were in mid-work: erase again when they are over."
    else:
        return
    console.print(message, highlight=False, markup=False, soft_wrap=True)
