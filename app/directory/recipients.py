"""Users, objects and tenants in the database: identified, read, listed, deleted.

What is set on a recipient is merged with what it has, as deep as it goes, in one statement.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import FieldError
from app.core.validation import invalid_fields
from app.database.engine import to_json
from app.models.directory import TENANTS, USERS

Json = dict[str, Any]

# The key among a tenant's preferences of the set that its settings hold: the default for its members.
TENANT_PREFERENCE_SET = "$settings"
# What Knock keeps on a recipient at most.
MAXIMUM_PROPERTIES_BYTES = 256 * 1024

_SET = text("""
INSERT INTO directory_recipients AS stored
    (environment, collection, id, properties, channel_data, preferences, inserted_at, updated_at)
SELECT :environment, collection, id, properties::jsonb, channel_data::jsonb, preferences::jsonb, now(), now()
FROM unnest(CAST(:collections AS text[]), CAST(:ids AS text[]), CAST(:properties AS text[]),
            CAST(:channel_data AS text[]), CAST(:preferences AS text[]))
    AS given (collection, id, properties, channel_data, preferences)
ON CONFLICT (environment, collection, id) DO UPDATE SET
    properties = doorbell_deep_merge(stored.properties, excluded.properties),
    channel_data = stored.channel_data || excluded.channel_data,
    preferences = doorbell_merge_preferences(stored.preferences, excluded.preferences),
    updated_at = excluded.updated_at
RETURNING collection, id, properties, preferences, updated_at
""")

_GET = text("""
SELECT collection, id, properties, preferences, updated_at FROM directory_recipients
WHERE environment = :environment AND collection = :collection AND id = :id
""")

_DELETE = text("""
DELETE FROM directory_recipients
WHERE environment = :environment AND collection = :collection AND id = ANY(CAST(:ids AS text[]))
RETURNING id
""")


class Reference(NamedTuple):
    """Which recipient: an object's collection and id, or a user's id in `$users`."""

    collection: str
    id: str

    @classmethod
    def to_user(cls, user_id: str) -> "Reference":
        return cls(USERS, user_id)

    @classmethod
    def to_tenant(cls, tenant_id: str) -> "Reference":
        return cls(TENANTS, tenant_id)


@dataclass(frozen=True)
class Profile:
    """What a request sets on a recipient."""

    reference: Reference
    properties: Json = field(default_factory=dict)
    channel_data: Json = field(default_factory=dict)
    preferences: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Recipient:
    """A recipient as stored."""

    reference: Reference
    properties: Json
    preferences: Json
    updated_at: datetime


async def set_recipients(
    connection: AsyncConnection, environment: str, profiles: Iterable[Profile]
) -> list[Recipient]:
    """Create or update recipients. Those given twice are merged in their order.

    Raises:
        RequestError: 422, a recipient has more properties than are kept.
    """
    merged: dict[Reference, Profile] = {}
    for each in profiles:
        earlier = merged.get(each.reference)
        merged[each.reference] = each if earlier is None else _merged(earlier, each)
    if not merged:
        return []
    # In one order everywhere, so that requests for the same recipients wait for each other and never in a
    # circle.
    ordered = [merged[reference] for reference in sorted(merged)]
    rows = await connection.execute(
        _SET,
        {
            "environment": environment,
            "collections": [each.reference.collection for each in ordered],
            "ids": [each.reference.id for each in ordered],
            "properties": [properties_of(each) for each in ordered],
            "channel_data": [to_json(each.channel_data) for each in ordered],
            "preferences": [to_json(each.preferences) for each in ordered],
        },
    )
    return [recipient_of(row) for row in rows]


async def set_recipient(connection: AsyncConnection, environment: str, profile: Profile) -> Recipient:
    """Create or update one recipient."""
    return (await set_recipients(connection, environment, [profile]))[0]


async def get_recipient(
    connection: AsyncConnection, environment: str, reference: Reference
) -> Recipient | None:
    """The recipient, if there is one."""
    rows = await connection.execute(_GET, {"environment": environment, **reference._asdict()})
    row = rows.first()
    return None if row is None else recipient_of(row)


async def delete_recipients(
    connection: AsyncConnection, environment: str, collection: str, ids: Sequence[str]
) -> set[str]:
    """Delete recipients of a collection, with their subscriptions and memberships; the ids that were
    there."""
    rows = await connection.execute(
        _DELETE, {"environment": environment, "collection": collection, "ids": sorted(set(ids))}
    )
    return {row.id for row in rows}


def recipient_of(row: Row[Any]) -> Recipient:
    """A row of the columns collection, id, properties, preferences, updated_at."""
    return Recipient(Reference(row.collection, row.id), row.properties, row.preferences, row.updated_at)


def deep_merge(stored: Json, given: Json) -> Json:
    """`given` over `stored`, objects within objects too. The database's doorbell_deep_merge, for Python."""
    result = {**stored, **given}
    for key in stored.keys() & given.keys():
        if isinstance(stored[key], dict) and isinstance(given[key], dict):
            result[key] = deep_merge(stored[key], given[key])
    return result


def properties_of(profile: Profile) -> str:
    """What a profile sets, as it is stored.

    Raises:
        RequestError: 422, more than is kept.
    """
    properties = to_json(profile.properties)
    if len(properties.encode()) > MAXIMUM_PROPERTIES_BYTES:
        message = f"has more than {MAXIMUM_PROPERTIES_BYTES // 1024} kB in {profile.reference.id!r}"
        raise invalid_fields([FieldError("properties", message)])
    return properties


def _merged(earlier: Profile, later: Profile) -> Profile:
    return replace(
        later,
        properties=deep_merge(earlier.properties, later.properties),
        channel_data={**earlier.channel_data, **later.channel_data},
        preferences=deep_merge(earlier.preferences, later.preferences),
    )
