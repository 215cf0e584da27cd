"""`doorbell pull`, `doorbell diff`, `doorbell push`: the configuration as files."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.text import Text

from app.cli.management import ManagementClient, source_path
from app.cli.options import AsJson, Connection, Yes, grouped
from app.cli.printing import agrees, print_json, print_line
from app.cli.source_files import FOLDER, SourceFile, from_answer, plan_files, read_files, write_files
from app.core.errors import CommandError

Directory = Annotated[Path, typer.Argument(help="The directory of the files.")]

DIFFERENT = 1
_STYLES = {"+": "green", "-": "red", "@": "cyan"}


@grouped
def pull(
    directory: Directory,
    yes: Yes = False,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Write the configuration of all sources into files: YAML, scripts beside it, no secrets.

    Asks before it writes over files that differ, and before it removes those of sources and scripts that the
    server does not have.

    Example: doorbell pull doorbell-config
    """
    with connection.client() as client:
        raise typer.Exit(pull_sources(client, directory, Console(), confirmed=yes, as_json=as_json))


@grouped
def diff(
    directory: Directory,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when something differs.")] = False,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Show what `doorbell push` would change.

    Example: doorbell diff doorbell-config --check
    """
    with connection.client() as client:
        raise typer.Exit(diff_sources(client, directory, Console(), check=check, as_json=as_json))


@grouped
def push(
    directory: Directory,
    yes: Yes = False,
    as_json: AsJson = False,
    *,
    connection: Connection,
) -> None:
    """Make the server what the files say, after showing what changes. Sources without a file stay as they
    are.

    Example: doorbell push doorbell-config --yes
    """
    with connection.client() as client:
        raise typer.Exit(push_sources(client, directory, Console(), confirmed=yes, as_json=as_json))


@dataclass(frozen=True)
class FileDifference:
    """What a source is on the server (None: not there) and what its file says (None: there is no file), in
    the environments that the token opens; `unseen` are the others of the file."""

    key: str
    server: SourceFile | None
    file: SourceFile | None
    unseen: list[str]

    @property
    def changes(self) -> bool:
        """Whether a push changes something. A source without a file is left alone."""
        if self.file is None:
            return False
        return self.server is None or not self.server.says_the_same_as(self.file)

    def lines(self) -> Iterator[str]:
        """The difference as people read it."""
        before = _whole_text(self.server) if self.server else ""
        after = _whole_text(self.file) if self.file else ""
        yield from difflib.unified_diff(
            before.splitlines(),
            after.splitlines(),
            f"server/{self.key}",
            f"files/{self.key}",
            lineterm="",
            n=2,
        )


def pull_sources(
    client: ManagementClient, directory: Path, console: Console, *, confirmed: bool, as_json: bool = False
) -> int:
    """Write the server's sources into the directory, and ask before what is there is changed unless it is
    confirmed; the exit code."""
    sources = _pulled(client, directory)
    try:
        plan = plan_files(directory, sources)
        replaced = {path: content for path, content in plan.items() if path.exists()}
        if replaced and not confirmed:
            for path, content in replaced.items():
                _say(
                    console, path, "would remove" if content is None else "would write over", as_json=as_json
                )
            if not agrees(console, "Change these files so?"):
                console.print("Nothing was changed.")
                return DIFFERENT
        write_files(directory, plan)
    except OSError as error:
        raise CommandError(f"cannot write {error.filename}: {error.strerror}") from None
    for path, content in plan.items():
        _say(console, path, "removed" if content is None else "wrote", as_json=as_json)
    if not plan and not as_json:
        console.print("The files are what the server has.")
    return 0


def _pulled(client: ManagementClient, directory: Path) -> list[SourceFile]:
    """The server's sources, with what their files say of environments that the token does not open."""
    sources = list(_server_sources(client).values())
    opened = _opened_environments(client)
    if opened is None or not list((directory / FOLDER).glob("*.yaml")):
        return sources
    files = read_files(directory)
    return [each.beside(files[each.key], opened) if each.key in files else each for each in sources]


def _opened_environments(client: ManagementClient) -> list[str] | None:
    """The environments that the token opens; None is all."""
    opened: list[str] | None = client.get("/v1/whoami")["service_token_environments"]
    return opened


def _say(console: Console, path: Path, change: str, *, as_json: bool) -> None:
    if as_json:
        print_json(console, {"path": str(path), "change": change})
    else:
        console.print(f"{change} {path}", soft_wrap=True, highlight=False)


def diff_sources(
    client: ManagementClient, directory: Path, console: Console, *, check: bool, as_json: bool = False
) -> int:
    """Show what a push would change; the exit code, which says so when `check` is set."""
    differences = _compare(client, directory)
    _show(differences, console, as_json=as_json)
    return DIFFERENT if check and any(each.changes for each in differences) else 0


def push_sources(
    client: ManagementClient, directory: Path, console: Console, *, confirmed: bool, as_json: bool = False
) -> int:
    """Show the plan, ask unless it is confirmed, and make the server what the files say; the exit code."""
    differences = _compare(client, directory)
    _show(differences, console, as_json=as_json)
    changes = [each for each in differences if each.changes]
    if not changes:
        return 0
    if not confirmed and not agrees(console, "Change the server so?"):
        console.print("Nothing was changed.")
        return DIFFERENT
    progress = Console(stderr=True)
    environment = client.get("/v1/environments")["entries"][0]["slug"]
    for each in track(changes, "Sources", console=progress, transient=True, disable=not progress.is_terminal):
        assert each.file is not None
        try:
            saved = client.put(source_path(each.key), each.file.request(), environment=environment)
        except CommandError as error:
            raise type(error)(f"{directory / FOLDER / each.key}.yaml: {error}") from None
        if not as_json:
            console.print(f"{'changed' if each.server else 'created'} {each.key}", highlight=False)
            for warning in saved.get("warnings", []):
                print_line(console, Text("warning", style="yellow"), warning)
    return 0


def _server_sources(client: ManagementClient) -> dict[str, SourceFile]:
    answer = client.get("/v1/sources", include="environment_settings")
    return {source["key"]: from_answer(source) for source in answer["entries"]}


def _compare(client: ManagementClient, directory: Path) -> list[FileDifference]:
    """Every source of the files and of the server. Environments that a file leaves out are left alone."""
    files, server = read_files(directory), _server_sources(client)
    opened = _opened_environments(client)
    differences = []
    for key in sorted(files.keys() | server.keys()):
        file, there = files.get(key), server.get(key)
        if file and there:
            if file.content["provider"] != there.content["provider"]:
                raise CommandError(
                    f"source {key} is of provider {there.content['provider']}, its file says "
                    f"{file.content['provider']}. A source keeps its provider: choose another key"
                )
            there = there.limited_to(file)
        unseen = []
        if file and opened is not None:
            unseen = [slug for slug in file.content["environments"] if slug not in opened]
            file = file.within(opened)
        differences.append(FileDifference(key, there, file, unseen))
    return differences


def _show(differences: list[FileDifference], console: Console, *, as_json: bool) -> None:
    if as_json:
        for each in differences:
            change = "none" if not each.changes else "change" if each.server else "create"
            lines = list(each.lines()) if each.changes else []
            found = {"source": each.key, "change": change, "diff": lines, "not_looked_at": each.unseen}
            print_json(console, found)
        return
    if unseen := sorted({slug for each in differences for slug in each.unseen}):
        console.print(
            f"not looked at, the token does not open them: {', '.join(unseen)}",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for each in differences:
        if each.file is None:
            console.print(f"{each.key}: only on the server, left as it is", style="dim", highlight=False)
        elif each.changes:
            console.print(
                f"{each.key}: {'changes' if each.server else 'is new'}", style="bold", highlight=False
            )
            for line in each.lines():
                console.print(Text(line, style=_STYLES.get(line[:1], "")), soft_wrap=True)
    changed = sum(each.changes for each in differences)
    console.print(f"{changed} of {len(differences)} sources differ." if changed else "No source differs.")


def _whole_text(file: SourceFile) -> str:
    """The file and its scripts, one under the other."""
    return file.text() + "".join(f"--- {name}\n{script}\n" for name, script in file.scripts().items())
