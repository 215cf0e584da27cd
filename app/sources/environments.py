"""Environments made, changed and removed. A new one is configured for every source, as a new source is for
it."""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.environments import list_environments
from app.core.changes import MAXIMUM_NAME_LENGTH
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.models.environment import Environment
from app.models.types import now
from app.sources.store import configure_missing

# Its name in URLs, task queues and workflow ids.
SLUG_PATTERN = r"[a-z0-9][a-z0-9_-]*"

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('environments', 0))")
_WAITING = text("""
SELECT EXISTS (SELECT FROM events WHERE environment = :slug AND status = 'received')
    OR EXISTS (SELECT FROM events WHERE environment = :slug AND status = 'processing')
""")


async def create_environment(session: AsyncSession, slug: str, fields: dict[str, Any]) -> Environment:
    """A new environment, the last one unless `order` is given, with every source configured in it.

    Raises:
        RequestError: 422, its slug is not one, or is taken.
    """
    await (await session.connection()).execute(_LOCK)
    environments = await list_environments(session)
    if errors := await _slug_errors(session, slug):
        raise invalid_fields(errors)
    environment = Environment(slug=slug, **{"name": slug, "order": _next_order(environments), **fields})
    session.add(environment)
    await session.flush()
    await configure_missing(session, [*environments, environment])
    return environment


async def _slug_errors(session: AsyncSession, slug: str) -> list[FieldError]:
    field = "environment.slug"
    if len(slug) > MAXIMUM_NAME_LENGTH or not re.fullmatch(SLUG_PATTERN, slug):
        return [FieldError(field, f"{slug!r} is not a slug: use lower-case letters, digits, - and _")]
    existing = await session.get(Environment, slug)
    if existing is None:
        return []
    if existing.deleted_at is not None:
        return [
            FieldError(
                field, f"{slug!r} was deleted, and its log and workflows keep the name: choose another"
            )
        ]
    return [FieldError(field, f"there is an environment {slug!r} already")]


def _next_order(environments: Sequence[Environment]) -> int:
    return max((each.order for each in environments), default=-1) + 1


async def change_environment(session: AsyncSession, environment: Environment, fields: dict[str, Any]) -> None:
    """Set the fields that are given."""
    if any(getattr(environment, name) != value for name, value in fields.items()):
        environment.sqlmodel_update(fields)
        environment.updated_at = now()
        await session.flush()


async def delete_environment(session: AsyncSession, environment: Environment) -> None:
    """Let an environment receive nothing any more. Its log stays for its retention; its name stays taken.

    Raises:
        RequestError: 409, it is one of those that Doorbell comes with, or events wait in it.
    """
    if environment.owner == "system":
        raise RequestError(409, "conflict", f"{environment.slug!r} comes with Doorbell and stays")
    rows = await (await session.connection()).execute(_WAITING, {"slug": environment.slug})
    if rows.scalar_one():
        message = f"Events wait in {environment.slug!r}: let its worker finish them first"
        raise RequestError(409, "conflict", message)
    environment.deleted_at = environment.updated_at = now()
    await session.flush()
