"""Knock's own clients behind one interface, so that the same tests run with both.

A method is named as in Python (`users.bulk.identify`); its positional arguments are those of the path, in
both clients, and the others are the body or query.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import knockapi
import orjson
from knockapi import AsyncKnock
from pydantic import BaseModel

from tests.node import Node

ANSWER_DEADLINE = 60


class Refused(Exception):
    """The directory answered with an error."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class Client(Protocol):
    """One of Knock's clients."""

    async def call(self, method: str, *path: str, **parameters: Any) -> Any:
        """What a method returns, as plain data.

        Raises:
            Refused: the directory answered with an error.
        """
        ...

    async def collect(self, method: str, *path: str, **parameters: Any) -> list[Any]:
        """All items of a list, page after page as the client itself goes through them."""
        ...


class PythonClient:
    """`knockapi`, the asynchronous one."""

    def __init__(self, knock: AsyncKnock) -> None:
        self._knock = knock

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, key: str) -> AsyncIterator["PythonClient"]:
        async with AsyncKnock(api_key=key, base_url=url, max_retries=0) as knock:
            yield cls(knock)

    async def call(self, method: str, *path: str, **parameters: Any) -> Any:
        try:
            return _plain(await self._method(method)(*path, **_known(parameters)))
        except knockapi.APIStatusError as error:
            raise Refused(error.status_code, error.body) from None

    async def collect(self, method: str, *path: str, **parameters: Any) -> list[Any]:
        return [_plain(item) async for item in self._method(method)(*path, **parameters)]

    def _method(self, name: str) -> Any:
        found: Any = self._knock
        for part in name.split("."):
            found = getattr(found, part)
        return found


class JavaScriptClient:
    """`@knocklabs/node`, in a process that reads calls and writes answers, one a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def connected(cls, node: Node, url: str, key: str) -> AsyncIterator["JavaScriptClient"]:
        async with node.started(Path("client.js"), url, key) as process:
            yield cls(process)

    async def call(self, method: str, *path: str, **parameters: Any) -> Any:
        return await self._ask({"method": method, "path": path, "parameters": parameters})

    async def collect(self, method: str, *path: str, **parameters: Any) -> list[Any]:
        found = await self._ask({"method": method, "path": path, "parameters": parameters, "collect": True})
        assert isinstance(found, list)
        return found

    async def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(question) + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_DEADLINE)
        assert line, "the JavaScript process ended"
        answer = orjson.loads(line)
        if "refused" in answer:
            raise Refused(answer["refused"]["status"], answer["refused"]["body"])
        assert "failed" not in answer, answer["failed"]
        return answer.get("result")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _known(parameters: dict[str, Any]) -> dict[str, Any]:
    """Custom properties are not parameters of Python's client: they are given as `custom`."""
    custom = parameters.get("custom")
    known = {name: value for name, value in parameters.items() if name != "custom"}
    return known if custom is None else {**known, "extra_body": custom}
