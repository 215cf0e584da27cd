"""`doorbell erase`: what is stored of a user, deleted on request, with a look first."""

import time
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress

from app.cli.management import ManagementClient
from app.cli.printing import agrees, print_json, print_table
from app.core.errors import CommandError

LOOK_EVERY = 0.3
FAILED = 1
_OVER = frozenset({"completed", "failed"})


def erase_user(
    client: ManagementClient,
    user_id: str,
    environment: str,
    console: Console,
    *,
    search: list[str],
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    confirmed: bool,
    wait: float,
    as_json: bool,
) -> int:
    """Erase a user, after asking unless it is confirmed; the exit code, which says whether it is done."""
    wanted = {
        "user_id": user_id,
        "search": search,
        "starting_at": since and since.isoformat(),
        "ending_at": until and until.isoformat(),
    }
    if not dry_run and not confirmed and not _agrees(client, wanted, environment, console, wait):
        console.print("Nothing was deleted.")
        return FAILED
    erasure = _run(client, {**wanted, "dry_run": dry_run}, environment, wait)
    if as_json:
        print_json(console, erasure)
    else:
        _show(erasure, console)
    return 0 if erasure["status"] == "completed" else FAILED


def _agrees(
    client: ManagementClient, wanted: dict[str, Any], environment: str, console: Console, wait: float
) -> bool:
    """Show what would be deleted, and ask."""
    if not console.is_terminal:
        raise CommandError("there is nobody to ask: give --yes to delete without asking, or --dry-run")
    _show(_run(client, {**wanted, "dry_run": True}, environment, wait), console)
    return agrees(console, "Delete this for ever?")


def _run(client: ManagementClient, wanted: dict[str, Any], environment: str, wait: float) -> dict[str, Any]:
    """Ask for an erasure and wait for its end; how it is after `wait` seconds at the latest."""
    found: dict[str, Any] = client.post("/v1/erasures", {"erasure": wanted}, environment=environment)[
        "erasure"
    ]
    deadline = time.monotonic() + wait
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Counting" if wanted["dry_run"] else "Erasing", total=1.0)
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
