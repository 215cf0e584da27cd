"""The shapes of what the directory answers, for its documentation. `answers.py` writes them."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.api.errors import RESPONSES

Shown = TypeVar("Shown", bound=BaseModel)
Json = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

# What every path may answer beside its own.
ERRORS: Responses = {status: RESPONSES[status] for status in (400, 401, 413, 422, 431, 503)}
MISSING: Responses = {404: RESPONSES[404]}


def answers(model: Any, description: str, *, missing: bool = False) -> Responses:
    """For `responses=` of a route: the body with status 200, and 404 for what may be missing."""
    return {200: {"model": model, "description": description}, **(MISSING if missing else {})}


class PreferenceSet(BaseModel):
    """Which notifications are wanted."""

    model_config = ConfigDict(extra="allow")

    id: str
    categories: Json | None = None
    channel_types: Json | None = None
    workflows: Json | None = None


class ChannelDataResponse(BaseModel):
    """What a recipient has for a channel."""

    typename: Literal["ChannelData"] = Field(alias="__typename")
    channel_id: str
    provider: str | None = Field(None, description="Always null: Doorbell does not know the channel.")
    data: Json


class User(BaseModel):
    """A user, with its properties beside the named ones."""

    model_config = ConfigDict(extra="allow")

    typename: Literal["User"] = Field(alias="__typename")
    id: str
    name: str | None = None
    email: str | None = None
    phone_number: str | None = None
    avatar: str | None = None
    timezone: str | None = None
    created_at: datetime | None = None
    updated_at: datetime
    preferences: dict[str, PreferenceSet] | None = Field(None, description="With `include=preferences`.")


class Object(BaseModel):
    """An object of a collection."""

    typename: Literal["Object"] = Field(alias="__typename")
    id: str
    collection: str
    properties: Json
    created_at: datetime | None = None
    updated_at: datetime
    preferences: dict[str, PreferenceSet] | None = Field(None, description="With `include=preferences`.")


class TenantSettings(BaseModel):
    """A tenant's branding, and the preferences that its members have by default."""

    model_config = ConfigDict(extra="allow")

    branding: Json | None = None
    preference_set: PreferenceSet | None = None


class Tenant(BaseModel):
    """A tenant, with its properties beside the named ones."""

    model_config = ConfigDict(extra="allow")

    typename: Literal["Tenant"] = Field(alias="__typename")
    id: str
    name: str | None = None
    settings: TenantSettings
    created_at: datetime | None = None
    updated_at: datetime


class SubscriptionResponse(BaseModel):
    """A recipient's subscription to an object."""

    typename: Literal["Subscription"] = Field(alias="__typename")
    object: Object
    recipient: User | Object
    properties: Json
    inserted_at: datetime
    updated_at: datetime


class AudienceMemberResponse(BaseModel):
    """A user in an audience."""

    typename: Literal["AudienceMember"] = Field(alias="__typename")
    user_id: str
    user: User
    tenant: str | None = Field(description="The tenant within which the user is a member.")
    added_at: datetime


class MessageChannel(BaseModel):
    """How a message was sent."""

    id: str
    key: str
    name: str
    type: Literal["email", "http", "in_app_feed"]
    provider: str
    created_at: datetime
    updated_at: datetime


class MessageResponse(BaseModel):
    """A message that a workflow made, without what it says."""

    model_config = ConfigDict(extra="allow")

    typename: Literal["Message"] = Field(alias="__typename")
    id: UUID
    channel_id: str
    channel: MessageChannel
    recipient: str | Json = Field(description="A user's id, or an object's id and collection.")
    actors: list[str | Json]
    tenant: str | None
    workflow: str
    source: Json = Field(description="The workflow's version, step and run.")
    status: str
    error: str | None
    engagement_statuses: list[str]


class MessageContents(BaseModel):
    """What a message says, as it was rendered."""

    typename: Literal["MessageContents"] = Field(alias="__typename")
    message_id: UUID
    inserted_at: datetime
    data: Json


class ErrorItem(BaseModel):
    """What could not be changed."""

    id: str
    collection: str


class BulkOperationResponse(BaseModel):
    """Many changes, made in the background, and how far they are."""

    typename: Literal["BulkOperation"] = Field(alias="__typename")
    id: UUID
    name: str = Field(examples=["users.identify"])
    status: Literal["queued", "processing", "completed", "failed"]
    estimated_total_rows: int
    processed_rows: int
    success_count: int
    error_count: int
    error_items: list[ErrorItem]
    progress_path: str = Field(description="The URL that shows how far the operation is.")
    inserted_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None


class DirectoryPageInfo(BaseModel):
    """Where a page is in its list."""

    typename: Literal["PageInfo"] = Field(alias="__typename")
    after: str | None = Field(description="The cursor of the next page, if there is one.")
    before: str | None = Field(description="The cursor of the page before, if there is one.")
    page_size: int


class MessagesPage(BaseModel):
    """A page of messages, in the wrapper that Knock has for them."""

    items: list[MessageResponse]
    page_info: DirectoryPageInfo


class DirectoryPage(BaseModel, Generic[Shown]):
    """A page of a list."""

    entries: list[Shown]
    page_info: DirectoryPageInfo
