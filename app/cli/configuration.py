"""`doorbell pull`, `doorbell diff`, `doorbell push`: the configuration as files."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.cli.management import management_client
from app.cli.options import AsJson, Token, Url
from app.core.settings import Settings

Directory = Annotated[Path, typer.Argument(help="The directory of the files.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def pull(
    directory: Directory,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write the configuration of all sources into files: YAML, scripts beside it, no secrets.

    Asks before it writes over files that differ, and before it removes those of sources and scripts that the
    server does not have.

    Example: doorbell pull doorbell-config
    """
    from app.commands import configuration

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(configuration.pull(client, directory, Console(), confirmed=yes, as_json=as_json))


def diff(
    directory: Directory,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when something differs.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show what `doorbell push` would change.

    Example: doorbell diff doorbell-config --check
    """
    from app.commands import configuration

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(configuration.diff(client, directory, Console(), check=check, as_json=as_json))


def push(
    directory: Directory,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Make the server what the files say, after showing what changes. Sources without a file stay as they
    are.

    Example: doorbell push doorbell-config --yes
    """
    from app.commands import configuration

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(configuration.push(client, directory, Console(), confirmed=yes, as_json=as_json))
