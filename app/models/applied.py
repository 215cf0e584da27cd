"""What was last applied to users, objects, tenants and memberships at a destination."""

from datetime import date
from typing import Any

from sqlalchemy import BigInteger, Column, Date, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from app.models.types import text_field


class AppliedChange(SQLModel, table=True):
    """One user, object or tenant at a destination; with a `target`, its membership in that.

    `properties` holds, for each property that an action set, the mark of the event (`app/events/applied.py`);
    `deleted` the mark of the last event that deleted it. `version` counts the changes, those of one event in
    a row as one; `last_event` made the last one.
    """

    __tablename__ = "applied_changes"
    __table_args__ = (Index("applied_changes_by_day", "last_on"),)

    environment: str = text_field(primary_key=True)
    collection: str = text_field(primary_key=True)
    id: str = text_field(primary_key=True)
    target: str = text_field(primary_key=True)
    destination: str = text_field(primary_key=True)
    properties: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    deleted: dict[str, Any] | None = Field(sa_column=Column(JSONB), default=None)
    version: int = Field(sa_type=BigInteger)
    last_event: str = text_field()
    # A day, not a time: an index on what changes at every update would cost each of them.
    last_on: date = Field(sa_type=Date)
