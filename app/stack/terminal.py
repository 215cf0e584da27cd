"""What people see of `doorbell dev`: whole lines, each with who says it, in tidy columns."""

import os
from threading import Lock
from typing import IO

from rich.console import Console, RenderableType
from rich.text import Text

_STYLES = ("cyan", "magenta", "green", "yellow", "blue")


class _Console(Console):
    """A console whose reader may go away. Rich would end the process then, or the thread that happened to
    print."""

    def on_broken_pipe(self) -> None:
        self.turn_away()

    def turn_away(self) -> None:
        """Show nothing from now on. What is still buffered goes nowhere, instead of failing at the next
        flush."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


class Terminal:
    """The terminal, shared by everyone who writes to it."""

    def __init__(self, file: IO[str] | None = None, *, width: int | None = None) -> None:
        self._console = _Console(file=file, width=width, highlight=False)
        self._lock = Lock()
        self._styles: dict[str, str] = {}

    @property
    def console(self) -> Console:
        """For those who print more than a line."""
        return self._console

    def introduce(self, name: str) -> None:
        """Make room for the lines of one more process."""
        self._styles[name] = _STYLES[len(self._styles) % len(_STYLES)]

    def line(self, name: str, line: str) -> None:
        """A line that a process wrote."""
        width = max(map(len, self._styles), default=0)
        self._print(Text.assemble((f"{name:<{width}} | ", self._styles.get(name, "")), line))

    def say(self, words: RenderableType, style: str | None = None) -> None:
        """Something that we say ourselves."""
        self._print(words, style)

    def _print(self, content: RenderableType, style: str | None = None) -> None:
        with self._lock:
            try:
                self._console.print(content, style=style, soft_wrap=True, markup=False)
            except OSError:
                self._console.turn_away()
