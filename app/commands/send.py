"""`doorbell send`: rings at a source as its vendor would, over HTTP, and shows what became of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from app.cli.requests import own_request
from app.cli.results import Result, result_of, show
from app.cli.target import Target, open_target
from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.models.types import now
from app.replays.examples import Request, example_request


@dataclass(frozen=True)
class Output:
    """How results are shown: tables for people, or a line of JSON each."""

    as_json: bool = False
    # Seconds until an event that is not processed yet is shown as it is.
    wait: float = 30.0

    def show(self, result: Result) -> None:
        if self.as_json:
            Console(soft_wrap=True, highlight=False, markup=False).print(result.to_json())
        else:
            show(result, Console())


async def send(
    settings: Settings,
    source: str,
    event_type: str | None,
    *,
    environment: str,
    payload: Path | None,
    count: int,
    output: Output,
) -> bool:
    """Send the provider's example, or a payload, `count` times; whether all went well.

    Raises:
        ConfigurationError: there is nothing to send, or nowhere to send it.
    """
    async with open_target(settings, source, environment) as target:
        return await send_all(target, _requests(target, event_type, payload, count), output)


async def send_all(target: Target, requests: Iterable[Request], output: Output) -> bool:
    """Send requests one after another and show what became of each; whether all went well."""
    good = True
    async with httpx.AsyncClient(timeout=30) as client:
        for request in requests:
            result = await deliver(target, client, request, output)
            good = good and result.is_good
    return good


async def deliver(target: Target, client: httpx.AsyncClient, request: Request, output: Output) -> Result:
    """Send one request, show the result."""
    sent_at = now()
    answer = await post(target, client, request)
    result = await result_of(target, answer, sent_at, output.wait)
    output.show(result)
    return result


async def post(target: Target, client: httpx.AsyncClient, request: Request) -> httpx.Response:
    """Send one request to the source's URL.

    Raises:
        ConfigurationError: nobody answers there.
    """
    try:
        return await client.post(target.url, content=request.body, headers=request.headers)
    except httpx.TransportError as error:
        raise ConfigurationError(
            f"the API does not answer at {target.settings.base_url} ({type(error).__name__}): is it running? "
            "DOORBELL_PUBLIC_URL, or DOORBELL_HOST and DOORBELL_PORT, say where it is"
        ) from error


def _requests(target: Target, event_type: str | None, payload: Path | None, count: int) -> Iterator[Request]:
    for _ in range(count):
        if payload is None:
            yield example_request(target.endpoint, event_type)
        else:
            yield own_request(target.endpoint, payload)
