"""Processes of a test, and the table that the fault suite prints at the end; `docs/reliability.md` shows
one."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.core.settings import Settings
from app.stack import ports
from tests.conftest import ADMIN_TOKEN
from tests.faults.cluster import Process

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


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables of a process with the settings of the test."""
    assert settings.database_url is not None
    assert settings.temporal_address is not None
    assert settings.secret_key is not None
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")},
        "DOORBELL_DATABASE_URL": settings.database_url,
        "DOORBELL_TEMPORAL_ADDRESS": settings.temporal_address,
        "DOORBELL_SECRET_KEY": settings.secret_key.get_secret_value(),
        "DOORBELL_ADMIN_TOKEN": ADMIN_TOKEN,
        "DOORBELL_HOST": "127.0.0.1",
        "DOORBELL_SHUTDOWN_NOTICE": "PT1S",
    }


StartProcess = Callable[..., Process]


@pytest.fixture
def start_process(settings: Settings, tmp_path: Path) -> Iterator[StartProcess]:
    """Starts `doorbell` with these arguments as a process of the test's database; killed at the end."""
    started: list[Process] = []

    def start(*arguments: str, port_of: str = "DOORBELL_PORT") -> Process:
        [port] = ports.find_free("127.0.0.1", 1)
        name = f"{arguments[0]}-{len(started)}"
        environment = {**environment_of(settings), port_of: str(port)}
        command = [sys.executable, "-m", "app.cli", *arguments]
        process = Process(name, command, environment, port, tmp_path / f"{name}.log")
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
