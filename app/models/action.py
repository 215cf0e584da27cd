"""The action log: one row for each action that an event ran, partitioned by day of its id."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from app.models.status import ActionStatus
from app.models.types import json_field, text_field, time_field


class Action(SQLModel, table=True):
    """One action of one event.

    Its id derives from the event and the mapping (`app.models.types.derived_id`): evaluated twice, it is one
    row, and the primary key alone finds all actions of an event.
    """

    __tablename__ = "actions"
    __table_args__ = (
        # The log's filters: what an index holds of a row never changes, so that its updates touch no index.
        Index("actions_by_type", "environment", "source_key", "action_type", "event_id"),
        Index(
            "actions_not_sent",
            "environment",
            "source_key",
            "event_id",
            postgresql_where=text("idempotency_key IS NULL"),
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: UUID = Field(primary_key=True)
    event_id: UUID
    # Those of the event.
    environment: str | None = text_field(default=None)
    source_key: str | None = text_field(default=None)
    mapping_id: UUID
    action_type: str = text_field()
    parameters: dict[str, Any] = json_field()
    payload: dict[str, Any] | None = json_field(default=None)
    idempotency_key: str | None = text_field(default=None)
    status: str = text_field(default=ActionStatus.PENDING)
    result: dict[str, Any] | None = json_field(default=None)
    error: str | None = text_field(default=None)
    # What its call did not carry: `[{"property" or "parameter", "reason"}]`.
    left_out: list[dict[str, Any]] | None = Field(sa_column=Column(JSONB(none_as_null=True)), default=None)
    # Where its event stands among those about the same thing (`app/events/applied.py`).
    position: dict[str, Any] | None = json_field(default=None)
    # Whether other events changed the same thing while it ran, so that what holds is sent once more.
    contested: bool = False
    # Since when it waits for what it adds to.
    parent_missing_since: datetime | None = time_field(default=None)
    attempts: int = 0
    # Of an action that takes several calls: how many have succeeded. `result` is theirs so far.
    calls: int = 0
    started_at: datetime | None = time_field(default=None)
    finished_at: datetime | None = time_field(default=None)
    # When it is tried again, while it is tried again.
    next_attempt_at: datetime | None = time_field(default=None)
