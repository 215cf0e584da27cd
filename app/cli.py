"""The command `doorbell`."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console

from app.commands.management import CommandError, management_client
from app.errors import ConfigurationError
from app.models.status import EventStatus, ReplayMappings
from app.process import leave
from app.settings import Settings

# Commands import what they need when they run: `doorbell --help` and `doorbell db` stay quick.
cli = typer.Typer(
    name="doorbell",
    help="Sources for Knock, self-hosted: receive events, verify them, run actions.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
database = typer.Typer(help="The database.", no_args_is_help=True)
token = typer.Typer(help="Service tokens, which open the Management API.", no_args_is_help=True)
key = typer.Typer(help="Secret keys, which open an environment's directory.", no_args_is_help=True)
secret = typer.Typer(help="Signing secrets of sources.", no_args_is_help=True)
mappings = typer.Typer(help="Mappings from event types to actions.", no_args_is_help=True)
cli.add_typer(database, name="db")
cli.add_typer(token, name="token")
cli.add_typer(key, name="key")
cli.add_typer(secret, name="secret")
cli.add_typer(mappings, name="mappings")

Environments = Annotated[
    list[str],
    typer.Option("--environment", "-e", help="An environment to serve; may be given several times."),
]


Url = Annotated[str | None, typer.Option(help="Another Doorbell than the one of the settings.")]
Token = Annotated[str | None, typer.Option(help="A service token; without it, the bootstrap token.")]
Directory = Annotated[Path, typer.Argument(help="The directory of the files.")]


@cli.command()
def dev() -> None:
    """Run everything on this machine: Postgres, Temporal with its UI, API, one worker for each environment.

    Example: doorbell dev
    """
    from app.stack.dev import run

    raise typer.Exit(run(Settings()))


@cli.command()
def api() -> None:
    """Run an API process: it receives events and serves the REST APIs.

    Example: doorbell api
    """
    import uvicorn

    from app.api.app import create_app
    from app.log import setup_logging

    settings = _production_settings()
    setup_logging(settings)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.graceful_shutdown.total_seconds()),
    )


@cli.command()
def worker(environment: Environments) -> None:
    """Run a worker process for one or several environments. The same as python worker.py.

    Example: doorbell worker --environment production
    """
    import uvloop

    from app.log import setup_logging
    from worker import serve

    settings = _production_settings()
    setup_logging(settings)
    uvloop.run(serve(settings, environment))


@database.command()
def upgrade() -> None:
    """Bring the database to the newest schema. Safe to run again, and from several places at once.

    Example: doorbell db upgrade
    """
    from app.commands.target import database_reached
    from app.database import upgrade as upgrade_database

    settings = Settings()
    if settings.database_url is None:
        raise ConfigurationError("DOORBELL_DATABASE_URL is not set")
    with database_reached():
        upgrade_database(settings.database_url)
    typer.echo("The database is up to date.")


@token.command("create")
def create_token(
    name: Annotated[str, typer.Option(help="What the token is for.")],
    scope: Annotated[str, typer.Option(help="read, write or admin.")] = "write",
) -> None:
    """Create a service token and print it, once.

    Example: doorbell token create --name ci --scope admin
    """
    from app.commands.target import database_reached, find_installation
    from app.tokens import issue_token

    with database_reached():
        typer.echo(asyncio.run(issue_token(find_installation(Settings()), name, scope)))


@key.command("create")
def create_key(
    environment: Annotated[str, typer.Option("--environment", "-e", help="Whose directory it opens.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "command line",
) -> None:
    """Create a secret key (sk_...) for an environment's directory and print it, once.

    Example: doorbell key create --environment development
    """
    from app.commands.target import database_reached, find_installation
    from app.tokens import issue_key

    with database_reached():
        typer.echo(asyncio.run(issue_key(find_installation(Settings()), environment, name)))


@cli.command()
def pull(directory: Directory, url: Url = None, token: Token = None) -> None:
    """Write the configuration of all sources into files: YAML, scripts beside it, no secrets.

    Example: doorbell pull doorbell-config
    """
    from app.commands import configuration

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(configuration.pull(client, directory, Console()))


@cli.command()
def diff(
    directory: Directory,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when something differs.")] = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show what `doorbell push` would change.

    Example: doorbell diff doorbell-config --check
    """
    from app.commands import configuration

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(configuration.diff(client, directory, Console(), check=check))


@cli.command()
def push(
    directory: Directory,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Make the server what the files say, after showing what changes. Sources without a file stay as they are.

    Example: doorbell push doorbell-config --yes
    """
    from app.commands import configuration

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(configuration.push(client, directory, Console(), confirmed=yes))


Source = Annotated[str, typer.Argument(help="The source's key.")]
Where = Annotated[str, typer.Option("--environment", "-e", help="The environment.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each event.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until an event is processed.")]


@cli.command()
def send(
    source: Source,
    event_type: Annotated[
        str | None,
        typer.Argument(help="Which of the provider's examples; the first with a mapping if not given."),
    ] = None,
    environment: Where = "development",
    payload: Annotated[
        Path | None, typer.Option(help="A file with a body of your own, sent as it is.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many events to send.")] = 1,
    as_json: AsJson = False,
    wait: Wait = 30,
) -> None:
    """Send an event to a source as its vendor would, signed with the source's own secret, and show what became of it.

    Finds the `doorbell dev` of this directory, or the Doorbell that DOORBELL_DATABASE_URL and DOORBELL_SECRET_KEY
    name. Leaves with code 1 when an event was refused or failed.

    Example: doorbell send stripe invoice.paid
    """
    from app.commands.send import Output
    from app.commands.send import send as send_events

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


@cli.command()
def listen(
    source: Source,
    environment: Where = "development",
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
    as_json: AsJson = False,
    wait: Wait = 30,
) -> None:
    """Forward to a source, unchanged, what a vendor's own command line delivers here, and show what becomes of it.

    Example: doorbell listen stripe --port 4242, beside stripe listen --forward-to http://127.0.0.1:4242
    """
    from app.commands.listen import listen as listen_and_forward
    from app.commands.listen import replay_file
    from app.commands.send import Output

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


LinesOfJson = Annotated[bool, typer.Option("--json", help="Print lines of JSON, for programs.")]


@secret.command("add")
def add_secret(
    source: Source,
    environment: Annotated[str, typer.Option("--environment", "-e", help="The environment.")],
    expire_others_in: Annotated[
        int | None,
        typer.Option(min=0, metavar="SECONDS", help="To rotate: for how long the others still verify."),
    ] = None,
    as_json: LinesOfJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Add a signing secret. It is asked for without being shown, or read from standard input when that is piped.

    Example: doorbell secret add stripe --environment production --expire-others-in 86400
    """
    from app.commands import signing_secrets

    with management_client(Settings(), url, token) as client:
        value = signing_secrets.read_value(lambda: typer.prompt("Signing secret", hide_input=True, err=True))
        code = signing_secrets.add(
            client,
            source,
            environment,
            value,
            Console(),
            expire_others_in=expire_others_in,
            as_json=as_json,
        )
    raise typer.Exit(code)


@secret.command("list")
def list_secrets(
    source: Source,
    environment: Where = "development",
    as_json: LinesOfJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the signing secrets of a source, newest first, without their values.

    Example: doorbell secret list stripe --environment production
    """
    from app.commands import signing_secrets

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(signing_secrets.list_all(client, source, environment, Console(), as_json=as_json))


@cli.command()
def sources(
    environment: Where = "development", as_json: LinesOfJson = False, url: Url = None, token: Token = None
) -> None:
    """Show all sources, how much they received in the last 30 days, and when last.

    Example: doorbell sources --environment production
    """
    from app.commands.sources import list_sources

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(list_sources(client, environment, Console(), as_json=as_json))


@cli.command()
def events(
    source: Source,
    environment: Where = "development",
    as_json: LinesOfJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the event types that a source received in the last 30 days.

    Example: doorbell events stripe
    """
    from app.commands.sources import list_events

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(list_events(client, source, environment, Console(), as_json=as_json))


@cli.command()
def logs(
    source: Source,
    environment: Where = "development",
    event: Annotated[str | None, typer.Option(help="Only this event type.")] = None,
    status: Annotated[EventStatus | None, typer.Option(help="Only this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of the latest.")] = 25,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then show those that come, until Ctrl-C.")
    ] = False,
    as_json: LinesOfJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show what a source received and what became of it: a line for each event, newest last, its actions below.

    Example: doorbell logs stripe --status failed --follow
    """
    from app.commands.logs import Wanted, follow_logs, show_logs

    wanted = Wanted(source, environment, event, status)
    with management_client(Settings(), url, token) as client:
        if follow:
            raise typer.Exit(follow_logs(client, wanted, limit, Console(), as_json=as_json))
        show_logs(client, wanted, limit, Console(), as_json=as_json)


@cli.command()
def replay(
    source: Source,
    event_id: Annotated[UUID, typer.Argument(help="The id of the event, from `doorbell logs`.")],
    mappings: Annotated[
        ReplayMappings,
        typer.Option(
            help="Map the event as configured now, or send the actions as they were evaluated then.",
        ),
    ] = ReplayMappings.CURRENT,
    wait: Wait = 30,
    as_json: LinesOfJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Run an event of the log again and show what became of it. Leaves with code 1 when it failed or is not over.

    Example: doorbell replay stripe 01a20df1-e8fc-72f9-a988-19f172a42afd --mappings original
    """
    from app.commands import logs

    with management_client(Settings(), url, token) as client:
        raise typer.Exit(
            logs.replay(client, source, event_id, Console(), mappings=mappings, wait=wait, as_json=as_json)
        )


@mappings.command("test")
def evaluate_mappings(
    source: Source,
    event_type: Annotated[str, typer.Argument(help="The event type whose mappings to test.")],
    environment: Where = "development",
    event_id: Annotated[UUID | None, typer.Option(help="An event of the log, of any environment.")] = None,
    payload: Annotated[
        Path | None, typer.Option(help='A file with a body, or with {"body": ..., "headers": ...}.')
    ] = None,
    as_json: LinesOfJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Evaluate mappings as a worker would, and show each parameter with its value or what is wrong. No action runs.

    Without an event, the latest of the type is taken, else the provider's example. Leaves with code 1 when there
    is no active mapping or not every one of them would run.

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


def _production_settings() -> Settings:
    settings = Settings()
    settings.require_production()
    return settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code; errors of configuration are said, not traced."""
    code = 0
    try:
        cli(args=None if arguments is None else list(arguments), standalone_mode=True)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except (ConfigurationError, CommandError) as error:
        print(f"doorbell: {error}", file=sys.stderr)  # noqa: T201
        code = 2
    except ValidationError as error:
        for each in error.errors():
            name = "_".join(str(part) for part in each["loc"]).upper()
            print(f"doorbell: DOORBELL_{name}: {each['msg']}", file=sys.stderr)  # noqa: T201
        code = 2
    leave(code)


if __name__ == "__main__":
    main()
