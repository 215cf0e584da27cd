"""What the command line leaves unloaded until something needs it: start-up time and memory."""

import subprocess
import sys

import pytest

WORK = {"psycopg", "sqlalchemy", "starlette", "temporalio", "uvicorn", "yaml"}
TERMINAL = {"httpx", "rich", "typer"}


@pytest.mark.parametrize(
    ("module", "unloaded"),
    [("app.cli.commands", WORK), ("app.cli.main", WORK | TERMINAL)],
    ids=["help", "processes that serve"],
)
def test_libraries_wait_until_they_are_needed(module: str, unloaded: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60).split()
    assert unloaded & {*loaded} == set()
