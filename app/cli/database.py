"""`doorbell db`: the database."""

from datetime import timedelta
from typing import Annotated

import typer

from app.cli.options import AsJson
from app.core.errors import ConfigurationError
from app.core.settings import Settings

group = typer.Typer(help="The database.", no_args_is_help=True)

Patience = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How long a migration is tried again while others use its tables.",
    ),
]


@group.command()
def upgrade(wait: Patience = 300, as_json: AsJson = False) -> None:
    """Bring the database to the newest schema. Safe to run again, and from several places at once.

    Example: doorbell db upgrade
    """
    from app.cli.printing import compact
    from app.cli.target import database_reached
    from app.database.engine import upgrade as upgrade_database

    url = _database_url()
    with database_reached():
        upgrade_database(url, timedelta(seconds=wait))
    typer.echo(compact({"status": "up_to_date"}) if as_json else "The database is up to date.")


@group.command()
def downgrade(
    revision: Annotated[
        str, typer.Argument(help="The last migration that stays: the newest of the earlier version.")
    ],
    wait: Patience = 300,
    as_json: AsJson = False,
) -> None:
    """Take migrations back, to run an earlier version again. Deletes what only the later version stores.

    Stop the processes of the later version first.

    Example: doorbell db downgrade 0023
    """
    from app.cli.printing import compact
    from app.cli.target import database_reached
    from app.database.engine import downgrade as downgrade_database

    url = _database_url()
    with database_reached():
        downgrade_database(url, revision, timedelta(seconds=wait))
    said = f"The database is at revision {revision}."
    typer.echo(compact({"status": "downgraded", "revision": revision}) if as_json else said)


def _database_url() -> str:
    settings = Settings()
    if settings.database_url is None:
        raise ConfigurationError("DOORBELL_DATABASE_URL is not set")
    return settings.database_url
