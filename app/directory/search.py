"""Finding in the directory: recipients by how their id, name or email address begins; which collections and
audiences there are; where a user is a member. All of it goes through indexes: nothing here reads more than it
shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from app.database.pages import Page, PageRequest, fetch_page
from app.directory.recipients import Json, Recipient, Reference, recipient_of
from app.models.directory import DirectoryAudience

SEARCH = text("""
SELECT DISTINCT ON (id) collection, id, properties, preferences, updated_at FROM (
    (SELECT * FROM directory_recipients WHERE environment = :environment AND collection = :collection
        AND id ~>=~ :start AND id ~<~ :end ORDER BY id USING ~<~ LIMIT :limit)
    UNION ALL
    (SELECT * FROM directory_recipients WHERE environment = :environment AND collection = :collection
        AND properties ->> 'name' IS NOT NULL AND lower(properties ->> 'name') ~>=~ lower(:start)
        AND lower(properties ->> 'name') ~<~ lower(:end)
        ORDER BY lower(properties ->> 'name') USING ~<~ LIMIT :limit)
    UNION ALL
    (SELECT * FROM directory_recipients WHERE environment = :environment AND collection = :collection
        AND properties ->> 'email' IS NOT NULL AND lower(properties ->> 'email') ~>=~ lower(:start)
        AND lower(properties ->> 'email') ~<~ lower(:end)
        ORDER BY lower(properties ->> 'email') USING ~<~ LIMIT :limit)
) AS found ORDER BY id LIMIT :limit
""")

# From one collection to the next, so that it costs as much as there are collections.
_COLLECTIONS = text("""
WITH RECURSIVE found AS (
    (SELECT collection FROM directory_recipients WHERE environment = :environment ORDER BY collection LIMIT 1)
    UNION ALL
    SELECT (
        SELECT next.collection FROM directory_recipients AS next
        WHERE next.environment = :environment AND next.collection > found.collection ORDER BY next.collection
          LIMIT 1
    ) FROM found WHERE found.collection IS NOT NULL
)
SELECT collection FROM found WHERE collection IS NOT NULL AND collection NOT LIKE '$%' LIMIT :limit
""")

_CHANNEL_DATA = text("""
SELECT channel_data FROM directory_recipients
WHERE environment = :environment AND collection = :collection AND id = :id
""")

_MEMBERSHIPS = text("""
SELECT key, tenant, added_at FROM directory_audience_members
WHERE environment = :environment AND user_id = :user_id ORDER BY key, tenant LIMIT :limit
""")


@dataclass(frozen=True)
class AudienceMembership:
    """An audience that a user is in, within a tenant or within none."""

    audience: str
    tenant: str | None
    added_at: datetime


async def search_recipients(
    connection: AsyncConnection, environment: str, collection: str, start: str, limit: int
) -> list[Recipient]:
    """The first recipients of a collection whose id, name or email address begins with `start`.

    Ids as they are written; names and addresses whether written small or large.
    """
    parameters = {
        "environment": environment,
        "collection": collection,
        "start": start,
        # Nothing that begins so comes after this.
        "end": f"{start}\U0010ffff",
        "limit": limit,
    }
    return [recipient_of(row) for row in await connection.execute(SEARCH, parameters)]


async def list_collections(connection: AsyncConnection, environment: str, limit: int) -> Sequence[str]:
    """The collections of objects that there are, by name."""
    parameters = {"environment": environment, "limit": limit}
    return (await connection.execute(_COLLECTIONS, parameters)).scalars().all()


async def list_audiences(
    connection: AsyncConnection, environment: str, page: PageRequest
) -> Page[DirectoryAudience]:
    """The audiences by key."""
    table = DirectoryAudience
    columns = [col(getattr(table, name)) for name in table.model_fields]
    query = select(*columns).where(col(table.environment) == environment)
    return await fetch_page(
        connection, query, [col(table.key)], page, lambda row: DirectoryAudience(**_fields(row))
    )


async def memberships(
    connection: AsyncConnection, environment: str, user_id: str, limit: int
) -> list[AudienceMembership]:
    """The audiences that a user is in."""
    parameters = {"environment": environment, "user_id": user_id, "limit": limit}
    rows = await connection.execute(_MEMBERSHIPS, parameters)
    return [AudienceMembership(row.key, row.tenant or None, row.added_at) for row in rows]


async def get_channel_data(connection: AsyncConnection, environment: str, reference: Reference) -> Json:
    """What is set per channel on a recipient; nothing for one that is not there."""
    parameters = {"environment": environment, **reference._asdict()}
    found: Json | None = (await connection.execute(_CHANNEL_DATA, parameters)).scalar()
    return found or {}


def _fields(row: Any) -> dict[str, Any]:
    return {name: row._mapping[name] for name in DirectoryAudience.model_fields}
