"""`doorbell token`, `doorbell key`, `doorbell login`: what opens Doorbell to people and programs."""

import asyncio
from typing import Annotated

import typer
from pydantic import SecretStr

from app.cli.completion import complete_environment
from app.cli.options import AsJson, Token
from app.core.settings import Settings

tokens = typer.Typer(help="Service tokens, which open the Management API.", no_args_is_help=True)
keys = typer.Typer(help="Secret keys, which open an environment's directory.", no_args_is_help=True)


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Option(help="What the token is for.")],
    scope: Annotated[str, typer.Option(help="read, write or admin.")] = "write",
    environment: Annotated[
        list[str] | None,
        typer.Option(
            "--environment",
            "-e",
            help="Limit it to this environment; may be given several times.",
            autocompletion=complete_environment,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a service token and print it, once.

    Example: doorbell token create --name ci --scope admin
    """
    from app.account.tokens import issue_token
    from app.cli.printing import compact
    from app.cli.target import database_reached
    from app.stack.installation import find_installation

    with database_reached():
        issued = asyncio.run(issue_token(find_installation(Settings()), name, scope, environment or None))
    typer.echo(compact({"name": name, "scope": scope, "token": issued}) if as_json else issued)


@keys.command("create")
def create_key(
    environment: Annotated[
        str,
        typer.Option(
            "--environment", "-e", help="Whose directory it opens.", autocompletion=complete_environment
        ),
    ],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "command line",
    as_json: AsJson = False,
) -> None:
    """Create a secret key (sk_...) for an environment's directory and print it, once.

    Example: doorbell key create --environment development
    """
    from app.account.tokens import issue_key
    from app.cli.printing import compact
    from app.cli.target import database_reached
    from app.stack.installation import find_installation

    with database_reached():
        issued = asyncio.run(issue_key(find_installation(Settings()), environment, name))
    typer.echo(compact({"name": name, "environment": environment, "key": issued}) if as_json else issued)


def login(token: Token = None) -> None:
    """Print a link to the dashboard that logs in by itself. It works once, within 10 minutes.

    Example: doorbell login
    """
    from app.account.sessions import issue_link
    from app.cli.management import bootstrap_token
    from app.cli.target import database_reached
    from app.stack.installation import find_installation

    settings = find_installation(Settings())
    if token is None:
        token = bootstrap_token(settings)
        settings = settings.model_copy(update={"admin_token": SecretStr(token)})
    with database_reached():
        typer.echo(asyncio.run(issue_link(settings, token)))
