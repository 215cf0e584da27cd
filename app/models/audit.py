"""The audit log: who changed which part of the configuration, and what it was before and after."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from app.models.types import json_field, new_id, now, text_field, time_field


class AuditEntry(SQLModel, table=True):
    """One change. `before` and `after` hold no secrets; they are None where there was nothing, or is nothing
    now."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_by_resource", "resource_type", "resource_key", "id"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    actor_name: str = text_field()
    actor_scope: str = text_field()
    action: str = text_field()
    environment: str | None = text_field(default=None)
    resource_type: str = text_field()
    resource_key: str = text_field()
    before: dict[str, Any] | None = json_field(default=None)
    after: dict[str, Any] | None = json_field(default=None)
    inserted_at: datetime = time_field(default_factory=now)
