"""`doorbell secrets`: everything that is encrypted in the database."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from app.core.settings import Settings

group = typer.Typer(help="Everything that is encrypted in the database.", no_args_is_help=True)


@group.command("rotate")
def rotate_secrets(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Change nothing; exit with 1 when something is under another key than the first."
        ),
    ] = False,
) -> None:
    """Write everything that is encrypted in the database anew under the first key of DOORBELL_SECRET_KEY.

    Safe while Doorbell runs, and to be broken off and run again. docs/security.md says in which order keys
    are changed.

    Example: doorbell secrets rotate
    """
    from app.cli.target import database_reached
    from app.commands.key_rotation import rotate
    from app.stack.installation import find_installation

    with database_reached():
        code = asyncio.run(rotate(find_installation(Settings()), Console(), check=check))
    raise typer.Exit(code)
