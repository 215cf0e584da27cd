"""When the tables were last maintained."""

from datetime import datetime

from sqlalchemy import CheckConstraint
from sqlmodel import Field, SQLModel

from app.models.types import time_field


class LastMaintenance(SQLModel, table=True):
    """The end of the last round that did all of its work; at first, when the table was made. One row."""

    __tablename__ = "maintenance"
    __table_args__ = (CheckConstraint("only_row"),)

    only_row: bool = Field(default=True, primary_key=True)
    succeeded_at: datetime = time_field()
