"""`doorbell doctor`: mappings and settings that can be saved no longer, because a path of theirs can only be
meant in another language."""

import typer
from rich.console import Console

from app.cli.options import AsJson, Connection, grouped


@grouped
def doctor(as_json: AsJson = False, *, connection: Connection) -> None:
    """Show paths of mappings and settings that are written in another language, and how to write them.

    Such a path was saved by an earlier version. It is read as one key with that name, which no event has.
    Leaves with code 1 when there are any.

    Example: doorbell doctor
    """
    from app.cli.findings import examine

    with connection.client() as client:
        raise typer.Exit(examine(client, Console(), as_json=as_json))
