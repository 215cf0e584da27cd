"""`doorbell retention`: how long things are kept."""

from typing import Annotated

import typer
from rich.console import Console

from app.cli.management import management_client
from app.cli.options import AsJson, Token, Url
from app.core.settings import Settings

Days = Annotated[int | None, typer.Option(min=1, metavar="DAYS", help="Days to keep them from now on.")]


def retention(
    payloads: Days = None,
    logs: Days = None,
    workflow_runs: Days = None,
    messages: Days = None,
    bulk_operations: Days = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="All that is not given here back to its default.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show how long things are kept, or set it. It holds for all environments.

    Example: doorbell retention --payloads 7 --logs 90
    """
    from app.commands import retention as command
    from app.retention.periods import Kind

    given = {
        Kind.PAYLOADS: payloads,
        Kind.LOGS: logs,
        Kind.WORKFLOW_RUNS: workflow_runs,
        Kind.MESSAGES: messages,
        Kind.BULK_OPERATIONS: bulk_operations,
    }
    days = {kind: each for kind, each in given.items() if each is not None}
    with management_client(Settings(), url, token) as client:
        if days or reset:
            raise typer.Exit(command.change(client, days, Console(), reset=reset, as_json=as_json))
        raise typer.Exit(command.show(client, Console(), as_json=as_json))
