"""`doorbell sources` and `doorbell events`: what sends, and which events came."""

from typing import Any

import typer
from rich.console import Console
from rich.progress import track

from app.cli.management import ManagementClient, source_path
from app.cli.options import AsJson, Connection, Environment, Source, grouped
from app.cli.printing import print_json, print_table, time_text


@grouped
def sources(
    environment: Environment = "development", as_json: AsJson = False, *, connection: Connection
) -> None:
    """Show all sources, how much they received in the last 30 days, and when last.

    Example: doorbell sources --environment production
    """
    with connection.client() as client:
        raise typer.Exit(list_sources(client, environment, Console(), as_json=as_json))


@grouped
def events(
    source: Source,
    environment: Environment = "development",
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Show the event types that a source received in the last 30 days.

    Example: doorbell events stripe
    """
    with connection.client() as client:
        raise typer.Exit(list_events(client, source, environment, Console(), as_json=as_json))


def list_sources(client: ManagementClient, environment: str, console: Console, *, as_json: bool) -> int:
    """Show every source with what it received in an environment; the exit code."""
    answer = client.get("/v1/sources", include="environment_settings", environment=environment)
    sources = answer["entries"]
    progress = Console(stderr=True)
    watched = track(
        sources, "Sources", console=progress, transient=True, disable=as_json or not progress.is_terminal
    )
    found = [_with_status(client, each, environment) for each in watched]
    if as_json:
        for each in found:
            print_json(console, each)
    elif not found:
        console.print("There is no source yet: make one with PUT /v1/sources/{key}, or `doorbell push`.")
    else:
        columns = ("source", "provider", "mappings", "events in 30 days", "last event")
        print_table(console, columns, [_row(each) for each in found])
    return 0


def list_events(
    client: ManagementClient, source: str, environment: str, console: Console, *, as_json: bool
) -> int:
    """Show the event types that a source received lately; the exit code."""
    found = client.get(source_path(source, "events"), environment=environment)["entries"]
    if as_json:
        for each in found:
            print_json(console, each)
    elif not found:
        console.print(
            f"{source} received nothing in {environment} in the last 30 days: try `doorbell send {source} -e "
            f"{environment}`",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    else:
        rows = [(each["event"], time_text(each["last_received_at"])) for each in found]
        print_table(console, ("event type", "last received"), rows)
    return 0


def _with_status(client: ManagementClient, source: dict[str, Any], environment: str) -> dict[str, Any]:
    """The source with its numbers, which are None where it is not set up in the environment."""
    is_there = environment in source["environment_settings"]
    status = client.get(source_path(source["key"], "status"), environment=environment) if is_there else {}
    numbers = ("mappings_count", "events_count", "last_event_received")
    return {
        **{name: source[name] for name in ("key", "name", "provider")},
        "environment": environment,
        **{name: status.get(name) for name in numbers},
    }


def _row(source: dict[str, Any]) -> tuple[str, ...]:
    if source["events_count"] is None:
        return source["key"], source["provider"], "-", "-", f"not set up in {source['environment']}"
    return (
        source["key"],
        source["provider"],
        str(source["mappings_count"]),
        str(source["events_count"]),
        time_text(source["last_event_received"]) or "never",
    )
