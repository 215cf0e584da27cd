"""A sample of an event type, for whoever writes a mapping: what was received last, else what the provider
sends."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.actions.sensitive import redacted
from app.core.errors import RequestError
from app.core.secrets import SecretBox
from app.logs.event_types import find_latest
from app.models.source import Source
from app.providers.base import Example, Provider
from app.providers.registry import providers


@dataclass(frozen=True)
class Sample:
    """What paths of a mapping are read from. `id` and `received_at` are None for the provider's example."""

    event_type: str
    origin: Literal["received", "example"]
    body: dict[str, Any] | None
    headers: dict[str, str]
    preprocess: dict[str, Any] | None
    id: UUID | None = None
    received_at: datetime | None = None


async def get_sample(
    session: AsyncSession, box: SecretBox, source: Source, environment: str, event_type: str
) -> Sample:
    """The latest event of the type in an environment, else the provider's example of it.

    Raises:
        RequestError: 404, there is neither.
    """
    entry = await find_latest(session, box, environment, source.key, event_type)
    if entry is not None:
        return Sample(
            event_type=event_type,
            origin="received",
            body=entry.data,
            headers=entry.headers,
            preprocess=entry.preprocess_output,
            id=entry.event.id,
            received_at=entry.event.received_at,
        )
    provider = providers().get(source.provider)
    if provider is None or event_type not in provider.examples:
        raise RequestError(
            404,
            "resource_missing",
            f"Source {source.key!r} received no {event_type!r} in {environment!r} lately, and there is no "
            "example of it",
        )
    return _of_example(provider, event_type, provider.examples[event_type][0])


def _of_example(provider: Provider, event_type: str, example: Example) -> Sample:
    headers, body = dict(example.headers), provider.event_body(example)
    preprocess = provider.preprocess(body, headers) if provider.preprocess else None
    return Sample(event_type, "example", redacted(body, provider.sensitive_paths), headers, preprocess)
