"""`doorbell send` and `doorbell listen`: events to a source, made here or passed on."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app.cli.completion import complete_event_type
from app.cli.options import Environment, Source, Wait
from app.core.settings import Settings

EventsAsJson = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each event.")]


def send(
    source: Source,
    event_type: Annotated[
        str | None,
        typer.Argument(
            help="Which of the provider's examples; the first with a mapping if not given.",
            autocompletion=complete_event_type,
        ),
    ] = None,
    environment: Environment = "development",
    payload: Annotated[
        Path | None, typer.Option(help="A file with a body of your own, sent as it is.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many events to send.")] = 1,
    as_json: EventsAsJson = False,
    wait: Wait = 30,
) -> None:
    """Send an event to a source as its vendor would, signed with the source's own secret, and show what
    became of it.

    Finds the `doorbell dev` of this directory, or the Doorbell that DOORBELL_DATABASE_URL and
    DOORBELL_SECRET_KEY name. Leaves with code 1 when an event was refused or failed.

    Example: doorbell send stripe invoice.paid
    """
    from app.cli.requests import Output
    from app.cli.requests import send as send_events

    good = asyncio.run(
        send_events(
            Settings(),
            source,
            event_type,
            environment=environment,
            payload=payload,
            count=count,
            output=Output(as_json, wait),
        )
    )
    raise typer.Exit(0 if good else 1)


def listen(
    source: Source,
    environment: Environment = "development",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port of this machine to listen on.")
    ] = 4242,
    record: Annotated[
        Path | None, typer.Option(help="Keep what arrives in this file, as JSON lines.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help='Send recorded requests, JSON lines {"headers", "body"}, and listen to nothing.'),
    ] = None,
    sign: Annotated[
        bool, typer.Option(help="Sign the recorded requests anew: their signatures expire.")
    ] = False,
    as_json: EventsAsJson = False,
    wait: Wait = 30,
) -> None:
    """Forward to a source, unchanged, what a vendor's own command line delivers here, and show what becomes
    of it.

    Example: doorbell listen stripe --port 4242, beside stripe listen --forward-to http://127.0.0.1:4242
    """
    from app.cli.listen import listen as listen_and_forward
    from app.cli.listen import replay_file
    from app.cli.requests import Output

    output = Output(as_json, wait)
    if file is not None:
        sending = replay_file(
            Settings(), source, environment=environment, path=file, sign=sign, output=output
        )
        raise typer.Exit(0 if asyncio.run(sending) else 1)
    asyncio.run(
        listen_and_forward(
            Settings(),
            source,
            environment=environment,
            port=port,
            record=record,
            output=output,
            on_ready=lambda url: typer.echo(
                f"Forwarding {url} to {source} in {environment}; Ctrl-C ends", err=True
            ),
        )
    )
