"""`doorbell sources` and `doorbell events`: what sends, and which events came."""

import typer
from rich.console import Console

from app.cli.management import management_client
from app.cli.options import AsJson, Environment, Source, Token, Url
from app.core.settings import Settings


def sources(
    environment: Environment = "development", as_json: AsJson = False, url: Url = None, token: Token = None
) -> None:
    """Show all sources, how much they received in the last 30 days, and when last.

    Example: doorbell sources --environment production
    """
    from app.commands.sources import list_sources

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(list_sources(client, environment, Console(), as_json=as_json))


def events(
    source: Source,
    environment: Environment = "development",
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the event types that a source received in the last 30 days.

    Example: doorbell events stripe
    """
    from app.commands.sources import list_events

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(list_events(client, source, environment, Console(), as_json=as_json))
