"""`doorbell dev`, `doorbell api`, `doorbell worker`: processes of Doorbell."""

from typing import Annotated

import typer

from app.cli import serving
from app.cli.completion import complete_environment
from app.core.settings import Settings

Environments = Annotated[
    list[str],
    typer.Option(
        "--environment",
        "-e",
        help="An environment to serve; may be given several times.",
        autocompletion=complete_environment,
    ),
]


def dev() -> None:
    """Run everything on this machine: Postgres, Temporal with its UI, API, one worker for each environment.

    Example: doorbell dev
    """
    from app.stack.dev import run

    raise typer.Exit(run(Settings()))


def api() -> None:
    """Run an API process: it receives events and serves the REST APIs.

    Example: doorbell api
    """
    serving.api()


def worker(environment: Environments) -> None:
    """Run a worker process for one or several environments. The same as python worker.py.

    Example: doorbell worker --environment production
    """
    serving.worker(environment)
