"""Failure alerts: the window in which a source may alert once, what was said, and how it was delivered."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from app.models.status import AlertStatus
from app.models.types import bytes_field, json_field, new_id, now, text_field, time_field


class AlertWindow(SQLModel, table=True):
    """Until when a source in an environment has alerted. Whoever moves `ends_at` makes the alert."""

    __tablename__ = "alert_windows"

    source_environment_id: UUID = Field(
        foreign_key="source_environments.id", ondelete="CASCADE", primary_key=True
    )
    ends_at: datetime = time_field()


class AlertSecret(SQLModel, table=True):
    """The secret that signs a source's alerts in an environment, encrypted."""

    __tablename__ = "alert_secrets"

    source_environment_id: UUID = Field(
        foreign_key="source_environments.id", ondelete="CASCADE", primary_key=True
    )
    ciphertext: bytes = bytes_field()
    created_at: datetime = time_field(default_factory=now)


class Alert(SQLModel, table=True):
    """One alert. `report` is what it says, as it is sent, unchanged on every attempt."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index("alerts_by_source", "source_environment_id", "id"),
        Index("alerts_by_status", "environment", "status", "id"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    source_environment_id: UUID = Field(foreign_key="source_environments.id", ondelete="CASCADE")
    environment: str = text_field()
    status: str = text_field(default=AlertStatus.QUEUED)
    report: dict[str, Any] = json_field()
    created_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)


class AlertDelivery(SQLModel, table=True):
    """An alert on its way to one receiver: a webhook's URL, or the email addresses. `error`: of the last
    attempt."""

    __tablename__ = "alert_deliveries"

    alert_id: UUID = Field(foreign_key="alerts.id", ondelete="CASCADE", primary_key=True)
    channel: str = text_field(primary_key=True)
    receiver: str = text_field()
    status: str = text_field(default=AlertStatus.QUEUED)
    attempts: int = 0
    error: str | None = text_field(default=None)
    finished_at: datetime | None = time_field(default=None)
