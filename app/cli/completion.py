"""What the shell offers on Tab: keys of sources, environments and event types, asked of the server, silent on
failure."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import typer

from app.cli.management import ManagementClient, management_client, source_path
from app.core.errors import CommandError
from app.core.settings import Settings

# Longer than a server nearby takes, shorter than people wait for a Tab.
TIMEOUT = 2.0


def complete_source(context: typer.Context, incomplete: str) -> list[str]:
    """The sources whose keys begin so."""
    return _asked(context, incomplete, lambda client: _each(client.get("/v1/sources"), "key"))


def complete_environment(context: typer.Context, incomplete: str) -> list[str]:
    """The environments whose slugs begin so."""
    return _asked(context, incomplete, lambda client: _each(client.get("/v1/environments"), "slug"))


def complete_event_type(context: typer.Context, incomplete: str) -> list[str]:
    """The event types that begin so, of those that the source received lately."""
    # Before an option whose value is being written, Click has the arguments as mere words.
    source = context.params.get("source") or next(iter(context.args), None)
    if not source:
        return []
    environment = context.params.get("environment")
    path = source_path(source, "events")
    return _asked(
        context, incomplete, lambda client: _each(client.get(path, environment=environment), "event")
    )


def _each(answer: Any, name: str) -> Iterator[str]:
    return (each[name] for each in answer["entries"])


def _asked(context: typer.Context, incomplete: str, ask: Any) -> list[str]:
    try:
        with _client(context) as client:
            return sorted(each for each in ask(client) if each.startswith(incomplete))
    except (CommandError, httpx.HTTPError, ValueError, KeyError, TypeError):
        # A shell has no place for an error here.
        return []


@contextmanager
def _client(context: typer.Context) -> Iterator[ManagementClient]:
    url, token = context.params.get("url"), context.params.get("token")
    with management_client(Settings(), url, token, timeout=TIMEOUT) as client:
        yield client
