"""Bulk operations in the database: many changes asked for at once, made chunk by chunk in the background.

The request writes a row and wakes the workers; `app/worker/bulk_operations.py` starts a workflow for it,
which works the row off here.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import RequestError
from app.database.engine import to_json
from app.directory.recipients import Json, Profile, Reference, delete_recipients, set_recipients
from app.directory.subscriptions import Subscribers, add_subscriptions, remove_subscriptions
from app.models.types import new_id

# A worker hears of a new operation of its environment on this channel.
CHANNEL = "doorbell_bulk_operations"
# Rows made in one transaction: progress shows after each, and a row that fails is made again alone.
CHUNK_SIZE = 100

_COLUMNS = """
id, name, status, estimated_total_rows, processed_rows, success_count, error_count, error_items, inserted_at,
updated_at, started_at, completed_at, failed_at
"""

_CREATE = text(f"""
INSERT INTO bulk_operations (id, environment, name, collection, status, items, estimated_total_rows,
  processed_rows,
                             success_count, error_count, error_items, inserted_at, updated_at)
VALUES (:id, :environment, :name, :collection, 'queued', CAST(:items AS json), :total, 0, 0, 0, '[]', now(),
  now())
RETURNING {_COLUMNS}, pg_notify(:channel, :environment)
""")

_GET = text(f"SELECT {_COLUMNS} FROM bulk_operations WHERE environment = :environment AND id = :id")

_NEXT = text("""
SELECT environment, name, collection, processed_rows, estimated_total_rows,
    (SELECT coalesce(json_agg(item ORDER BY place), '[]')
     FROM json_array_elements(items) WITH ORDINALITY AS each (item, place)
     WHERE place > processed_rows AND place <= processed_rows + :size) AS chunk
FROM bulk_operations WHERE id = :id AND status IN ('queued', 'processing') FOR UPDATE
""")

_ADVANCE = text("""
UPDATE bulk_operations SET
    status = 'processing', started_at = coalesce(started_at, now()), updated_at = now(),
    processed_rows = processed_rows + :processed, success_count = success_count + :processed - :failed,
    error_count = error_count + :failed,
    error_items = CAST(CAST(error_items AS jsonb) || CAST(:error_items AS jsonb) AS json)
WHERE id = :id
""")

# `items` may be megabytes; nobody reads them again.
_COMPLETE = text("""
UPDATE bulk_operations SET status = 'completed', completed_at = now(), updated_at = now(), items = NULL
WHERE id = :id
""")

_FAIL = text("""
UPDATE bulk_operations SET status = 'failed', failed_at = now(), updated_at = now(), items = NULL
WHERE id = :id AND status IN ('queued', 'processing')
""")


class Name(StrEnum):
    """What an operation does with its items."""

    IDENTIFY_USERS = "users.identify"
    DELETE_USERS = "users.delete"
    SET_OBJECTS = "objects.set"
    DELETE_OBJECTS = "objects.delete"
    ADD_SUBSCRIPTIONS = "objects.add_subscriptions"
    DELETE_SUBSCRIPTIONS = "objects.delete_subscriptions"
    SET_TENANTS = "tenants.set"
    DELETE_TENANTS = "tenants.delete"


@dataclass(frozen=True)
class BulkProgress:
    """An operation and how far it is."""

    id: UUID
    name: str
    status: str
    estimated_total_rows: int
    processed_rows: int
    success_count: int
    error_count: int
    error_items: list[Json]
    inserted_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None


async def ask_to_set(
    connection: AsyncConnection, environment: str, name: Name, collection: str, profiles: Iterable[Profile]
) -> BulkProgress:
    """Let recipients be created or updated."""
    items = [_profile_item(each) for each in profiles]
    return await _create(connection, environment, name, collection, items)


async def ask_to_delete(
    connection: AsyncConnection, environment: str, name: Name, collection: str, ids: Iterable[str]
) -> BulkProgress:
    """Let recipients of a collection be deleted."""
    return await _create(connection, environment, name, collection, [{"id": each} for each in ids])


async def ask_to_subscribe(
    connection: AsyncConnection, environment: str, collection: str, objects: Iterable[Subscribers]
) -> BulkProgress:
    """Let recipients be subscribed to objects of a collection."""
    items = [
        {
            "id": each.object.id,
            "properties": each.properties,
            "profiles": [_profile_item(profile) for profile in each.profiles],
        }
        for each in objects
    ]
    return await _create(connection, environment, Name.ADD_SUBSCRIPTIONS, collection, items)


async def ask_to_unsubscribe(
    connection: AsyncConnection,
    environment: str,
    collection: str,
    objects: Iterable[tuple[str, Sequence[Reference]]],
) -> BulkProgress:
    """Let recipients' subscriptions to objects of a collection, each by its id, be removed."""
    items = [{"id": id, "recipients": [list(each) for each in recipients]} for id, recipients in objects]
    return await _create(connection, environment, Name.DELETE_SUBSCRIPTIONS, collection, items)


async def get_operation(
    connection: AsyncConnection, environment: str, operation_id: UUID
) -> BulkProgress | None:
    """The operation, if there is one."""
    row = (await connection.execute(_GET, {"environment": environment, "id": operation_id})).first()
    return None if row is None else BulkProgress(**row._mapping)


async def work_off_chunk(connection: AsyncConnection, operation_id: UUID) -> bool:
    """Make the next changes of an operation, and note how far it is, in one transaction. False when all are
    made.

    A change that cannot be made is noted among the errors and stops no other.
    """
    row = (await connection.execute(_NEXT, {"id": operation_id, "size": CHUNK_SIZE})).first()
    if row is None:
        return False
    failed = await _failed(connection, row)
    await connection.execute(
        _ADVANCE,
        {
            "id": operation_id,
            "processed": len(row.chunk),
            "failed": len(failed),
            "error_items": to_json([{"id": item["id"], "collection": row.collection} for item in failed]),
        },
    )
    if row.processed_rows + len(row.chunk) < row.estimated_total_rows:
        return True
    await connection.execute(_COMPLETE, {"id": operation_id})
    return False


async def fail_operation(connection: AsyncConnection, operation_id: UUID) -> None:
    """Note that an operation ended before its time. One that is finished stays so."""
    await connection.execute(_FAIL, {"id": operation_id})


async def _create(
    connection: AsyncConnection, environment: str, name: Name, collection: str, items: list[Json]
) -> BulkProgress:
    rows = await connection.execute(
        _CREATE,
        {
            "id": new_id(),
            "environment": environment,
            "name": name,
            "collection": collection,
            "items": to_json(items),
            "total": len(items),
            "channel": CHANNEL,
        },
    )
    *values, _ = rows.one()
    return BulkProgress(*values)


def _profile_item(profile: Profile) -> Json:
    return {
        **profile.reference._asdict(),
        "properties": profile.properties,
        "channel_data": profile.channel_data,
        "preferences": profile.preferences,
    }


def _profile_of(item: Json) -> Profile:
    return Profile(
        Reference(item["collection"], item["id"]),
        item["properties"],
        item["channel_data"],
        item["preferences"],
    )


Change = Callable[[AsyncConnection, str, str, list[Json]], Awaitable[None]]


async def _failed(connection: AsyncConnection, row: Row[Any]) -> list[Json]:
    """Make the changes of a chunk at once, or else one by one; the items of those that cannot be made."""
    make = _CHANGES[Name(row.name)]
    if await _is_made(connection, make, row, row.chunk):
        return []
    return [item for item in row.chunk if not await _is_made(connection, make, row, [item])]


async def _is_made(connection: AsyncConnection, make: Change, row: Row[Any], items: list[Json]) -> bool:
    """Whether these changes could be made. Failures that may pass are raised: the whole chunk is tried
    again."""
    try:
        async with connection.begin_nested():
            await make(connection, row.environment, row.collection, items)
    except (RequestError, DataError, IntegrityError, ProgrammingError):
        return False
    return True


async def _set(connection: AsyncConnection, environment: str, collection: str, items: list[Json]) -> None:
    await set_recipients(connection, environment, [_profile_of(each) for each in items])


async def _delete(connection: AsyncConnection, environment: str, collection: str, items: list[Json]) -> None:
    await delete_recipients(connection, environment, collection, [each["id"] for each in items])


async def _subscribe(
    connection: AsyncConnection, environment: str, collection: str, items: list[Json]
) -> None:
    for item in items:
        subscribers = Subscribers(
            Reference(collection, item["id"]),
            [_profile_of(each) for each in item["profiles"]],
            item["properties"],
        )
        await add_subscriptions(connection, environment, subscribers)


async def _unsubscribe(
    connection: AsyncConnection, environment: str, collection: str, items: list[Json]
) -> None:
    for item in items:
        await remove_subscriptions(
            connection,
            environment,
            Reference(collection, item["id"]),
            [Reference(*each) for each in item["recipients"]],
        )


_CHANGES: dict[Name, Change] = {
    Name.IDENTIFY_USERS: _set,
    Name.DELETE_USERS: _delete,
    Name.SET_OBJECTS: _set,
    Name.DELETE_OBJECTS: _delete,
    Name.ADD_SUBSCRIPTIONS: _subscribe,
    Name.DELETE_SUBSCRIPTIONS: _unsubscribe,
    Name.SET_TENANTS: _set,
    Name.DELETE_TENANTS: _delete,
}
