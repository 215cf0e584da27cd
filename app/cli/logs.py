"""`doorbell logs`: what a source received, as it happens."""

from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from app.cli.completion import complete_event_type
from app.cli.management import management_client
from app.cli.options import AsJson, Environment, Source, Token, Url
from app.core.settings import Settings
from app.models.status import EventStatus


def logs(
    source: Source,
    environment: Environment = "development",
    event: Annotated[
        str | None, typer.Option(help="Only this event type.", autocompletion=complete_event_type)
    ] = None,
    status: Annotated[EventStatus | None, typer.Option(help="Only this status.")] = None,
    replay: Annotated[UUID | None, typer.Option(help="Only what this replay of many events made.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of the latest.")] = 25,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then show those that come, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show what a source received and what became of it: a line for each event, newest last, its actions
    below.

    Example: doorbell logs stripe --status failed --follow
    """
    from app.commands.logs import Wanted, follow_logs, show_logs

    wanted = Wanted(source, environment, event, status, replay)
    with management_client(Settings(), url, token) as client:
        if follow:
            raise typer.Exit(follow_logs(client, wanted, limit, Console(), as_json=as_json))
        show_logs(client, wanted, limit, Console(), as_json=as_json)
