"""The bodies that the directory accepts, in Knock's shapes."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StringConstraints,
    Tag,
)

from app.directory.audiences import Membership
from app.directory.recipients import TENANT_PREFERENCE_SET, Json, Profile, Reference
from app.directory.subscriptions import Subscribers

MAXIMUM_ID_LENGTH = 255
# Four ids and an environment's slug fit into one entry of an index, which has at most 2,704 bytes.
MAXIMUM_ID_BYTES = 600
MAXIMUM_RECIPIENTS = 1000
MAXIMUM_SUBSCRIBERS = 100
MAXIMUM_MEMBERS = 1000
MAXIMUM_BULK_ITEMS = 1000


def _fits_an_index(id: str) -> str:
    if len(id.encode()) > MAXIMUM_ID_BYTES:
        raise ValueError(f"has more than {MAXIMUM_ID_BYTES} bytes")
    return id


Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAXIMUM_ID_LENGTH),
    AfterValidator(_fits_an_index),
]


class Identified(BaseModel):
    """What all recipients share. Properties beside the named ones are kept as they are."""

    model_config = ConfigDict(extra="allow")

    # Not properties: they name the recipient, or have a column of their own.
    apart: ClassVar[frozenset[str]] = frozenset(
        {"id", "collection", "channel_data", "preferences", "__typename"}
    )

    name: str | None = None
    created_at: AwareDatetime | None = Field(None, description="When it was created in your system.")
    timezone: str | None = Field(None, description="A name of the tz database.")
    locale: str | None = None
    channel_data: dict[str, Json] | None = Field(
        None, description="By channel id. What is given replaces what the channel had."
    )
    preferences: dict[str, Json] | None = Field(
        None,
        description="By preference set id. Merged, unless the set says `__persistence_strategy__: replace`.",
    )

    def profile(self, reference: Reference) -> Profile:
        """What this sets on the recipient."""
        given = {
            name: getattr(self, name) for name in self.model_fields_set if name in type(self).model_fields
        }
        if self.created_at is not None:
            given["created_at"] = self.created_at.isoformat().replace("+00:00", "Z")
        properties = {**(self.model_extra or {}), **given}
        return Profile(
            reference,
            {name: value for name, value in properties.items() if name not in self.apart},
            self.channel_data or {},
            dict(self.preferences or {}),
        )


class IdentifyUserRequest(Identified):
    """A user's properties. Everything given is merged with what the user has."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "Ada Lovelace", "email": "ada@example.com", "plan": "pro"}}
    )

    email: str | None = None
    phone_number: str | None = Field(None, description="In E.164.")
    avatar: str | None = None


class PreferenceSetRequest(BaseModel):
    """A preference set. It replaces the stored one, unless it says `__persistence_strategy__: merge`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"workflows": {"invoice-paid": False}}},
        serialize_by_alias=True,
    )

    id: str | None = Field(None, exclude=True, description="As answers have it; the path names the set.")
    strategy: Literal["merge", "replace"] = Field(
        "replace", alias="__persistence_strategy__", description="What becomes of the stored set."
    )
    categories: dict[str, StrictBool | Json] | None = None
    channel_types: dict[str, StrictBool | Json] | None = None
    channels: dict[str, StrictBool | Json] | None = None
    commercial_subscribed: StrictBool | Json | None = None
    workflows: dict[str, StrictBool | Json] | None = None

    def stored(self) -> Json:
        """The set as identifying a recipient would have it."""
        return {**self.model_dump(exclude_unset=True), "__persistence_strategy__": self.strategy}


class ChannelDataRequest(BaseModel):
    """What a recipient has for a channel."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"data": {"tokens": ["device-token"]}}}
    )

    data: Json


class InlineUser(IdentifyUserRequest):
    """A user to identify: an id and properties."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": "user_1", "name": "Ada Lovelace"}})

    id: Id

    @property
    def reference(self) -> Reference:
        return Reference.to_user(self.id)


class SetObjectRequest(Identified):
    """An object's properties. Everything given is merged with what the object has."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "Rocket", "price": 100}})


class InlineObject(SetObjectRequest):
    """An object to identify: an id, a collection and properties."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": "project_1", "collection": "projects"}})

    id: Id
    collection: Id

    @property
    def reference(self) -> Reference:
        return Reference(self.collection, self.id)


class Branding(BaseModel):
    """How a tenant looks in messages."""

    model_config = ConfigDict(extra="allow")

    primary_color: str | None = None
    primary_color_contrast: str | None = None
    icon_url: str | None = None
    logo_url: str | None = None
    dark_primary_color: str | None = None
    dark_primary_color_contrast: str | None = None
    dark_icon_url: str | None = None
    dark_logo_url: str | None = None


class TenantSettingsRequest(BaseModel):
    """A tenant's branding and default preferences."""

    model_config = ConfigDict(extra="allow")

    branding: Branding | None = None
    preference_set: Json | None = Field(
        None,
        description="Merged, unless it says `__persistence_strategy__: replace`. Null empties it.",
    )


class SetTenantRequest(Identified):
    """A tenant's properties. Everything given is merged with what the tenant has."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"name": "Analytical Engines", "settings": {"branding": {"primary_color": "#1122aa"}}}
        }
    )

    settings: TenantSettingsRequest | None = None

    def profile(self, reference: Reference) -> Profile:
        profile = super().profile(reference)
        if self.settings is None:
            return profile
        settings = self.settings.model_dump(exclude_unset=True)
        if "preference_set" in settings:
            given = settings.pop("preference_set")
            replaced = {"__persistence_strategy__": "replace"}
            profile.preferences[TENANT_PREFERENCE_SET] = replaced if given is None else given
        profile.properties["settings"] = settings
        return profile


class InlineTenant(SetTenantRequest):
    """A tenant to set: an id and properties."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": "tenant_1", "name": "Analytical Engines"}})

    id: Id

    @property
    def reference(self) -> Reference:
        return Reference.to_tenant(self.id)


class ObjectReference(BaseModel):
    """An object that is there already."""

    id: Id
    collection: Id

    @property
    def reference(self) -> Reference:
        return Reference(self.collection, self.id)


def _kind(value: Any) -> str:
    """Which form of a recipient this is, so that errors are about that form only."""
    if isinstance(value, str):
        return "id-string"
    has_collection = "collection" in value if isinstance(value, dict) else hasattr(value, "collection")
    return "inline-object" if has_collection else "inline-user"


def _string_or(tag: str) -> Discriminator:
    return Discriminator(lambda value: "id-string" if isinstance(value, str) else tag)


RecipientRequest = Annotated[
    Annotated[Id, Tag("id-string")]
    | Annotated[InlineUser, Tag("inline-user")]
    | Annotated[InlineObject, Tag("inline-object")],
    Discriminator(_kind),
]
TenantRequest = Annotated[
    Annotated[Id, Tag("id-string")] | Annotated[InlineTenant, Tag("inline-tenant")],
    _string_or("inline-tenant"),
]
RecipientReference = Annotated[
    Annotated[Id, Tag("id-string")] | Annotated[ObjectReference, Tag("reference")], _string_or("reference")
]


def reference_of(recipient: "str | InlineUser | InlineObject | ObjectReference") -> Reference:
    """Which recipient is meant."""
    return Reference.to_user(recipient) if isinstance(recipient, str) else recipient.reference


def profile_of(recipient: "str | InlineUser | InlineObject") -> Profile:
    """What to identify of it; an id alone identifies a user without properties."""
    reference = reference_of(recipient)
    return Profile(reference) if isinstance(recipient, str) else recipient.profile(reference)


class UpsertSubscriptionsRequest(BaseModel):
    """Who is subscribed; those given as objects are identified first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"recipients": ["user_1", {"id": "user_2"}], "properties": {"role": "owner"}}
        }
    )

    recipients: list[RecipientRequest] = Field(max_length=MAXIMUM_SUBSCRIBERS)
    properties: Json | None = Field(None, description="Merged with what the subscriptions have.")

    def subscribers(self, object: Reference) -> Subscribers:
        """Who is to be subscribed to the object, with what."""
        return Subscribers(object, [profile_of(each) for each in self.recipients], self.properties or {})


class DeleteSubscriptionsRequest(BaseModel):
    """Whose subscriptions are removed."""

    model_config = ConfigDict(json_schema_extra={"example": {"recipients": ["user_1"]}})

    recipients: list[RecipientReference] = Field(max_length=MAXIMUM_SUBSCRIBERS)

    def references(self) -> list[Reference]:
        return [reference_of(each) for each in self.recipients]


class AudienceMemberRequest(BaseModel):
    """A user, and the tenant within which it is a member."""

    user: InlineUser
    tenant: Id | None = None

    @property
    def membership(self) -> Membership:
        return Membership(self.user.profile(self.user.reference), self.tenant)


class AudienceMembersRequest(BaseModel):
    """Members to add, who are identified first, or to remove."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"members": [{"user": {"id": "user_1", "name": "Ada Lovelace"}, "tenant": "tenant_1"}]}
        }
    )

    members: list[AudienceMemberRequest] = Field(max_length=MAXIMUM_MEMBERS)

    def memberships(self) -> Sequence[Membership]:
        return [each.membership for each in self.members]


class BulkIdentifyUsersRequest(BaseModel):
    """Users to create or update."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"users": [{"id": "user_1", "name": "Ada Lovelace"}]}}
    )

    users: list[InlineUser] = Field(max_length=MAXIMUM_BULK_ITEMS)


class BulkDeleteUsersRequest(BaseModel):
    """Users to delete."""

    model_config = ConfigDict(json_schema_extra={"example": {"user_ids": ["user_1", "user_2"]}})

    user_ids: list[Id] = Field(max_length=MAXIMUM_BULK_ITEMS)


class BulkSetObjectRequest(SetObjectRequest):
    """An object to set: an id and properties."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": "project_1", "name": "My project"}})

    id: Id


class BulkSetObjectsRequest(BaseModel):
    """Objects of one collection to create or update."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"objects": [{"id": "project_1", "name": "My project"}]}}
    )

    objects: list[BulkSetObjectRequest] = Field(max_length=MAXIMUM_BULK_ITEMS)


class BulkDeleteObjectsRequest(BaseModel):
    """Objects of one collection to delete."""

    model_config = ConfigDict(json_schema_extra={"example": {"object_ids": ["project_1", "project_2"]}})

    object_ids: list[Id] = Field(max_length=MAXIMUM_BULK_ITEMS)


class ObjectSubscribersRequest(UpsertSubscriptionsRequest):
    """An object, and who is subscribed to it."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": "project_1", "recipients": ["user_1"]}})

    id: Id


class BulkUpsertSubscriptionsRequest(BaseModel):
    """Objects of one collection, and who is subscribed to each."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"subscriptions": [{"id": "project_1", "recipients": [{"id": "user_1"}]}]}
        }
    )

    subscriptions: list[ObjectSubscribersRequest] = Field(max_length=MAXIMUM_BULK_ITEMS)


class ObjectUnsubscribersRequest(DeleteSubscriptionsRequest):
    """An object, and whose subscriptions to it are removed."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": "project_1", "recipients": ["user_1"]}})

    id: Id


class BulkDeleteSubscriptionsRequest(BaseModel):
    """Objects of one collection, and whose subscriptions to each are removed."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"subscriptions": [{"id": "project_1", "recipients": ["user_1"]}]}}
    )

    subscriptions: list[ObjectUnsubscribersRequest] = Field(max_length=MAXIMUM_BULK_ITEMS)


class BulkSetTenantsRequest(BaseModel):
    """Tenants to create or update; an id alone creates one without properties."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"tenants": [{"id": "tenant_1", "name": "Acme Corp"}]}}
    )

    tenants: list[TenantRequest] = Field(max_length=MAXIMUM_BULK_ITEMS)

    def profiles(self) -> list[Profile]:
        return [
            Profile(Reference.to_tenant(each)) if isinstance(each, str) else each.profile(each.reference)
            for each in self.tenants
        ]


class TriggerSettings(BaseModel):
    """How a workflow runs for this trigger."""

    sandbox_mode: bool | None = None
    skip_delay: bool | None = None


class TriggerWorkflowRequest(BaseModel):
    """Whom to run a workflow for, and with what."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "recipients": ["user_1", {"id": "user_2", "email": "grace@example.com"}],
                "data": {"amount": 4999},
                "cancellation_key": "invoice_17",
            }
        }
    )

    recipients: list[RecipientRequest] = Field(max_length=MAXIMUM_RECIPIENTS, min_length=1)
    actor: RecipientRequest | None = None
    tenant: TenantRequest | None = None
    cancellation_key: Id | None = None
    data: Json | None = None
    settings: TriggerSettings | None = None

    def profiles(self) -> list[Profile]:
        """Everyone who is identified inline."""
        named = [*self.recipients, self.actor, self.tenant]
        return [
            each.profile(each.reference) for each in named if each is not None and not isinstance(each, str)
        ]


class CancelWorkflowRequest(BaseModel):
    """Which runs to cancel."""

    model_config = ConfigDict(json_schema_extra={"example": {"cancellation_key": "invoice_17"}})

    cancellation_key: Id
    recipients: list[RecipientReference] | None = Field(None, max_length=MAXIMUM_RECIPIENTS)


class MergeUserRequest(BaseModel):
    """Which user to merge."""

    model_config = ConfigDict(json_schema_extra={"example": {"from_user_id": "invited_1"}})

    from_user_id: Id


RunStatus = Literal["queued", "processing", "paused", "completed", "cancelled"]
