"""`doorbell erase`: what is stored of somebody, deleted on request."""

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from app.cli.management import management_client
from app.cli.options import AsJson, Environment, Token, Url
from app.core.settings import Settings

group = typer.Typer(help="Delete what is stored of somebody, on request.", no_args_is_help=True)


@group.command("user")
def erase_user(
    user_id: Annotated[str, typer.Argument(help="The user's id, as actions name it.")],
    environment: Environment,
    search: Annotated[
        list[str] | None,
        typer.Option(help="Erase also events whose payload holds this text; may be given several times."),
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Look for the texts from this time on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Look for the texts up to this time, UTC.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is done.")] = 600,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Delete a user's payloads, actions' payloads and directory rows, and say how many of each. Needs scope
    admin.

    Log entries stay, marked as erased. docs/erasure.md says what is found and what is not.

    Example: doorbell erase user ada --environment production --search ada@example.com --dry-run
    """
    from app.commands.erasures import erase_user as command

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(
            command(
                client,
                user_id,
                environment,
                Console(),
                search=search or [],
                since=since,
                until=until,
                dry_run=dry_run,
                confirmed=yes,
                wait=wait,
                as_json=as_json,
            )
        )
