"""Arguments and options that several commands take."""

from datetime import datetime
from typing import Annotated

import typer

from app.cli.completion import complete_environment, complete_source


def moment(text: str) -> str:
    """A time as the Management API reads it."""
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time like 2026-01-15T12:00Z") from None


Source = Annotated[str, typer.Argument(help="The source's key.", autocompletion=complete_source)]
Environment = Annotated[
    str,
    typer.Option("--environment", "-e", help="The environment.", autocompletion=complete_environment),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print lines of JSON, for programs.")]
Url = Annotated[str | None, typer.Option(help="Another Doorbell than the one of the settings.")]
Token = Annotated[str | None, typer.Option(help="A service token; without it, the bootstrap token.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until an event is processed.")]
