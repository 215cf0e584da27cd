"""`doorbell replay` without an event's id: all events of a source that match, counted first, followed to the
end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.management import ManagementClient, source_path
from app.cli.printing import agrees, counted, plain, print_json, status_text
from app.commands.logs import FAILED, UNFINISHED, check_environment

LOOK_EVERY = 0.3
OPEN = frozenset({"queued", "running"})


@dataclass(frozen=True)
class Asked:
    """Which events of a source to replay, and how. `filters` are the Management API's, None where nothing is
    said."""

    source: str
    environment: str
    mappings: str
    rate: int | None = None
    filters: dict[str, Any] = field(default_factory=dict)

    def post(self, client: ManagementClient, *, dry_run: bool) -> dict[str, Any]:
        """What matches, and the replay of it unless it is a dry run."""
        given = {name: value for name, value in self.filters.items() if value not in (None, False)}
        rate = {} if self.rate is None else {"rate_limit_per_second": self.rate}
        body = {"filter": given, "mappings": self.mappings, "dry_run": dry_run, **rate}
        path = source_path(self.source, "replays")
        answer: dict[str, Any] = client.post(path, {"replay": body}, environment=self.environment)
        return answer


def replay_many(
    client: ManagementClient,
    asked: Asked,
    console: Console,
    *,
    dry_run: bool,
    confirmed: bool,
    wait: float,
    as_json: bool,
) -> int:
    """Count, ask unless it is confirmed, start, and follow to the end; the exit code, which says whether all
    succeeded."""
    matches = asked.post(client, dry_run=True)
    total = matches["total"]
    if dry_run or not total:
        _show_matches(matches, console, as_json=as_json)
        return 0
    if not confirmed and not agrees(console, f"Replay {counted(total, 'event')} of {asked.source}?"):
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


def cancel(
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
    check_environment(f"replay {replay_id}", found["environment"], environment)
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
            done = sum(found[name] for name in ("replayed", "failed", "payloads_missing"))
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


_NOT_WELL = UNFINISHED | {"failed", "rejected"}


def _succeeded(replay: dict[str, Any]) -> bool:
    """Whether every event that matched was run again, and well."""
    left = replay["failed"] + replay["payloads_missing"]
    return replay["status"] == "completed" and not left and not replay["outcomes"].keys() & _NOT_WELL
