"""Commands that use the database itself: they find the `doorbell dev` of the directory, and say when it is
away."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


async def run(directory: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command, in a directory of its own and with no settings but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "arguments",
    [("db", "upgrade"), ("token", "create", "--name", "ci"), ("key", "create", "-e", "development")],
    ids=lambda arguments: arguments[0],
)
async def test_a_database_that_is_away_is_said_and_not_traced(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = await run(
        tmp_path,
        *arguments,
        DOORBELL_DATABASE_URL="postgresql://doorbell:secret@127.0.0.1:9/doorbell",
        DOORBELL_SECRET_KEY="k" * 32,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("doorbell: the database cannot be used")
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


async def test_without_a_doorbell_it_says_where_it_looked(tmp_path: Path) -> None:
    done = await run(tmp_path, "key", "create", "-e", "development")
    assert done.returncode == 2
    assert f"`doorbell dev` was never run on {tmp_path / '.doorbell'}" in done.stderr


async def test_a_key_is_made_where_the_settings_say(tmp_path: Path, database_url: str) -> None:
    settings = {"DOORBELL_DATABASE_URL": database_url, "DOORBELL_SECRET_KEY": "k" * 32}
    done = await run(tmp_path, "key", "create", "-e", "development", **settings)
    assert (done.returncode, done.stdout[:3]) == (0, "sk_"), done.stderr
    done = await run(tmp_path, "key", "create", "-e", "nowhere", **settings)
    assert done.returncode == 2
    assert "there are development, production" in done.stderr
