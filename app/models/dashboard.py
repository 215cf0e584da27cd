"""Sessions of the dashboard."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field, SQLModel

from app.models.types import new_id, now, text_field, time_field


class DashboardSession(SQLModel, table=True):
    """Somebody who is logged in with a service token, or, while there is a `link_hash`, a link that logs in
    once.

    `token_hash` is the hash of the token: who revokes the token ends its sessions.
    """

    __tablename__ = "dashboard_sessions"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    token_hash: str = text_field()
    link_hash: str | None = text_field(default=None, unique=True)
    created_at: datetime = time_field(default_factory=now)
    expires_at: datetime = time_field()
