"""The embedded directory's tables: what Knock would hold, per environment.

Users, objects and tenants are one thing, recipients: users are in the collection `$users`, tenants in
`$tenants`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, literal_column, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from app.models.types import json_field, new_id, now, text_field, time_field

USERS = "$users"
TENANTS = "$tenants"


def _recipient_key(collection: str, id: str) -> ForeignKeyConstraint:
    """A reference to a recipient: what refers to it goes when it goes."""
    recipient = [f"directory_recipients.{name}" for name in ("environment", "collection", "id")]
    return ForeignKeyConstraint(["environment", collection, id], recipient, ondelete="CASCADE")


def jsonb_field(**options: Any) -> Any:
    """JSON that the database itself merges. It cannot hold \\u0000, which the API refuses."""
    return Field(sa_type=JSONB, default_factory=dict, **options)


class DirectoryRecipient(SQLModel, table=True):
    """A user, object or tenant: its properties, and per channel and preference set what was set for it."""

    __tablename__ = "directory_recipients"
    # What `app/directory/search.py` searches by.
    __table_args__ = (
        Index(
            "directory_recipients_by_id_prefix",
            "environment",
            "collection",
            "id",
            postgresql_ops={"id": "text_pattern_ops"},
        ),
        *(
            Index(
                f"directory_recipients_by_{name}",
                "environment",
                "collection",
                literal_column(f"lower(properties ->> '{name}')").label("lowered"),
                postgresql_ops={"lowered": "text_pattern_ops"},
                postgresql_where=text(f"properties ->> '{name}' IS NOT NULL"),
            )
            for name in ("name", "email")
        ),
    )

    environment: str = text_field(primary_key=True)
    collection: str = text_field(primary_key=True)
    id: str = text_field(primary_key=True)
    properties: dict[str, Any] = jsonb_field()
    channel_data: dict[str, Any] = jsonb_field()
    preferences: dict[str, Any] = jsonb_field()
    inserted_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)


class DirectorySubscription(SQLModel, table=True):
    """A recipient's subscription to an object. It goes when either goes."""

    __tablename__ = "directory_subscriptions"
    __table_args__ = (
        _recipient_key("collection", "object_id"),
        _recipient_key("recipient_collection", "recipient_id"),
        Index(
            "directory_subscriptions_by_object",
            "environment",
            "collection",
            "object_id",
            "inserted_at",
            "recipient_collection",
            "recipient_id",
        ),
        Index(
            "directory_subscriptions_by_recipient",
            "environment",
            "recipient_collection",
            "recipient_id",
            "inserted_at",
            "collection",
            "object_id",
        ),
    )

    environment: str = text_field(primary_key=True)
    collection: str = text_field(primary_key=True)
    object_id: str = text_field(primary_key=True)
    recipient_collection: str = text_field(primary_key=True)
    recipient_id: str = text_field(primary_key=True)
    properties: dict[str, Any] = jsonb_field()
    inserted_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)


class DirectoryAudience(SQLModel, table=True):
    """An audience: a named group of users."""

    __tablename__ = "directory_audiences"

    environment: str = text_field(primary_key=True)
    key: str = text_field(primary_key=True)
    created_at: datetime = time_field(default_factory=now)


class DirectoryAudienceMember(SQLModel, table=True):
    """A user in an audience, within a tenant or (the empty string) within none."""

    __tablename__ = "directory_audience_members"
    __table_args__ = (
        ForeignKeyConstraint(
            ["environment", "key"],
            ["directory_audiences.environment", "directory_audiences.key"],
            ondelete="CASCADE",
        ),
        _recipient_key("user_collection", "user_id"),
        CheckConstraint(f"user_collection = '{USERS}'"),
        Index("directory_audience_members_by_user", "environment", "user_id"),
    )

    environment: str = text_field(primary_key=True)
    key: str = text_field(primary_key=True)
    user_id: str = text_field(primary_key=True)
    tenant: str = text_field(primary_key=True, default="")
    user_collection: str = text_field(default=USERS)
    added_at: datetime = time_field(default_factory=now)


class WorkflowRun(SQLModel, table=True):
    """One trigger of a workflow: what the runs of all its recipients share.

    While it is fanned out to the subscribers of its objects, `fan_out_due_at` is when to look whether that
    goes on.
    """

    __tablename__ = "workflow_runs"
    __table_args__ = (
        Index(
            "workflow_runs_by_actor",
            "environment",
            "actor_collection",
            "actor_id",
            postgresql_where=text("actor_id IS NOT NULL"),
        ),
        Index(
            "workflow_runs_fanning_out",
            "environment",
            "fan_out_due_at",
            postgresql_where=text("fan_out_due_at IS NOT NULL"),
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    environment: str = text_field()
    workflow: str = text_field()
    actor_collection: str | None = text_field(default=None)
    actor_id: str | None = text_field(default=None)
    tenant: str | None = text_field(default=None)
    cancellation_key: str | None = text_field(default=None)
    data: dict[str, Any] | None = json_field(default=None)
    settings: dict[str, Any] | None = json_field(default=None)
    version_id: UUID | None = Field(default=None, foreign_key="workflow_versions.id")
    inserted_at: datetime = time_field(default_factory=now)
    fan_out_due_at: datetime | None = time_field(default=None)


class WorkflowFanOut(SQLModel, table=True):
    """An object whose subscribers still get runs of a trigger, after which one of them. It goes when all have
    theirs.

    `depth` is 0 for a recipient of the trigger, 1 for an object that subscribes to one.
    """

    __tablename__ = "workflow_fan_outs"

    workflow_run_id: UUID = Field(foreign_key="workflow_runs.id", ondelete="CASCADE", primary_key=True)
    depth: int = Field(primary_key=True)
    collection: str = text_field(primary_key=True)
    object_id: str = text_field(primary_key=True)
    after_collection: str = text_field(default="")
    after_id: str = text_field(default="")


class WorkflowRecipientRun(SQLModel, table=True):
    """One recipient's run of a triggered workflow. What lists filter by is repeated from the trigger.

    `data` is the trigger's data with what fetch steps merged into it, once one did. `subscription` is
    `{"collection", "id", "properties"}` when the recipient has the run as a subscriber of that object.
    """

    __tablename__ = "workflow_recipient_runs"
    __table_args__ = (
        Index("workflow_recipient_runs_by_environment", "environment", "id"),
        Index("workflow_recipient_runs_by_workflow", "environment", "workflow", "id"),
        Index(
            "workflow_recipient_runs_by_recipient",
            "environment",
            "recipient_collection",
            "recipient_id",
            "id",
        ),
        Index(
            "workflow_recipient_runs_by_trigger", "workflow_run_id", "recipient_collection", "recipient_id"
        ),
        Index(
            "workflow_recipient_runs_cancellation",
            "environment",
            "workflow",
            "cancellation_key",
            postgresql_where=text("cancellation_key IS NOT NULL"),
        ),
        Index(
            "workflow_recipient_runs_queued",
            "environment",
            "id",
            postgresql_where=text("status = 'queued'"),
        ),
        Index(
            "workflow_recipient_runs_followed",
            "environment",
            "lease_expires_at",
            postgresql_where=text("status IN ('processing', 'paused')"),
        ),
        Index(
            "workflow_recipient_runs_to_stop", "environment", "id", postgresql_where=text("stop_requested")
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    environment: str = text_field()
    workflow_run_id: UUID = Field(foreign_key="workflow_runs.id", ondelete="CASCADE")
    workflow: str = text_field()
    recipient_collection: str = text_field()
    recipient_id: str = text_field()
    tenant: str | None = text_field(default=None)
    cancellation_key: str | None = text_field(default=None)
    status: str = text_field()
    error_count: int = 0
    data: dict[str, Any] | None = json_field(default=None)
    subscription: dict[str, Any] | None = json_field(default=None)
    error: str | None = text_field(default=None)
    lease_expires_at: datetime | None = time_field(default=None)
    temporal_run_id: str | None = text_field(default=None)
    stop_requested: bool = False
    inserted_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)
    started_at: datetime | None = time_field(default=None)
    finished_at: datetime | None = time_field(default=None)


class IdempotentResponse(SQLModel, table=True):
    """A successful answer kept for 24 hours under its Idempotency-Key, to be given again."""

    __tablename__ = "idempotent_responses"

    environment: str = text_field(primary_key=True)
    key: str = text_field(primary_key=True)
    request_digest: str = text_field()
    request_id: str = text_field()
    response: dict[str, Any] = json_field()
    created_at: datetime = time_field(default_factory=now, index=True)


class BulkOperation(SQLModel, table=True):
    """Many changes asked for at once and made in the background. `items` is emptied when it is done."""

    __tablename__ = "bulk_operations"
    __table_args__ = (
        Index(
            "bulk_operations_unfinished",
            "environment",
            "id",
            postgresql_where=text("status IN ('queued', 'processing')"),
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    environment: str = text_field()
    name: str = text_field()
    collection: str | None = text_field(default=None)
    status: str = text_field(default="queued")
    items: list[Any] | None = json_field(default=None)
    estimated_total_rows: int
    processed_rows: int = 0
    success_count: int = 0
    error_count: int = 0
    error_items: list[Any] = json_field(default_factory=list)
    inserted_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)
    started_at: datetime | None = time_field(default=None)
    completed_at: datetime | None = time_field(default=None)
    failed_at: datetime | None = time_field(default=None)
