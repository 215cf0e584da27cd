"""`doorbell replay`: events of the log again, one or many."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.completion import complete_event_type
from app.cli.logs import UNFINISHED, WantedEntries, find_entry, show_entry
from app.cli.management import ManagementClient, source_path
from app.cli.options import AsJson, Connection, Environment, Source, Wait, grouped, moment
from app.cli.printing import BAD, agrees, counted, plain, print_json, status_text
from app.core.errors import CommandError
from app.models.status import EventStatus, ReplayMappings, VerificationStatus

FAILED = 1
LOOK_EVERY = 0.3
OPEN = frozenset({"queued", "running"})
_NOT_WELL = UNFINISHED | BAD
# What became of the events that matched.
_NOT_REPLAYED = ("failed", "payloads_missing", "events_missing")


@dataclass(frozen=True)
class ManyEvents:
    """Which events are replayed when no id is given, and how."""

    event: Annotated[
        str | None, typer.Option(help="Only events of this type.", autocompletion=complete_event_type)
    ] = None
    status: Annotated[EventStatus | None, typer.Option(help="Only events of this status.")] = None
    verification_status: Annotated[
        VerificationStatus | None, typer.Option(help="Only this verification status.")
    ] = None
    action_type: Annotated[str | None, typer.Option(help="Only events that ran this action.")] = None
    action_status: Annotated[
        str | None, typer.Option(help="Only events with an action of this status, for example failed.")
    ] = None
    starting_at: Annotated[
        str | None,
        typer.Option(
            parser=moment,
            metavar="TIME",
            help="Only received at or after this time, for example 2026-01-15T12:00Z.",
        ),
    ] = None
    ending_at: Annotated[
        str | None, typer.Option(parser=moment, metavar="TIME", help="Only received at or before this time.")
    ] = None
    include_replays: Annotated[
        bool, typer.Option("--include-replays", help="Also what replays and rehearsals made.")
    ] = False
    rate: Annotated[int | None, typer.Option(min=1, max=200, help="Events in a second at most.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many events match.")] = False
    yes: Annotated[bool, typer.Option("--yes", help="Replay without asking.")] = False

    @property
    def is_given(self) -> bool:
        """Whether the options speak of many events."""
        return bool(self.dry_run or self.rate or any(self._filters().values()))

    def request(self, mappings: str, *, dry_run: bool) -> dict[str, Any]:
        """The replay as the Management API takes it."""
        given = {name: value for name, value in self._filters().items() if value not in (None, False)}
        rate = {} if self.rate is None else {"rate_limit_per_second": self.rate}
        return {"filter": given, "mappings": mappings, "dry_run": dry_run, **rate}

    def _filters(self) -> dict[str, Any]:
        others = ("rate", "dry_run", "yes")
        return {name: value for name, value in vars(self).items() if name not in others}


@dataclass(frozen=True)
class Asked:
    """Which events of a source to replay, and how."""

    source: str
    environment: str
    mappings: str
    many: ManyEvents

    def post(self, client: ManagementClient, *, dry_run: bool) -> dict[str, Any]:
        """What matches, and the replay of it unless it is a dry run."""
        body = {"replay": self.many.request(self.mappings, dry_run=dry_run)}
        path = source_path(self.source, "replays")
        answer: dict[str, Any] = client.post(path, body, environment=self.environment)
        return answer


@grouped
def replay(
    source: Source,
    event_id: Annotated[
        UUID | None, typer.Argument(help="The id of an event; without it, all that match are replayed.")
    ] = None,
    environment: Environment = "development",
    mappings: Annotated[
        ReplayMappings,
        typer.Option(help="Map as configured now, or send the actions as they were evaluated then."),
    ] = ReplayMappings.CURRENT,
    *,
    many: ManyEvents,
    cancel: Annotated[UUID | None, typer.Option(help="End this replay of many instead.")] = None,
    wait: Wait = 30,
    as_json: AsJson = False,
    connection: Connection,
) -> None:
    """Run an event of the log again, or all events that match, and show what became of them.

    Leaves with code 1 when not all succeeded or not all are over.

    Example: doorbell replay stripe --status failed --starting-at 2026-01-15T00:00Z --rate 50
    """
    if event_id is not None and (cancel or many.is_given):
        raise CommandError("give the id of one event, or say which events; not both")
    with connection.client() as client:
        console = Console()
        if cancel is not None:
            code = cancel_replay(client, source, environment, cancel, console, as_json=as_json)
        elif event_id is not None:
            wanted = WantedEntries(source, environment)
            code = replay_one(
                client, wanted, event_id, console, mappings=mappings, wait=wait, as_json=as_json
            )
        else:
            asked = Asked(source, environment, mappings, many)
            code = replay_many(client, asked, console, wait=wait, as_json=as_json)
    raise typer.Exit(code)


def replay_one(
    client: ManagementClient,
    wanted: WantedEntries,
    event_id: UUID,
    console: Console,
    *,
    mappings: str,
    wait: float,
    as_json: bool,
) -> int:
    """Run an event again and show what became of it; the exit code, which says whether it failed.

    Raises:
        CommandError: it is of another environment.
    """
    path = wanted.path(str(event_id))
    if find_entry(client, wanted, str(event_id)) is None:
        found = client.get(path)
        _check_environment(f"event {event_id}", found["environment"], wanted.environment)
    started = client.post(f"{path}/replay", {"replay": {"mappings": mappings}})["replay"]
    with Console(stderr=True).status("The event runs again"):
        entry = _until(
            lambda: client.get(wanted.path(started["log_id"])),
            lambda found: found["status"] not in UNFINISHED,
            wait,
        )
    show_entry(entry, console, as_json=as_json)
    if entry["status"] in UNFINISHED and not as_json:
        console.print(
            f"It was not over within {wait:g} s and goes on; `doorbell logs {wanted.source} -e "
            f"{wanted.environment}` will tell. Is a worker of {wanted.environment} running?",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return FAILED if entry["status"] in BAD | UNFINISHED else 0


def replay_many(
    client: ManagementClient,
    asked: Asked,
    console: Console,
    *,
    wait: float,
    as_json: bool,
) -> int:
    """Count, ask unless it is confirmed, start, and follow to the end; the exit code, which says whether all
    succeeded."""
    matches = asked.post(client, dry_run=True)
    total = matches["total"]
    if asked.many.dry_run or not total:
        _show_matches(matches, console, as_json=as_json)
        return 0
    if not asked.many.yes and not agrees(console, f"Replay {counted(total, 'event')} of {asked.source}?"):
        console.print("Nothing was replayed.")
        return FAILED
    started = asked.post(client, dry_run=False)["replay"]
    aside = Console(stderr=True)
    try:
        _print(aside, f"Replay {started['id']} of {counted(started['total'], 'event')} has begun")
        replay = _follow(client, asked.source, started, wait, aside)
    except KeyboardInterrupt:
        how = f"`doorbell replay {asked.source} -e {asked.environment} --cancel {started['id']}`"
        _print(aside, f"The replay goes on at the server. Cancel it with {how}")
        return FAILED
    show_replay(replay, console, as_json=as_json)
    return 0 if _succeeded(replay) else FAILED


def cancel_replay(
    client: ManagementClient,
    source: str,
    environment: str,
    replay_id: UUID,
    console: Console,
    *,
    as_json: bool,
) -> int:
    """Let a replay make no further events; the exit code.

    Raises:
        CommandError: it is of another environment.
    """
    path = source_path(source, "replays", str(replay_id))
    found = client.get(path)["replay"]
    _check_environment(f"replay {replay_id}", found["environment"], environment)
    replay = client.post(f"{path}/cancel", {})["replay"]
    show_replay(replay, console, as_json=as_json)
    return 0


def show_replay(replay: dict[str, Any], console: Console, *, as_json: bool) -> None:
    """A replay in a few lines: how far it came, what became of the new events, what could not be replayed."""
    if as_json:
        print_json(console, replay)
        return
    _print(console, status_text(replay["status"]), f" {replay['replayed']} of {replay['total']} replayed")
    for status, number in sorted(replay["outcomes"].items()):
        _print(console, "    ", status_text(status), f" {number}")
    if missing := replay["payloads_missing"]:
        have = "has" if missing == 1 else "have"
        _print(console, f"    {missing} {have} no payload any more: retention or an erasure took it")
    if missing := replay["events_missing"]:
        are = "is" if missing == 1 else "are"
        _print(console, f"    {missing} {are} no longer in the log: deleted by retention during the replay")
    if replay["failed"]:
        _print(console, f"    {replay['failed']} could not be replayed")
    for each in replay["failures"]:
        _print(console, f"      {each['log_id']}  ", plain(each["message"]))
    if replay["error"]:
        _print(console, "    ", plain(replay["error"]))
    how = f"`doorbell logs {replay['source_key']} -e {replay['environment']} --replay {replay['id']}`"
    _print(console, f"{how} shows the new events")


def _show_matches(matches: dict[str, Any], console: Console, *, as_json: bool) -> None:
    if as_json:
        print_json(console, matches)
        return
    total, sample = matches["total"], matches["sample"]
    first = "" if not sample else ":" if total == len(sample) else ", the first are"
    _print(console, f"{counted(total, 'event')} {'matches' if total == 1 else 'match'}{first}")
    for each in sample:
        _print(console, f"    {each}")


def _print(console: Console, *parts: Any) -> None:
    console.print(*parts, sep="", soft_wrap=True, highlight=False, markup=False)


def _follow(
    client: ManagementClient, source: str, replay: dict[str, Any], wait: float, aside: Console
) -> dict[str, Any]:
    """The replay when it is over and so are its events, or as it is `wait` seconds after the last was
    made."""
    path = source_path(source, "replays", replay["id"])
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=aside,
        transient=True,
    )
    with bar:
        task = bar.add_task("Replaying", total=replay["total"])

        def look() -> dict[str, Any]:
            found: dict[str, Any] = client.get(path)["replay"]
            done = sum(found[name] for name in ("replayed", *_NOT_REPLAYED))
            bar.update(task, completed=done)
            return found

        _until(look, lambda found: found["status"] not in OPEN, None)
        bar.update(task, description="Waiting for the last events to be processed")
        return _until(look, lambda found: not found["outcomes"].keys() & UNFINISHED, wait)


def _until(
    look: Callable[[], dict[str, Any]], is_enough: Callable[[dict[str, Any]], bool], wait: float | None
) -> dict[str, Any]:
    """What is found when it is enough, or after `wait` seconds."""
    deadline = None if wait is None else time.monotonic() + wait
    while True:
        found = look()
        if is_enough(found) or (deadline is not None and time.monotonic() > deadline):
            return found
        time.sleep(LOOK_EVERY)


def _succeeded(replay: dict[str, Any]) -> bool:
    """Whether every event that matched was run again, and well."""
    left = sum(replay[name] for name in _NOT_REPLAYED)
    return replay["status"] == "completed" and not left and not replay["outcomes"].keys() & _NOT_WELL


def _check_environment(what: str, environment: str, chosen: str) -> None:
    """Refuse what is of another environment than the one that the command is about.

    Raises:
        CommandError: it is.
    """
    if environment != chosen:
        raise CommandError(f"{what} is of {environment}, not of {chosen}: pass -e {environment}")
