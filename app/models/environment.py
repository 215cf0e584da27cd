"""Environments: `development`, `production`, ... Each has its own configuration of a source and its own
destination."""

from datetime import datetime

from sqlmodel import SQLModel

from app.models.types import bytes_field, now, text_field, time_field


class Environment(SQLModel, table=True):
    """One environment. Its `slug` is its name in URLs, task queues and workflow ids, and never changes."""

    __tablename__ = "environments"

    slug: str = text_field(primary_key=True)
    name: str = text_field()
    order: int
    owner: str = text_field(default="user")
    label_color: str | None = text_field(default=None)
    hide_pii_data: bool = False
    is_production: bool = False
    # The destination: Knock or something that speaks its API. None is the embedded directory.
    destination_url: str | None = text_field(default=None)
    destination_key: bytes | None = bytes_field(nullable=True, default=None)
    created_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)
    deleted_at: datetime | None = time_field(default=None)
