"""What `doorbell doctor` looks for, and how it shows it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from app.actions.parameters import check_parameters
from app.actions.paths import PathError
from app.actions.registry import action_types
from app.actions.spelling import check_path
from app.cli.management import ManagementClient
from app.cli.printing import print_json, print_table

FOUND = 1
_PATHS = ("event_type_path", "idempotency_key_path", "timestamp_path", "ordering_key_path")


@dataclass(frozen=True)
class Finding:
    """Something that cannot work. `place`: the setting, or the mapping's event type, action and parameter."""

    source: str
    environment: str
    place: str
    problem: str


def examine(client: ManagementClient, console: Console, *, as_json: bool) -> int:
    """Look at all sources in all environments that the token opens, and show what is wrong; the exit code."""
    sources = client.get("/v1/sources", include="environment_settings")["entries"]
    found = [finding for each in sources for finding in _findings(each)]
    if as_json:
        for finding in found:
            print_json(console, asdict(finding))
    elif found:
        rows = [(each.source, each.environment, each.place, each.problem) for each in found]
        print_table(console, ("source", "environment", "where", "problem"), rows)
    else:
        console.print(f"No problems in {len(sources)} sources.", highlight=False)
    return FOUND if found else 0


def _findings(source: dict[str, Any]) -> Iterator[Finding]:
    for environment, configured in source["environment_settings"].items():
        for name in _PATHS:
            if problem := _problem(configured["settings"].get(name)):
                yield Finding(source["key"], environment, name, problem)
        for mapping in configured["mappings"]:
            action = action_types().get(mapping["action_type"])
            errors = check_parameters(action, mapping["action_parameters"] or {}, "") if action else []
            for error in errors:
                place = f"{mapping['event_type']} {mapping['action_type']}{error.field}"
                yield Finding(source["key"], environment, place, error.message)


def _problem(path: str | None) -> str | None:
    try:
        if path is not None:
            check_path(path)
    except PathError as error:
        return str(error)
    return None
