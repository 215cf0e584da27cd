"""The table that the fault suite prints at the end; `docs/reliability.md` shows one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.test_faults import Row

ROWS = pytest.StashKey[list["Row"]]()


@pytest.fixture
def record_fault(request: pytest.FixtureRequest) -> Callable[["Row"], None]:
    """Adds a line to the table."""
    return request.config.stash.setdefault(ROWS, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.line("| fault | accepted | refused | lost | doubled | recovery |")
    terminalreporter.line("| --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        fault = row.fault.replace("_", " ")
        terminalreporter.line(
            f"| {fault} | {row.accepted} | {row.refused} | {row.lost} | {row.doubled} | {row.recovery:.1f} s "
            "|"
        )
