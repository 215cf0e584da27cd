"""Node.js for the tests that run vendors' own JavaScript clients: the interpreter of the development
requirements, and the packages of tests/js, installed from its lock file once a checkout."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from web.node import install_packages, wheel_node, wheel_npm

PROJECT = Path(__file__).parent / "js"

INTERPRETER = wheel_node()

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
    install_packages(PROJECT, wheel_npm())
    return Node()
