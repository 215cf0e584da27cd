"""Configuration as code: `doorbell pull`, `doorbell diff`, `doorbell push`."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from app.commands.management import CommandError, ManagementClient
from app.commands.source_files import SourceFile, from_answer, read_files, write_files

DIFFERENT = 1


@dataclass(frozen=True)
class Difference:
    """What a source is on the server (None: not there) and what its file says (None: there is no file)."""

    key: str
    server: SourceFile | None
    file: SourceFile | None

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


def pull(client: ManagementClient, directory: Path, console: Console) -> int:
    """Write the server's sources into the directory; the exit code."""
    for path in (changed := write_files(directory, list(_server_sources(client).values()))):
        console.print(f"{'wrote' if path.exists() else 'removed'} {path}", soft_wrap=True, highlight=False)
    if not changed:
        console.print("The files are what the server has.")
    return 0


def diff(client: ManagementClient, directory: Path, console: Console, *, check: bool) -> int:
    """Show what a push would change; the exit code, which says so when `check` is set."""
    differences = _compare(client, directory)
    _show(differences, console)
    return DIFFERENT if check and any(each.changes for each in differences) else 0


def push(client: ManagementClient, directory: Path, console: Console, *, confirmed: bool) -> int:
    """Show the plan, ask unless it is confirmed, and make the server what the files say; the exit code."""
    differences = _compare(client, directory)
    _show(differences, console)
    changes = [each for each in differences if each.changes]
    if not changes:
        return 0
    if not confirmed and not _agrees(console):
        console.print("Nothing was changed.")
        return DIFFERENT
    environment = client.get("/v1/environments")["entries"][0]["slug"]
    for each in changes:
        assert each.file is not None
        client.put(f"/v1/sources/{each.key}", each.file.request(), environment=environment)
        console.print(f"{'changed' if each.server else 'created'} {each.key}", highlight=False)
    return 0


def _server_sources(client: ManagementClient) -> dict[str, SourceFile]:
    answer = client.get("/v1/sources", include="environment_settings")
    return {source["key"]: from_answer(source) for source in answer["entries"]}


def _compare(client: ManagementClient, directory: Path) -> list[Difference]:
    """Every source of the files and of the server. Environments that a file leaves out are left alone."""
    files, server = read_files(directory), _server_sources(client)
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
        differences.append(Difference(key, there, file))
    return differences


def _show(differences: list[Difference], console: Console) -> None:
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


_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def _agrees(console: Console) -> bool:
    if not console.is_terminal:
        raise CommandError("there is nobody to ask: give --yes to change the server without asking")
    return console.input("Change the server so? [y/N] ").strip().lower() in ("y", "yes")


def _whole_text(file: SourceFile) -> str:
    """The file and its scripts, one under the other."""
    return file.text() + "".join(f"--- {name}\n{script}\n" for name, script in file.scripts().items())
