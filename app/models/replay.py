"""Replays of many events: what was asked for, and how far it is."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from app.models.status import ReplayStatus
from app.models.types import json_field, new_id, now, text_field, time_field


class Replay(SQLModel, table=True):
    """A replay of all events of a source that match a filter, in the order of their ids.

    `position` is the last original that was looked at: it moves in the transaction that makes the new events.
    `failures` are the first of those that could not be replayed, each `{"log_id", "message"}`.
    """

    __tablename__ = "replays"
    __table_args__ = (
        Index("replays_by_source", "source_key", "environment", "id"),
        Index("replays_by_status", "environment", "status", "id"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    environment: str = text_field()
    source_key: str = text_field()
    status: str = text_field(default=ReplayStatus.QUEUED)
    filter: dict[str, Any] = json_field()
    mappings: str = text_field()
    rate_limit_per_second: int
    started_by: str = text_field()
    total: int
    replayed: int = 0
    failed: int = 0
    payloads_missing: int = 0
    failures: list[dict[str, Any]] = json_field(default_factory=list)
    position: UUID = UUID(int=0)
    error: str | None = text_field(default=None)
    created_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)
    started_at: datetime | None = time_field(default=None)
    finished_at: datetime | None = time_field(default=None)

    @property
    def events_missing(self) -> int:
        """Events that matched when the replay started and that it did not find any more when it came to its
        end."""
        if self.status != ReplayStatus.COMPLETED:
            return 0
        return max(0, self.total - self.replayed - self.failed - self.payloads_missing)
