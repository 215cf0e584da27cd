"""Where actions run: Knock, something that speaks its API, or the embedded directory in this process.

One client for each destination, kept for the life of the process.
"""

from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.core.errors import Permanent
from app.sources.live import Configuration, Destination

if TYPE_CHECKING:
    from knockapi import AsyncKnock

    Knock = AsyncKnock
else:
    # Knock's client brings httpx and aiohttp: 12 MB, which an API process that receives events does without.
    Knock = object

MAXIMUM_ERROR_LENGTH = 2000


class Refused(Permanent):
    """The destination said no. The text is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Directory(Protocol):
    """The embedded directory: an application, and a short way for the requests of usual kind, which gives
    None for those that the application is to answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    async def answer(
        self, environment: str, method: str, path: str, body: dict[str, Any], idempotency_key: str | None
    ) -> dict[str, Any] | None: ...


class Destinations:
    """The clients of this process, made when first needed."""

    def __init__(self, configuration: Configuration, directory: Directory) -> None:
        self._configuration = configuration
        self._directory = directory
        self._clients: dict[Destination, Knock] = {}

    def account(self, environment: str) -> str | None:
        """What the far side counts an environment's calls by."""
        return self._configuration.destination(environment).account

    def client(self, environment: str) -> Knock:
        """The client of an environment's destination, as configured now."""
        destination = self._configuration.destination(environment)
        client = self._clients.get(destination)
        if client is None:
            client = self._clients[destination] = self._connect(destination)
        return client

    def _connect(self, destination: Destination) -> Knock:
        from app.outbound.knock import connect, connect_in_process

        if destination.url is None:
            return connect_in_process(self._directory, destination.environment, self._directory.answer)
        if not destination.key:
            raise Permanent(f"environment {destination.environment} has a destination URL but no API key")
        return connect(destination.url, destination.key)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()


def as_data(result: BaseModel) -> dict[str, Any]:
    """An answer of Knock's client as plain data.

    Raises:
        Permanent: the client gave what the server sent, which was not JSON; the URL is not that of a Knock.
    """
    if not isinstance(result, BaseModel):
        raise Permanent(capped(f"the destination's answer is not Knock's: {result}"))
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


def count(result: object) -> int:
    """How many items the list in an answer has.

    Raises:
        Permanent: it is not a list; the URL is not that of a Knock.
    """
    if not isinstance(result, list):
        raise Permanent(capped(f"the destination's answer is not Knock's: {result}"))
    return len(result)


def capped(text: str) -> str:
    """What a destination said, as much of it as is stored."""
    return text.replace("\x00", "")[:MAXIMUM_ERROR_LENGTH]
