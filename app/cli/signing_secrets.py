"""`doorbell secret`: signing secrets of sources."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from app.cli.management import ManagementClient, source_path
from app.cli.options import AsJson, Connection, Environment, Source, grouped
from app.cli.printing import print_json, print_table, time_text
from app.core.errors import CommandError

group = typer.Typer(help="Signing secrets of sources.", no_args_is_help=True)


@group.command("add")
@grouped
def add_secret(
    source: Source,
    environment: Environment,
    expire_others_in: Annotated[
        int | None,
        typer.Option(min=0, metavar="SECONDS", help="To rotate: for how long the others still verify."),
    ] = None,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Add a signing secret. It is asked for without being shown, or read from standard input when that is
    piped.

    Example: doorbell secret add stripe --environment production --expire-others-in 86400
    """
    with connection.client() as client:
        value = read_value(lambda: typer.prompt("Signing secret", hide_input=True, err=True))
        code = add_value(
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
@grouped
def list_secrets(
    source: Source,
    environment: Environment = "development",
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Show the signing secrets of a source, newest first, without their values.

    Example: doorbell secret list stripe --environment production
    """
    with connection.client() as client:
        raise typer.Exit(show_secrets(client, source, environment, Console(), as_json=as_json))


def read_value(prompt: Callable[[], str]) -> str:
    """The secret: asked for where there is a person, else all of standard input but the end of its last line.

    Raises:
        CommandError: there is none.
    """
    value = prompt() if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise CommandError(
            "standard input has no secret: pipe it, as in `pass show stripe | doorbell secret add ...`, or "
            "run this in a terminal to be asked"
        )
    return value


def add_value(
    client: ManagementClient,
    source: str,
    environment: str,
    value: str,
    console: Console,
    *,
    expire_others_in: int | None,
    as_json: bool,
) -> int:
    """Add a secret; the exit code."""
    secret = {"value": value, "expire_others_in_seconds": expire_others_in}
    path = source_path(source, "secrets")
    added = client.post(path, {"secret": secret}, environment=environment)["secret"]
    if as_json:
        print_json(console, added)
        return 0
    console.print(
        f"Added secret {added['id']} to {source} in {environment}.", highlight=False, soft_wrap=True
    )
    if expire_others_in is not None:
        console.print(f"The others verify for {expire_others_in} seconds still.", highlight=False)
    return 0


def show_secrets(
    client: ManagementClient, source: str, environment: str, console: Console, *, as_json: bool
) -> int:
    """Show the secrets without their values; the exit code."""
    found = client.get(source_path(source, "secrets"), environment=environment)["entries"]
    if as_json:
        for each in found:
            print_json(console, each)
        return 0
    if not found:
        console.print(
            f"{source} has no signing secret in {environment}: `doorbell secret add {source} -e "
            f"{environment}`",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return 0
    rows = [
        (
            each["id"],
            time_text(each["created_at"]),
            time_text(each["expires_at"]) or "never",
            time_text(each["last_matched_at"]) or "never",
        )
        for each in found
    ]
    print_table(console, ("secret", "created", "expires", "last matched"), rows, whole="secret")
    return 0
