"""What was measured: samples by name, their medians and ratios, as a table and as JSON."""

import json
import os
import platform
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

CPU_OF_ALL = "CPU of all, ms an event"
CPU_OF_EMPTY = "CPU of all, ms an empty workflow"
CPU_OBSERVED = "CPU of API and worker, ms an event, with "
# Numerator, denominator, target.
RATIOS = (
    ("accept at 64 connections, /s", "nothing at 64 connections, /s", "≥ 0.30"),
    ("accept at 64 connections, /s", "insert at 64 connections, /s", ""),
    ("processed, /s", "empty workflows, /s", "≥ 0.60"),
    (CPU_OF_EMPTY, CPU_OF_ALL, ""),
    (f"{CPU_OBSERVED}metrics", f"{CPU_OBSERVED}nothing", ""),
    (f"{CPU_OBSERVED}metrics and traces", f"{CPU_OBSERVED}nothing", ""),
    ("accept with events stored, /s", "accept with none stored, /s", "≥ 0.95"),
    ("claim with events stored, ms", "claim with none stored, ms", ""),
    ("processed by two workers, /s", "processed by one worker, /s", ""),
    ("accepted by two API processes, /s", "accepted by one API process, /s", ""),
)


@dataclass
class Figures:
    """Samples by name, in the order in which they were first taken."""

    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float) -> None:
        self.samples[name].append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratios(self) -> list[tuple[str, float, float, float, str]]:
        """Of each pair that was measured: median, lowest and highest over the rounds, target."""
        found = []
        for above, below, target in RATIOS:
            if above in self.samples and below in self.samples:
                each = [a / b for a, b in zip(self.samples[above], self.samples[below], strict=False)]
                found.append((f"{above} / {below}", statistics.median(each), min(each), max(each), target))
        return found

    def show(self, console: Console) -> None:
        table = Table("figure", "median", "lowest", "highest", title=machine(), title_justify="left")
        for name, values in self.samples.items():
            table.add_row(name, *(f"{each:,.2f}" for each in (self.median(name), min(values), max(values))))
        console.print(table)
        ratios = Table("ratio, round by round", "median", "lowest", "highest", "target")
        for name, median, lowest, highest, target in self.ratios():
            ratios.add_row(name, f"{median:.2f}", f"{lowest:.2f}", f"{highest:.2f}", target)
        console.print(ratios)

    def write(self, path: Path) -> None:
        ratios = {name: median for name, median, *_ in self.ratios()}
        path.write_text(
            json.dumps({"machine": machine(), "samples": self.samples, "ratios": ratios}, indent=2) + "\n"
        )


def machine() -> str:
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.machine()}, {python}, {platform.system()}"
