"""Sources, their configuration per environment, signing secrets, and mappings from event types to actions."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from app.models.types import bytes_field, json_field, new_id, now, text_field, time_field

DEFAULT_IDEMPOTENCY_WINDOW = timedelta(hours=24)


class Source(SQLModel, table=True):
    """Something that sends events. One for the account, configured per environment."""

    __tablename__ = "sources"

    key: str = text_field(primary_key=True)
    name: str = text_field()
    description: str | None = text_field(default=None)
    custom_image_url: str | None = text_field(default=None)
    provider: str = text_field()
    created_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)


class SourceEnvironment(SQLModel, table=True):
    """A source's configuration in one environment: its endpoint and settings."""

    __tablename__ = "source_environments"
    __table_args__ = (UniqueConstraint("source_key", "environment"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    source_key: str = text_field(foreign_key="sources.key", ondelete="CASCADE")
    environment: str = text_field(foreign_key="environments.slug")
    endpoint_token: str = text_field(unique=True)
    event_type_path: str | None = text_field(default=None)
    idempotency_key_path: str | None = text_field(default=None)
    # Events with the same value there are executed one after the other; None: all side by side.
    ordering_key_path: str | None = text_field(default=None)
    # For how many seconds at most an event that is executed holds up the next one of its key.
    ordering_hold: int | None = None
    timestamp_path: str | None = text_field(default=None)
    enforce_verification: bool = True
    enforce_idempotency: bool = True
    idempotency_window: timedelta = DEFAULT_IDEMPOTENCY_WINDOW
    start_unmapped: bool = True
    handle_identifies: bool | None = None
    strict_batches: bool = False
    # JavaScript that verifies and preprocesses this source's events; None leaves both to the provider.
    preprocess_script: str | None = text_field(default=None)
    rate_limit_per_second: int | None = None
    # When failures are told of, and to whom (`app.alert_rules`); None is never.
    failure_alert: dict[str, Any] | None = json_field(default=None)
    created_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)


class ReplacedEndpointToken(SQLModel, table=True):
    """A token that a rotation replaced: events sent to its URL are still accepted until it expires."""

    __tablename__ = "replaced_endpoint_tokens"

    token: str = text_field(primary_key=True)
    source_environment_id: UUID = Field(foreign_key="source_environments.id", ondelete="CASCADE", index=True)
    created_at: datetime = time_field(default_factory=now)
    expires_at: datetime = time_field()


class SigningSecret(SQLModel, table=True):
    """A secret that verifies a source's events. Several at once, until they expire, for rotation."""

    __tablename__ = "signing_secrets"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    source_environment_id: UUID = Field(foreign_key="source_environments.id", ondelete="CASCADE", index=True)
    ciphertext: bytes = bytes_field()
    created_at: datetime = time_field(default_factory=now)
    expires_at: datetime | None = time_field(default=None)


class SigningSecretUse(SQLModel, table=True):
    """When a secret last matched, to the minute (`app/sources/secret_uses.py`)."""

    __tablename__ = "signing_secret_uses"

    secret_id: UUID = Field(foreign_key="signing_secrets.id", ondelete="CASCADE", primary_key=True)
    last_matched_at: datetime = time_field()


class SourceKey(SQLModel, table=True):
    """A key (`sk_src_...`) with which a reverse ETL tool calls Knock's API in the name of a source. Only its
    hash."""

    __tablename__ = "source_keys"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    source_environment_id: UUID = Field(foreign_key="source_environments.id", ondelete="CASCADE", index=True)
    name: str = text_field()
    key_hash: str = text_field(unique=True)
    created_at: datetime = time_field(default_factory=now)
    revoked_at: datetime | None = time_field(default=None)


class Mapping(SQLModel, table=True):
    """Runs an action, with parameters taken from the event, when an event of a type arrives."""

    __tablename__ = "mappings"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    source_environment_id: UUID = Field(foreign_key="source_environments.id", ondelete="CASCADE", index=True)
    event_type: str = text_field()
    action_type: str = text_field()
    action_parameters: dict[str, Any] = json_field(default_factory=dict)
    active: bool = True
    # Whether an event that is older than what was applied changes nothing.
    skip_older: bool = False
    # When an event runs the action (`app/actions/conditions.py`); None: always.
    conditions: dict[str, Any] | None = json_field(default=None)
    created_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)
