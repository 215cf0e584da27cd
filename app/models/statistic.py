"""Statistics: counts of closed minutes and of longer times, made by `app.logs.rollup` and read by
`app.logs.statistics`."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlmodel import Field, SQLModel

from app.models.types import text_field, time_field


class Statistic(SQLModel, table=True):
    """How many of something there were in the `resolution` seconds from `starts_at` on.

    `subject` is `event` (`name` is its type, `status` what became of it), `action` (its action type, and what
    became of it) or `latency` (events that ran actions; `status` is the step of
    `app.logs.statistics.LATENCY_STEPS`). An empty `name` of an event: it has no type, or one beyond the most
    frequent ones of its source.
    """

    __tablename__ = "statistics"
    __table_args__ = (
        Index(
            "statistics_unfinished",
            "resolution",
            "starts_at",
            postgresql_where=text("subject = 'event' AND status IN ('received', 'processing')"),
        ),
    )

    resolution: int = Field(primary_key=True)
    starts_at: datetime = time_field(primary_key=True)
    environment: str = text_field(primary_key=True)
    subject: str = text_field(primary_key=True)
    source_key: str = text_field(primary_key=True)
    name: str = text_field(primary_key=True)
    status: str = text_field(primary_key=True)
    count: int = Field(sa_type=BigInteger)


class StatisticsProgress(SQLModel, table=True):
    """How far the statistics are: what has a smaller id than `next_id` is counted in them. One row."""

    __tablename__ = "statistics_progress"
    __table_args__ = (CheckConstraint("only_row"),)

    only_row: bool = Field(default=True, primary_key=True)
    next_id: UUID
    updated_at: datetime = time_field()
