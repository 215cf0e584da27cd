"""`doorbell retry`: an event whose actions are tried again, now or never."""

from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from app.cli.logs import WantedEntries
from app.cli.options import Connection, Environment, Source, grouped


@grouped
def retry(
    source: Source,
    event_id: Annotated[UUID, typer.Argument(help="The id of an event that is being processed.")],
    environment: Environment = "development",
    give_up: Annotated[
        bool, typer.Option("--give-up", help="Try it no more: the event ends as failed.")
    ] = False,
    *,
    connection: Connection,
) -> None:
    """Try the actions of an event now that wait for their next attempt, or give up on them.

    Example: doorbell retry stripe 01a20fe0-bd5c-7a1e-9c0d-5f6f2b1a7c33
    """
    path = WantedEntries(source, environment).path(str(event_id))
    with connection.client() as client:
        client.post(f"{path}/{'give_up' if give_up else 'try_now'}", {})
    said = "The event ends as failed." if give_up else "The actions that wait are tried now."
    Console().print(f"{said} `doorbell logs {source} -e {environment}` will tell.", soft_wrap=True)
