"""Credentials of API callers: service tokens for the Management API, keys for the directory. Only hashes."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field, SQLModel

from app.models.types import json_field, new_id, now, text_field, time_field


class ServiceToken(SQLModel, table=True):
    """Opens the Management API for a tool or a person: of all environments, or of these (slugs)."""

    __tablename__ = "service_tokens"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str = text_field()
    scope: str = text_field()
    environments: list[str] | None = json_field(default=None)
    token_hash: str = text_field(unique=True)
    created_at: datetime = time_field(default_factory=now)
    last_used_at: datetime | None = time_field(default=None)
    revoked_at: datetime | None = time_field(default=None)


class EnvironmentKey(SQLModel, table=True):
    """A secret key (`sk_...`) that opens one environment's directory."""

    __tablename__ = "environment_keys"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    environment: str = text_field(foreign_key="environments.slug")
    name: str = text_field()
    key_hash: str = text_field(unique=True)
    # The hash of the service token that it was exchanged for: it opens nothing without that.
    exchanged_from: str | None = text_field(default=None)
    created_at: datetime = time_field(default_factory=now)
    revoked_at: datetime | None = time_field(default=None)
