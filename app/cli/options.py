"""Arguments and options that several commands take, and groups of options as one parameter."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, is_dataclass
from datetime import datetime
from functools import wraps
from typing import Annotated, Any

import typer

from app.cli.completion import complete_environment, complete_source
from app.cli.management import ManagementClient, management_client
from app.core.settings import Settings


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
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True)
class Connection:
    """The Doorbell whose Management API a command calls."""

    url: Url = None
    token: Token = None

    def client(self) -> AbstractContextManager[ManagementClient]:
        """A client of that API, closed at the end of the `with` block."""
        return management_client(Settings(), self.url, self.token)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer reads it: a parameter that is a dataclass becomes one option for each field."""
    parameters = inspect.signature(command, eval_str=True).parameters
    groups = {
        name: inspect.signature(each.annotation, eval_str=True).parameters
        for name, each in parameters.items()
        if inspect.isclass(each.annotation) and is_dataclass(each.annotation)
    }

    @wraps(command)
    def call(**given: Any) -> None:
        for name, options in groups.items():
            given[name] = parameters[name].annotation(**{option: given.pop(option) for option in options})
        command(**given)

    flat = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in parameters.items()
        for each in (groups[name].values() if name in groups else [parameter])
    ]
    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    return call
