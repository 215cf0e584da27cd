"""How long things are kept: what was set through the API. What was not set is as the process's settings
say."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from app.models.types import now, text_field, time_field


class Retention(SQLModel, table=True):
    """The days that one kind of thing is kept (`app.retention.periods.Kind`)."""

    __tablename__ = "retention"

    kind: str = text_field(primary_key=True)
    days: int = Field()
    updated_at: datetime = time_field(default_factory=now)
