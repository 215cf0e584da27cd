"""`doorbell secret`: signing secrets of sources."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.management import management_client
from app.cli.options import AsJson, Environment, Source, Token, Url
from app.core.settings import Settings

group = typer.Typer(help="Signing secrets of sources.", no_args_is_help=True)


@group.command("add")
def add_secret(
    source: Source,
    environment: Environment,
    expire_others_in: Annotated[
        int | None,
        typer.Option(min=0, metavar="SECONDS", help="To rotate: for how long the others still verify."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Add a signing secret. It is asked for without being shown, or read from standard input when that is
    piped.

    Example: doorbell secret add stripe --environment production --expire-others-in 86400
    """
    from app.commands import signing_secrets

    with management_client(Settings(), url, token) as client:
        value = signing_secrets.read_value(lambda: typer.prompt("Signing secret", hide_input=True, err=True))
        code = signing_secrets.add(
            client,
            source,
            environment,
            value,
            Console(),
            expire_others_in=expire_others_in,
            as_json=as_json,
        )
    raise typer.Exit(code)


@group.command("list")
def list_secrets(
    source: Source,
    environment: Environment = "development",
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the signing secrets of a source, newest first, without their values.

    Example: doorbell secret list stripe --environment production
    """
    from app.commands import signing_secrets

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(signing_secrets.list_all(client, source, environment, Console(), as_json=as_json))
