"""Messages that workflow runs made: listed, read, marked as seen, read, interacted with or archived."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, Select, Text, cast, select, text
from sqlalchemy.dialects.postgresql import JSONB, array
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from app.database.pages import Page, PageRequest, fetch_page
from app.directory.recipients import Json, Reference
from app.models.workflow import Message, WorkflowVersion

Mark = Literal["seen", "read", "interacted", "archived"]
# Whoever read a message has seen it.
_IMPLIED: dict[Mark, tuple[Mark, ...]] = {
    "seen": ("seen",),
    "read": ("seen", "read"),
    "interacted": ("seen", "read", "interacted"),
    "archived": ("archived",),
}
_DONE: dict[Mark, Any] = {
    mark: text(
        "UPDATE messages SET updated_at = now(), "
        + ", ".join(f"{each}_at = coalesce({each}_at, now())" for each in marks)
        + " WHERE environment = :environment AND id = :id"
    )
    for mark, marks in _IMPLIED.items()
}
_UNDONE: dict[Mark, Any] = {
    mark: text(
        f"UPDATE messages SET updated_at = now(), {mark}_at = NULL WHERE environment = :environment AND id = "
        ":id"
    )
    for mark in _IMPLIED
}


@dataclass(frozen=True)
class StoredMessage:
    """A message as stored."""

    id: UUID
    run_id: UUID
    workflow_run_id: UUID
    version_id: UUID
    version_created_at: datetime
    workflow: str
    categories: list[str]
    step_ref: str
    channel_key: str
    channel_type: str
    recipient_collection: str
    recipient_id: str
    actor_collection: str | None
    actor_id: str | None
    tenant: str | None
    status: str
    error: str | None
    content: Json
    data: Json | None
    inserted_at: datetime
    updated_at: datetime
    seen_at: datetime | None
    read_at: datetime | None
    interacted_at: datetime | None
    archived_at: datetime | None

    @property
    def recipient(self) -> Reference:
        """Whom it is for."""
        return Reference(self.recipient_collection, self.recipient_id)


@dataclass(frozen=True)
class MessageFilter:
    """Which messages. `trigger_data` must be within the message's data."""

    recipient: Reference | None = None
    workflow: str | None = None
    channel: str | None = None
    tenant: str | None = None
    run_id: UUID | None = None
    workflow_run_id: UUID | None = None
    ids: Sequence[UUID] | None = None
    statuses: Sequence[str] = ()
    engagement: Sequence[str] = ()
    categories: Sequence[str] = ()
    trigger_data: Json | None = None
    after: datetime | None = None
    at_or_after: datetime | None = None
    before: datetime | None = None
    at_or_before: datetime | None = None


async def list_messages(
    connection: AsyncConnection, environment: str, page: PageRequest, wanted: MessageFilter
) -> Page[StoredMessage]:
    """Messages, the newest first."""
    return await fetch_page(
        connection,
        _filtered(_query(environment), wanted),
        [col(Message.id)],
        page,
        _stored,
        descending=True,
        parse=UUID,
    )


async def get_message(
    connection: AsyncConnection, environment: str, message_id: UUID
) -> StoredMessage | None:
    """The message, if there is one."""
    row = (await connection.execute(_query(environment).where(col(Message.id) == message_id))).first()
    return None if row is None else _stored(row)


async def mark_message(
    connection: AsyncConnection, environment: str, message_id: UUID, mark: Mark, *, undo: bool = False
) -> StoredMessage | None:
    """The message with the mark set, or removed; the time of the first one stays."""
    statement = (_UNDONE if undo else _DONE)[mark]
    await connection.execute(statement, {"environment": environment, "id": message_id})
    return await get_message(connection, environment, message_id)


def _query(environment: str) -> Select[Any]:
    columns = [each.name for each in fields(StoredMessage) if each.name != "version_created_at"]
    return (
        select(
            *(col(getattr(Message, name)) for name in columns),
            col(WorkflowVersion.created_at).label("version_created_at"),
        )
        .join(WorkflowVersion, col(WorkflowVersion.id) == col(Message.version_id))
        .where(col(Message.environment) == environment)
    )


def _filtered(query: Select[Any], wanted: MessageFilter) -> Select[Any]:
    equal = {
        Message.workflow: wanted.workflow,
        Message.channel_key: wanted.channel,
        Message.tenant: wanted.tenant,
        Message.run_id: wanted.run_id,
        Message.workflow_run_id: wanted.workflow_run_id,
    }
    for column, value in equal.items():
        if value is not None:
            query = query.where(col(column) == value)
    if wanted.recipient is not None:
        query = query.where(
            col(Message.recipient_collection) == wanted.recipient.collection,
            col(Message.recipient_id) == wanted.recipient.id,
        )
    if wanted.ids is not None:
        query = query.where(col(Message.id).in_(wanted.ids))
    if wanted.statuses:
        query = query.where(col(Message.status).in_(wanted.statuses))
    for status in wanted.engagement:
        query = query.where(_engaged(status))
    if wanted.categories:
        query = query.where(cast(Message.categories, JSONB).has_any(array(wanted.categories, type_=Text)))
    if wanted.trigger_data is not None:
        query = query.where(cast(Message.data, JSONB).contains(wanted.trigger_data))
    moment = col(Message.inserted_at)
    if wanted.after is not None:
        query = query.where(moment > wanted.after)
    if wanted.at_or_after is not None:
        query = query.where(moment >= wanted.at_or_after)
    if wanted.before is not None:
        query = query.where(moment < wanted.before)
    if wanted.at_or_before is not None:
        query = query.where(moment <= wanted.at_or_before)
    return query


def _engaged(status: str) -> Any:
    columns: dict[str, Any] = {
        "seen": Message.seen_at,
        "read": Message.read_at,
        "interacted": Message.interacted_at,
        "archived": Message.archived_at,
    }
    if status == "link_clicked":
        # Links are not tracked.
        return col(Message.id).is_(None)
    column = col(columns[status.removeprefix("un")])
    return column.is_(None) if status.startswith("un") else column.is_not(None)


def _stored(row: Row[Any]) -> StoredMessage:
    return StoredMessage(**{each.name: row._mapping[each.name] for each in fields(StoredMessage)})
