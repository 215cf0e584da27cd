"""`doorbell logs`: what a source received, as it happens."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from app.cli.completion import complete_event_type
from app.cli.management import ManagementClient, Unavailable, source_path
from app.cli.options import AsJson, Connection, Environment, Source, grouped
from app.cli.printing import (
    compact,
    plain,
    print_json,
    print_line,
    shortened,
    status_text,
    time_text,
)
from app.core.left_out import named
from app.models.status import EventStatus

UNFINISHED = frozenset({"received", "processing"})
PAGE_SIZE = 100
LOOK_EVERY = 0.3
RECONNECT_AFTER = 1.0
# Events become visible a little after the time in their id: a stream that goes on looks back so far.
OVERLAP_MILLISECONDS = 10_000


@dataclass(frozen=True)
class WantedEntries:
    """Which entries of a source's log."""

    source: Source
    environment: Environment = "development"
    event: Annotated[
        str | None, typer.Option(help="Only this event type.", autocompletion=complete_event_type)
    ] = None
    status: Annotated[EventStatus | None, typer.Option(help="Only this status.")] = None
    replay: Annotated[UUID | None, typer.Option(help="Only what this replay of many events made.")] = None

    def path(self, *parts: str) -> str:
        return source_path(self.source, "logs", *parts)

    def filters(self) -> dict[str, str | None]:
        return {
            "environment": self.environment,
            "event": self.event,
            "status": self.status,
            "replay_id": None if self.replay is None else str(self.replay),
        }


@grouped
def logs(
    wanted: WantedEntries,
    limit: Annotated[int, typer.Option(min=1, help="How many of the latest.")] = 25,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then show those that come, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Show what a source received and what became of it: a line for each event, newest last, its actions
    below.

    Example: doorbell logs stripe --status failed --follow
    """
    with connection.client() as client:
        if follow:
            raise typer.Exit(follow_logs(client, wanted, limit, Console(), as_json=as_json))
        show_logs(client, wanted, limit, Console(), as_json=as_json)


def show_logs(
    client: ManagementClient, wanted: WantedEntries, limit: int, console: Console, *, as_json: bool
) -> list[dict[str, Any]]:
    """Show the latest entries, newest last; the entries."""
    entries = _latest(client, wanted, limit)
    for each in entries:
        show_entry(each, console, as_json=as_json)
    return entries


def follow_logs(
    client: ManagementClient, wanted: WantedEntries, limit: int, console: Console, *, as_json: bool
) -> int:
    """Show the latest entries and those that come, when they are first seen and when they are over, until
    Ctrl-C.

    The exit code.
    """
    try:
        entries = show_logs(client, wanted, limit, console, as_json=as_json)
        shown = {UUID(each["id"]): each["status"] for each in entries}
        for entry in _changes(client, wanted, shown):
            show_entry(entry, console, as_json=as_json)
    except KeyboardInterrupt:
        pass
    return 0


def show_entry(entry: dict[str, Any], console: Console, *, as_json: bool) -> None:
    """An event on one line, why it failed and its actions below."""
    if as_json:
        print_json(console, entry)
        return
    origin = [f"({entry['source']})"] if entry["source"] else []
    erased = ["(erased)"] if entry["erased_at"] else []
    print_line(
        console,
        time_text(entry["inserted_at"]),
        plain(entry["event"] or "(no event type)"),
        status_text(entry["status"]),
        entry["verification_status"] or "",
        _took(entry),
        entry["id"],
        *origin,
        *erased,
    )
    for why in _reasons(entry):
        console.print(Text("    ") + plain(why), soft_wrap=True, highlight=False)
    for action in entry["actions"] or []:
        result = action["error"] or _result(action["action_result"])
        print_line(
            console,
            f"    └ {action['action_type']}",
            status_text(action["action_status"]),
            _took(action),
            plain(result),
        )
        if action.get("next_attempt_at"):
            print_line(console, "      tried again", time_text(action["next_attempt_at"]))
        for each in action.get("left_out") or ():
            print_line(console, "      left out", named(each), each["reason"])


def find_entry(client: ManagementClient, wanted: WantedEntries, identifier: str) -> dict[str, Any] | None:
    """The entry as it is now, with its actions; None when retention took it."""
    page = client.get(wanted.path(), environment=wanted.environment, id=identifier, include="actions")
    return page["entries"][0] if page["entries"] else None


def _reasons(entry: dict[str, Any]) -> list[str]:
    """What an event waits for, why it failed and why it is not verified, which the error of a rejected one
    says already."""
    error, unverified = entry["error"] or "", entry["verification_reason"] or ""
    waiting = f"waits for {entry['waiting_for']}" if entry["waiting_for"] else ""
    return [each for each in (waiting, error, "" if unverified in error else unverified) if each]


def _result(result: Any) -> str:
    return "" if result is None else shortened(compact(result))


def _took(run: dict[str, Any]) -> str:
    return "" if run["duration_ms"] is None else f"{run['duration_ms']} ms"


def _latest(client: ManagementClient, wanted: WantedEntries, limit: int) -> list[dict[str, Any]]:
    """The latest entries with their actions, oldest first."""
    found: list[dict[str, Any]] = []
    after = None
    while len(found) < limit:
        size = min(PAGE_SIZE, limit - len(found))
        page = client.get(wanted.path(), include="actions", limit=size, after=after, **wanted.filters())
        found += page["entries"]
        after = page["page_info"]["after"]
        if after is None:
            break
    return found[::-1]


def _changes(
    client: ManagementClient, wanted: WantedEntries, shown: dict[UUID, str]
) -> Iterator[dict[str, Any]]:
    """The entries that are new or over, for ever. A stream that breaks off goes on where it was."""
    while True:
        point = _resume_point(shown)
        shown = {each: status for each, status in shown.items() if each > point}
        try:
            with client.events(wanted.path("stream"), str(point), **wanted.filters()) as events:
                for event in events:
                    before = shown.get(identifier := UUID(event["id"]))
                    is_over = event["status"] not in UNFINISHED
                    if before is not None and not (before in UNFINISHED and is_over):
                        continue
                    if (entry := find_entry(client, wanted, event["id"])) is not None:
                        # The status that is shown: it may be ahead of the stream, whose next word is no news
                        # then.
                        shown[identifier] = entry["status"]
                        yield entry
        except Unavailable as error:
            Console(stderr=True).print(
                f"doorbell: {error}; trying again", style="dim", highlight=False, markup=False, soft_wrap=True
            )
        time.sleep(RECONNECT_AFTER)


def _resume_point(shown: dict[UUID, str]) -> UUID:
    """After which id a stream begins, so that it brings all that is new and the ends of what is
    unfinished."""
    if not shown:
        return UUID(int=0)
    unfinished = [each.int for each, status in shown.items() if status in UNFINISHED]
    late = max(shown).int - (OVERLAP_MILLISECONDS << 80)
    # What came before the first that was shown was not asked for.
    return UUID(int=max(min([*unfinished, late]), min(shown).int) - 1)
