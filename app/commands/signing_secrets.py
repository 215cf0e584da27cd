"""`doorbell secret`: the signing secrets of a source. Values come from a prompt or a pipe, never from an
argument."""

import sys
from collections.abc import Callable

from rich.console import Console

from app.cli.management import ManagementClient, source_path
from app.cli.printing import print_json, print_table, time_text
from app.core.errors import CommandError


def read_value(prompt: Callable[[], str]) -> str:
    """The secret: asked for where there is a person, else all of standard input but the end of its last line.

    Raises:
        CommandError: there is none.
    """
    value = prompt() if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise CommandError(
            "standard input has no secret: pipe it, as in `pass show stripe | doorbell secret add ...`, or "
            "run this in a terminal to be asked"
        )
    return value


def add(
    client: ManagementClient,
    source: str,
    environment: str,
    value: str,
    console: Console,
    *,
    expire_others_in: int | None,
    as_json: bool,
) -> int:
    """Add a secret; the exit code."""
    secret = {"value": value, "expire_others_in_seconds": expire_others_in}
    path = source_path(source, "secrets")
    added = client.post(path, {"secret": secret}, environment=environment)["secret"]
    if as_json:
        print_json(console, added)
        return 0
    console.print(
        f"Added secret {added['id']} to {source} in {environment}.", highlight=False, soft_wrap=True
    )
    if expire_others_in is not None:
        console.print(f"The others verify for {expire_others_in} seconds still.", highlight=False)
    return 0


def list_all(
    client: ManagementClient, source: str, environment: str, console: Console, *, as_json: bool
) -> int:
    """Show the secrets without their values; the exit code."""
    found = client.get(source_path(source, "secrets"), environment=environment)["entries"]
    if as_json:
        for each in found:
            print_json(console, each)
        return 0
    if not found:
        console.print(
            f"{source} has no signing secret in {environment}: `doorbell secret add {source} -e "
            f"{environment}`",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return 0
    rows = [
        (
            each["id"],
            time_text(each["created_at"]),
            time_text(each["expires_at"]) or "never",
            time_text(each["last_matched_at"]) or "never",
        )
        for each in found
    ]
    print_table(console, ("secret", "created", "expires", "last matched"), rows, whole="secret")
    return 0
