"""`doorbell mappings`: mappings from event types to actions."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from app.cli.completion import complete_event_type
from app.cli.management import management_client
from app.cli.options import AsJson, Environment, Source, Token, Url
from app.core.settings import Settings

group = typer.Typer(help="Mappings from event types to actions.", no_args_is_help=True)


@group.command("test")
def evaluate_mappings(
    source: Source,
    event_type: Annotated[
        str,
        typer.Argument(help="The event type whose mappings to test.", autocompletion=complete_event_type),
    ],
    environment: Environment = "development",
    event_id: Annotated[UUID | None, typer.Option(help="An event of the log, of any environment.")] = None,
    payload: Annotated[
        Path | None, typer.Option(help='A file with a body, or with {"body": ..., "headers": ...}.')
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Evaluate mappings as a worker would, and show each parameter with its value or what is wrong. No action
    runs.

    Without an event, the latest of the type is taken, else the provider's example. Leaves with code 1 when
    there is no active mapping or not every one of them would run.

    Example: doorbell mappings test stripe invoice.paid
    """
    from app.commands.mapping_tests import run_test

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(
            run_test(
                client,
                source,
                event_type,
                environment,
                Console(),
                event_id=event_id,
                payload=payload,
                as_json=as_json,
            )
        )
