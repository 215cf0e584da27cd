"""`doorbell mappings`: mappings from event types to actions."""

import json
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from app.cli.completion import complete_event_type
from app.cli.management import ManagementClient, source_path
from app.cli.options import AsJson, Connection, Environment, Source, grouped
from app.cli.printing import compact, plain, print_json, print_table, shortened, status_text
from app.core.errors import CommandError

group = typer.Typer(help="Mappings from event types to actions.", no_args_is_help=True)

NOT_ALL_RUN = 1
_ORIGINS = {"payload": "your payload", "received": "a received event", "example": "the provider's example"}


@group.command("test")
@grouped
def evaluate_mappings(
    source: Source,
    event_type: Annotated[
        str,
        typer.Argument(help="The event type whose mappings to test.", autocompletion=complete_event_type),
    ],
    environment: Environment = "development",
    event_id: Annotated[UUID | None, typer.Option(help="An event of the log, of any environment.")] = None,
    payload: Annotated[
        Path | None, typer.Option(help='A file with a body, or with {"body": ..., "headers": ...}.')
    ] = None,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Evaluate mappings as a worker would, and show each parameter with its value or what is wrong. No action
    runs.

    Without an event, the latest of the type is taken, else the provider's example. Leaves with code 1 when
    no active mapping would run, or one would not for another reason than its conditions.

    Example: doorbell mappings test stripe invoice.paid
    """
    with connection.client() as client:
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


def run_test(
    client: ManagementClient,
    source: str,
    event_type: str,
    environment: str,
    console: Console,
    *,
    event_id: UUID | None,
    payload: Path | None,
    as_json: bool,
) -> int:
    """Test the mappings and show the result; the exit code, which says whether the active ones would run.

    Raises:
        CommandError: the payload cannot be read, or the server refuses.
    """
    if event_id is not None and payload is not None:
        raise CommandError("--event-id and --payload are two different events: give one of them")
    asked: dict[str, Any] = {"event_type": event_type}
    if payload is not None:
        asked["payload"] = read_payload(payload)
    if event_id is not None:
        asked["log_id"] = str(event_id)
    result = client.post(source_path(source, "mappings", "test"), asked, environment=environment)
    if as_json:
        print_json(console, result)
    else:
        _show(result, console)
        if not result["mappings"]:
            _show_mapped_types(client, source, environment, event_type, console)
    active = [each for each in result["mappings"] if each["active"]]
    runs = any(each["status"] == "runs" for each in active)
    return 0 if runs and all(each["status"] == "runs" or not each["met"] for each in active) else NOT_ALL_RUN


def read_payload(path: Path) -> dict[str, Any]:
    """The event in a file: `{"body": ..., "headers": ...}`, like a line of `doorbell listen --record`, or a
    body alone.

    Raises:
        CommandError: it cannot be read, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CommandError(f"{path} is JSON but not an object: an event is {{...}}")
    is_delivery = "body" in content and content.keys() <= {"body", "headers"}
    return content if is_delivery else {"body": content}


def _show(result: dict[str, Any], console: Console) -> None:
    identified = result["identified_as"]
    about = f"On {_ORIGINS[result['origin']]}" + (f", {result['log_id']}" if result["log_id"] else "")
    console.print(about, highlight=False, soft_wrap=True)
    if result["error"]:
        console.print(Text("  ") + plain(result["error"]), style="red", soft_wrap=True)
    if identified != result["event_type"]:
        is_one = f"is of type {identified}" if identified else "has no event type"
        warning = (
            f"  This event {is_one}: a worker would not run the mappings of {result['event_type']} on it."
        )
        console.print(plain(warning), style="yellow", soft_wrap=True)
    for mapping in result["mappings"]:
        console.print()
        inactive = [] if mapping["active"] else [Text("(inactive)", style="dim")]
        line = [Text(mapping["action_type"], style="bold"), status_text(mapping["status"]), *inactive]
        console.print(Text("  ").join(line))
        if not mapping["met"]:
            why = mapping["error"].partition(": ")[2]
            console.print(plain(f"  would run: no, because {why}"), style="yellow", soft_wrap=True)
        rows = [_row(each) for each in mapping["parameters"]]
        print_table(console, ("  parameter", "template", "value"), rows)


def _row(parameter: dict[str, Any]) -> tuple[str | Text, ...]:
    template = parameter["template"]
    written = "" if template is None else template if isinstance(template, str) else compact(template)
    if parameter["error"] is not None:
        value = plain(parameter["error"])
        value.stylize("red")
    elif parameter["has_value"]:
        value = plain(shortened(compact(parameter["value"])))
    else:
        value = Text("no value, left out", style="dim")
    return f"  {parameter['name']}", written, value


def _show_mapped_types(
    client: ManagementClient, source: str, environment: str, event_type: str, console: Console
) -> None:
    mappings = client.get(source_path(source, "mappings"), environment=environment)["entries"]
    mapped = ", ".join(sorted({each["event_type"] for each in mappings})) or "no event type at all"
    message = f"{source} maps no {event_type} in {environment}; it maps {mapped}"
    console.print(plain(message), highlight=False, soft_wrap=True)
