"""Audiences in the database: named groups of users, each a member within a tenant or within none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from app.core.errors import RequestError
from app.database.pages import Page, PageRequest, fetch_page
from app.directory.recipients import Profile, Recipient, Reference, set_recipients
from app.models.directory import DirectoryAudienceMember, DirectoryRecipient

_CREATE = text("""
INSERT INTO directory_audiences (environment, key, created_at) VALUES (:environment, :key, now())
ON CONFLICT (environment, key) DO NOTHING
""")

_EXISTS = text("SELECT 1 FROM directory_audiences WHERE environment = :environment AND key = :key")

_ADD = text("""
INSERT INTO directory_audience_members (environment, key, user_id, tenant, added_at)
SELECT DISTINCT :environment, :key, user_id, tenant, now()
FROM unnest(CAST(:user_ids AS text[]), CAST(:tenants AS text[])) AS given (user_id, tenant)
ON CONFLICT (environment, key, user_id, tenant) DO NOTHING
""")

_REMOVE = text("""
DELETE FROM directory_audience_members
WHERE environment = :environment AND key = :key AND (user_id, tenant) IN (
    SELECT * FROM unnest(CAST(:user_ids AS text[]), CAST(:tenants AS text[]))
)
""")


@dataclass(frozen=True)
class Membership:
    """Whom to add or remove: the user with what is set on it, and the tenant within which it is a member."""

    user: Profile
    tenant: str | None = None


@dataclass(frozen=True)
class Member:
    """A user in an audience."""

    user: Recipient
    tenant: str | None
    added_at: datetime


async def add_members(
    connection: AsyncConnection, environment: str, key: str, members: Sequence[Membership], *, create: bool
) -> None:
    """Identify users and add them, in one transaction. Who is a member already stays one.

    Raises:
        RequestError: 404, there is no such audience and it shall not be created.
    """
    if create:
        await connection.execute(_CREATE, {"environment": environment, "key": key})
    else:
        await _check_exists(connection, environment, key)
    await set_recipients(connection, environment, [each.user for each in members])
    await connection.execute(_ADD, _named(environment, key, members))


async def remove_members(
    connection: AsyncConnection, environment: str, key: str, members: Sequence[Membership]
) -> None:
    """Remove users from the audience, each within its tenant or, without one, outside all tenants.

    Raises:
        RequestError: 404, there is no such audience.
    """
    await _check_exists(connection, environment, key)
    await connection.execute(_REMOVE, _named(environment, key, members))


async def list_members(
    connection: AsyncConnection, environment: str, key: str, page: PageRequest
) -> Page[Member]:
    """The members by id.

    Raises:
        RequestError: 404, there is no such audience.
    """
    await _check_exists(connection, environment, key)
    member, user = DirectoryAudienceMember, DirectoryRecipient
    query = (
        select(
            col(user.collection),
            col(user.id),
            col(user.properties),
            col(user.preferences),
            col(user.updated_at),
            col(member.tenant),
            col(member.added_at),
        )
        .join(
            user,
            (col(user.environment) == col(member.environment))
            & (col(user.collection) == col(member.user_collection))
            & (col(user.id) == col(member.user_id)),
        )
        .where(col(member.environment) == environment, col(member.key) == key)
    )
    return await fetch_page(connection, query, [col(member.user_id), col(member.tenant)], page, _member_of)


async def _check_exists(connection: AsyncConnection, environment: str, key: str) -> None:
    found = await connection.execute(_EXISTS, {"environment": environment, "key": key})
    if found.first() is None:
        raise RequestError(404, "resource_missing", f"There is no audience {key!r}")


def _named(environment: str, key: str, members: Sequence[Membership]) -> dict[str, Any]:
    return {
        "environment": environment,
        "key": key,
        "user_ids": [each.user.reference.id for each in members],
        "tenants": [each.tenant or "" for each in members],
    }


def _member_of(row: Row[Any]) -> Member:
    user = Recipient(Reference(row.collection, row.id), row.properties, row.preferences, row.updated_at)
    return Member(user, row.tenant or None, row.added_at)
