"""The order in which events of one ordering key are executed (`app/events/ordering.py`)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field, SQLModel

from app.models.types import text_field, time_field


class OrderingTurn(SQLModel, table=True):
    """The turn of an unfinished event at one of its ordering keys. `taken_at` is set while it has the key."""

    __tablename__ = "ordering_turns"
    __table_args__ = (
        Index(
            "ordering_turns_taken",
            "environment",
            "source_key",
            "ordering_key",
            postgresql_where=text("taken_at IS NOT NULL"),
        ),
    )

    environment: str = text_field(primary_key=True)
    source_key: str = text_field(primary_key=True)
    ordering_key: str = text_field(primary_key=True)
    received_order: int = Field(primary_key=True, sa_type=BigInteger)
    event_id: UUID
    taken_at: datetime | None = time_field(default=None)
