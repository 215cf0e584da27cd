"""Workflow definitions, the steps of runs, and messages. The runs themselves are in
`app.models.directory`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from app.models.types import bytes_field, json_field, new_id, now, text_field, time_field


class WorkflowVersion(SQLModel, table=True):
    """What a workflow was at a time. It never changes: runs follow the version they were triggered with."""

    __tablename__ = "workflow_versions"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    environment: str = text_field()
    key: str = text_field()
    definition: dict[str, Any] = json_field()
    sha: str = text_field()
    # Secret values of the definition, encrypted.
    sealed: bytes | None = bytes_field(nullable=True, default=None)
    created_at: datetime = time_field(default_factory=now)


class WorkflowDefinition(SQLModel, table=True):
    """A workflow of an environment: its present version, and the secret that signs its webhooks
    (encrypted)."""

    __tablename__ = "workflow_definitions"

    environment: str = text_field(primary_key=True)
    key: str = text_field(primary_key=True)
    version_id: UUID = Field(foreign_key="workflow_versions.id")
    signing_secret: bytes | None = bytes_field(nullable=True, default=None)
    created_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)


class WorkflowRunStep(SQLModel, table=True):
    """One step of one recipient's run. The row is made when the run gets there."""

    __tablename__ = "workflow_run_steps"

    run_id: UUID = Field(foreign_key="workflow_recipient_runs.id", ondelete="CASCADE", primary_key=True)
    position: int = Field(primary_key=True)
    ref: str = text_field()
    type: str = text_field()
    channel_type: str | None = text_field(default=None)
    status: str = text_field()
    attempts: int = 0
    error: str | None = text_field(default=None)
    wait_until: datetime | None = time_field(default=None)
    message_id: UUID | None = None
    lease_expires_at: datetime | None = time_field(default=None)
    started_at: datetime = time_field(default_factory=now)
    finished_at: datetime | None = time_field(default=None)


class Message(SQLModel, table=True):
    """What a channel step made for its recipient: the content as rendered, and whether it was delivered."""

    __tablename__ = "messages"
    __table_args__ = (
        Index("messages_by_environment", "environment", "id"),
        Index("messages_by_workflow", "environment", "workflow", "id"),
        Index("messages_by_recipient", "environment", "recipient_collection", "recipient_id", "id"),
        Index("messages_by_run", "run_id"),
        Index("messages_by_trigger", "workflow_run_id"),
    )

    id: UUID = Field(primary_key=True)
    environment: str = text_field()
    run_id: UUID = Field(foreign_key="workflow_recipient_runs.id", ondelete="CASCADE")
    workflow_run_id: UUID
    version_id: UUID
    workflow: str = text_field()
    categories: list[str] = json_field()
    step_ref: str = text_field()
    channel_key: str = text_field()
    channel_type: str = text_field()
    recipient_collection: str = text_field()
    recipient_id: str = text_field()
    actor_collection: str | None = text_field(default=None)
    actor_id: str | None = text_field(default=None)
    tenant: str | None = text_field(default=None)
    status: str = text_field()
    error: str | None = text_field(default=None)
    content: dict[str, Any] = json_field()
    # Secret values of the content, encrypted.
    sealed: bytes | None = bytes_field(nullable=True, default=None)
    data: dict[str, Any] | None = json_field(default=None)
    inserted_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)
    seen_at: datetime | None = time_field(default=None)
    read_at: datetime | None = time_field(default=None)
    interacted_at: datetime | None = time_field(default=None)
    archived_at: datetime | None = time_field(default=None)
