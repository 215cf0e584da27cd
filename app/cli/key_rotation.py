"""`doorbell secrets`: everything that is encrypted in the database."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from app.cli.printing import print_table
from app.core.settings import Settings

if TYPE_CHECKING:
    from app.account.key_rotation import Tally

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
    from app.stack.installation import find_installation

    with database_reached():
        code = asyncio.run(rotate(find_installation(Settings()), Console(), check=check))
    raise typer.Exit(code)


async def rotate(settings: Settings, console: Console, *, check: bool) -> int:
    """Rotate, or with `check` only look; 1 when the first key alone does not open everything."""
    from app.account.key_rotation import rotate_keys
    from app.core.secrets import SecretBox
    from app.database.engine import close_engine, open_engine

    engine, box = open_engine(settings), SecretBox(settings.secret_key)
    try:
        tallies = [tally async for tally in rotate_keys(engine, box, dry_run=check)]
    finally:
        await close_engine(engine)
    rows = [
        [each.column, *map(str, (each.current, each.outdated, each.rewritten, each.unreadable))]
        for each in tallies
    ]
    # Short, so that no column is folded in a terminal of 80.
    print_table(console, ("column", "first key", "others", "rewritten", "unreadable"), rows)
    console.print(_verdict(tallies), highlight=False, soft_wrap=True)
    return 0 if all(each.is_done for each in tallies) else 1


def _verdict(tallies: "list[Tally]") -> str:
    unreadable = sum(each.unreadable for each in tallies)
    left = sum(each.outdated - each.rewritten for each in tallies)
    if unreadable:
        return (
            f"No key in DOORBELL_SECRET_KEY opens {_values(unreadable)}: set the key that they were written "
            "under too, or write them anew."
        )
    if left:
        return f"{_values(left)} under another key than the first: run `doorbell secrets rotate`."
    return "The first key opens everything: the others can be taken out of DOORBELL_SECRET_KEY."


def _values(number: int) -> str:
    return "1 value" if number == 1 else f"{number} values"
