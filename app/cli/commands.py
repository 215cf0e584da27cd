"""The command `doorbell`: which commands there are, in the order of its help.

Each module beside this one holds the commands of one subject and their work. Commands import what is heavy
when they run: `doorbell --help` and `doorbell db` stay quick.
"""

import typer

from app.cli import (
    configuration,
    credentials,
    database,
    deliveries,
    doctor,
    erasures,
    key_rotation,
    logs,
    mappings,
    processes,
    replays,
    retention,
    retries,
    signing_secrets,
    sources,
    statistics,
)

cli = typer.Typer(
    name="doorbell",
    help="Sources for Knock, self-hosted: receive events, verify them, run actions.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
for command in (
    processes.dev,
    processes.api,
    processes.worker,
    credentials.login,
    configuration.pull,
    configuration.diff,
    configuration.push,
    deliveries.send,
    deliveries.listen,
    sources.sources,
    sources.events,
    doctor.doctor,
    statistics.stats,
    logs.logs,
    replays.replay,
    retries.retry,
    retention.retention,
):
    cli.command()(command)
cli.add_typer(database.group, name="db")
cli.add_typer(credentials.tokens, name="token")
cli.add_typer(credentials.keys, name="key")
cli.add_typer(signing_secrets.group, name="secret")
cli.add_typer(key_rotation.group, name="secrets")
cli.add_typer(mappings.group, name="mappings")
cli.add_typer(erasures.group, name="erase")
