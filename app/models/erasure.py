"""Erasures: users whose data is deleted on request, and how far that is."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from app.models.types import bytes_field, json_field, new_id, now, text_field, time_field


class Erasure(SQLModel, table=True):
    """One erasure. `search` is encrypted, and forgotten when it is over; of the user, the id stays.

    `cursor` is the id up to which the phase has looked. `late` are events that concern the user and had no
    final status when they were found.
    """

    __tablename__ = "erasures"
    __table_args__ = (
        Index(
            "erasures_unfinished",
            "environment",
            "id",
            postgresql_where=text("status IN ('queued', 'processing')"),
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    environment: str = text_field()
    user_id: str = text_field()
    dry_run: bool
    search: bytes | None = bytes_field(nullable=True, default=None)
    starting_at: datetime | None = time_field(default=None)
    ending_at: datetime | None = time_field(default=None)
    status: str = text_field(default="queued")
    phase: str = text_field()
    cursor: UUID
    begins_at: UUID
    ends_at: UUID
    late: list[str] = json_field(default_factory=list)
    counts: dict[str, Any] = json_field(default_factory=dict)
    requested_by: str = text_field()
    inserted_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)
    finished_at: datetime | None = time_field(default=None)


class ErasureEvent(SQLModel, table=True):
    """An event that a dry run has counted: what is found twice counts once. They go when it is over."""

    __tablename__ = "erasure_events"

    erasure_id: UUID = Field(foreign_key="erasures.id", ondelete="CASCADE", primary_key=True)
    event_id: UUID = Field(primary_key=True)
