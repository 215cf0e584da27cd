"""`doorbell replay`: events of the log again, one or many."""

from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from app.cli.completion import complete_event_type
from app.cli.management import management_client
from app.cli.options import AsJson, Environment, Source, Token, Url, Wait, moment
from app.core.errors import CommandError
from app.core.settings import Settings
from app.models.status import EventStatus, ReplayMappings, VerificationStatus


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
    event: Annotated[
        str | None, typer.Option(help="Only events of this type.", autocompletion=complete_event_type)
    ] = None,
    status: Annotated[EventStatus | None, typer.Option(help="Only events of this status.")] = None,
    verification_status: Annotated[
        VerificationStatus | None, typer.Option(help="Only this verification status.")
    ] = None,
    action_type: Annotated[str | None, typer.Option(help="Only events that ran this action.")] = None,
    action_status: Annotated[
        str | None, typer.Option(help="Only events with an action of this status, for example failed.")
    ] = None,
    starting_at: Annotated[
        str | None,
        typer.Option(
            parser=moment,
            metavar="TIME",
            help="Only received at or after this time, for example 2026-01-15T12:00Z.",
        ),
    ] = None,
    ending_at: Annotated[
        str | None, typer.Option(parser=moment, metavar="TIME", help="Only received at or before this time.")
    ] = None,
    include_replays: Annotated[
        bool, typer.Option("--include-replays", help="Also what replays and rehearsals made.")
    ] = False,
    rate: Annotated[int | None, typer.Option(min=1, max=200, help="Events in a second at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many events match.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Replay without asking.")] = False,
    cancel: Annotated[UUID | None, typer.Option(help="End this replay of many instead.")] = None,
    wait: Wait = 30,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Run an event of the log again, or all events that match, and show what became of them.

    Leaves with code 1 when not all succeeded or not all are over.

    Example: doorbell replay stripe --status failed --starting-at 2026-01-15T00:00Z --rate 50
    """
    from app.commands import logs, replays

    filters = {
        "event": event,
        "status": status,
        "verification_status": verification_status,
        "action_type": action_type,
        "action_status": action_status,
        "starting_at": starting_at,
        "ending_at": ending_at,
        "include_replays": include_replays,
    }
    if event_id is not None and (cancel or dry_run or rate or any(filters.values())):
        raise CommandError("give the id of one event, or say which events; not both")
    with management_client(Settings(), url, token) as client:
        console = Console()
        if cancel is not None:
            raise typer.Exit(replays.cancel(client, source, environment, cancel, console, as_json=as_json))
        if event_id is not None:
            raise typer.Exit(
                logs.replay(
                    client,
                    source,
                    environment,
                    event_id,
                    console,
                    mappings=mappings,
                    wait=wait,
                    as_json=as_json,
                )
            )
        asked = replays.Asked(source, environment, mappings, rate, filters)
        raise typer.Exit(
            replays.replay_many(
                client, asked, console, dry_run=dry_run, confirmed=yes, wait=wait, as_json=as_json
            )
        )
