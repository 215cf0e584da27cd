"""The event log, which is also the inbox: one row for each event received, and its payload beside it.

Both tables are partitioned by day of their id (see `app.database.partitions`).
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel

from app.models.status import EventStatus, ReceivedThrough
from app.models.types import bytes_field, json_field, new_id, now, text_field, time_field


class Event(SQLModel, table=True):
    """One received event and what became of it.

    `batch_id` is shared by the events that came in one request.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index(
            "events_received", "environment", "source_key", "id", postgresql_where=text("status = 'received'")
        ),
        # Its predicate is one that no other index fits, so that a claim cannot walk what waits for its turn.
        Index(
            "events_ready",
            "environment",
            "source_key",
            "id",
            postgresql_where=text("(CASE WHEN waiting_for IS NULL THEN status END) = 'received'"),
        ),
        Index(
            "events_waiting_for",
            "waiting_for",
            "environment",
            postgresql_where=text("waiting_for IS NOT NULL"),
        ),
        Index(
            "events_processing",
            "environment",
            "lease_expires_at",
            postgresql_where=text("status = 'processing'"),
        ),
        Index(
            "events_waiting",
            "run_id",
            postgresql_where=text("status = 'processing' AND run_id IS NOT NULL"),
        ),
        Index("events_by_source", "environment", "source_key", "id"),
        Index("events_by_type", "environment", "source_key", "event_type", "id"),
        Index(
            "events_by_outcome",
            "environment",
            "source_key",
            "status",
            "id",
            postgresql_where=text("status NOT IN ('received', 'processing')"),
        ),
        Index("events_by_verification", "environment", "source_key", "verification_status", "id"),
        Index(
            "events_by_idempotency_key",
            "idempotency_key",
            "id",
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("events_by_original", "replay_of", "id", postgresql_where=text("replay_of IS NOT NULL")),
        Index("events_by_repeated", "duplicate_of", postgresql_where=text("duplicate_of IS NOT NULL")),
        Index("events_by_replay", "replay_id", "id", postgresql_where=text("replay_id IS NOT NULL")),
        Index(
            "events_failed",
            "environment",
            "source_key",
            "finished_at",
            postgresql_where=text("status = 'failed'"),
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    environment: str = text_field()
    source_key: str = text_field()
    event_type: str | None = text_field(default=None)
    idempotency_key: str | None = text_field(default=None)
    status: str = text_field(default=EventStatus.RECEIVED)
    verification_status: str = text_field()
    verification_reason: str | None = text_field(default=None)
    # Which signing secret matched when the event was received.
    signing_secret_id: UUID | None = None
    origin: str | None = text_field(default=None)
    replay_of: UUID | None = None
    # Of a replay: whether the mappings of now are evaluated or what was evaluated for the original is sent.
    replay_mappings: str | None = text_field(default=None)
    # Of a replay: whether it stands for its original, which did not succeed, under its idempotency key.
    takes_key: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    # The replay of many events that made it, if one did.
    replay_id: UUID | None = None
    duplicate_of: UUID | None = None
    received_at: datetime = time_field(default_factory=now)
    occurred_at: datetime | None = time_field(default=None)
    finished_at: datetime | None = time_field(default=None)
    lease_expires_at: datetime | None = time_field(default=None)
    workflow_id: str | None = text_field(default=None)
    run_id: str | None = text_field(default=None)
    received_through: str = text_field(default=ReceivedThrough.WEBHOOK)
    batch_id: UUID | None = None
    # What it is ordered by: events of one key are executed one after the other.
    ordering_keys: list[str] | None = Field(default=None, sa_type=ARRAY(Text))
    # The order of receipt, whatever clocks say.
    received_order: int | None = Field(
        default=None,
        sa_type=BigInteger,
        sa_column_kwargs={"server_default": text("nextval('events_received_order')")},
    )
    # The earlier event that it waits for (`app/events/ordering.py`).
    waiting_for: UUID | None = None
    # The trace of the request that brought it, when that was traced.
    traceparent: str | None = text_field(default=None)
    error: str | None = text_field(default=None)
    # When what was sent with it was deleted on request (app/retention/erasure.py).
    erased_at: datetime | None = time_field(default=None)


class EventPayload(SQLModel, table=True):
    """What the sender sent, as received. Headers that carry credentials are encrypted apart."""

    __tablename__ = "event_payloads"
    __table_args__ = ({"postgresql_partition_by": "RANGE (id)"},)

    id: UUID = Field(primary_key=True)
    body: bytes = bytes_field()
    headers: dict[str, str] = json_field()
    sensitive_headers: bytes | None = bytes_field(nullable=True, default=None)
    preprocess_output: dict[str, Any] | None = json_field(default=None)
