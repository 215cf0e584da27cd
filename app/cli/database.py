"""`doorbell db`: the database."""

import typer

from app.cli.options import AsJson
from app.core.errors import ConfigurationError
from app.core.settings import Settings

group = typer.Typer(help="The database.", no_args_is_help=True)


@group.command()
def upgrade(as_json: AsJson = False) -> None:
    """Bring the database to the newest schema. Safe to run again, and from several places at once.

    Example: doorbell db upgrade
    """
    from app.cli.printing import compact
    from app.cli.target import database_reached
    from app.database.engine import upgrade as upgrade_database

    settings = Settings()
    if settings.database_url is None:
        raise ConfigurationError("DOORBELL_DATABASE_URL is not set")
    with database_reached():
        upgrade_database(settings.database_url)
    typer.echo(compact({"status": "up_to_date"}) if as_json else "The database is up to date.")
