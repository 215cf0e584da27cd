"""`doorbell stats`: how much there was, and what became of it."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.completion import complete_source
from app.cli.management import management_client
from app.cli.options import AsJson, Environment, Token, Url
from app.commands.statistics import Period
from app.core.settings import Settings


def stats(
    environment: Environment = "development",
    source: Annotated[
        str | None, typer.Option(help="Only this source.", autocompletion=complete_source)
    ] = None,
    period: Annotated[Period, typer.Option(help="How far back.")] = Period.DAY,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show how many events and actions there were, what became of them, how long they took, and which were
    most.

    Example: doorbell stats --environment production --period week
    """
    from app.commands.statistics import show_statistics

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(show_statistics(client, environment, source, period, Console(), as_json=as_json))
