"""Where actions run: Knock, something that speaks its API, or the embedded directory in this process.

One client for each destination, kept for the life of the process.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.core.errors import Permanent, capped
from app.models.types import digest_of

if TYPE_CHECKING:
    from knockapi import AsyncKnock

    Knock = AsyncKnock
else:
    # Knock's client brings httpx and aiohttp: 12 MB, which an API process that receives events does without.
    Knock = object


@dataclass(frozen=True)
class Destination:
    """Where an environment's actions run. `url` None is the embedded directory."""

    environment: str
    url: str | None
    key: str | None = field(repr=False)

    @property
    def account(self) -> str | None:
        """What the far side counts its calls by, its key; None for the directory, which has no limits.

        A digest: it names rows of the database, and says nothing.
        """
        return None if self.url is None else digest_of(self.url, self.key or "").hex()[:32]


class Directory(Protocol):
    """The embedded directory: an application, and a short way for the requests of usual kind, which gives
    None for those that the application is to answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    async def answer(
        self, environment: str, method: str, path: str, body: dict[str, Any], idempotency_key: str | None
    ) -> dict[str, Any] | None: ...


class Destinations:
    """The clients of this process, made when first needed."""

    def __init__(self, configured: Callable[[str], Destination], directory: Directory) -> None:
        """`configured` gives an environment's destination as it is configured now."""
        self._configured = configured
        self._directory = directory
        self._clients: dict[Destination, Knock] = {}

    def account(self, environment: str) -> str | None:
        """What the far side counts an environment's calls by."""
        return self._configured(environment).account

    def client(self, environment: str) -> Knock:
        """The client of an environment's destination, as configured now."""
        destination = self._configured(environment)
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
