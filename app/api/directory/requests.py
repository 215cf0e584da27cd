"""The bodies that the directory accepts, in Knock's shapes."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from app.directory.recipients import Json, Profile, Reference
from app.models.directory import TENANTS, USERS

MAXIMUM_ID_LENGTH = 255
MAXIMUM_RECIPIENTS = 1000
MAXIMUM_SUBSCRIBERS = 100
MAXIMUM_MEMBERS = 1000
MAXIMUM_BULK_ITEMS = 1000

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAXIMUM_ID_LENGTH)]


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
            self.preferences or {},
        )


class IdentifyUserRequest(Identified):
    """A user's properties. Everything given is merged with what the user has."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "Ada Lovelace", "email": "ada@example.com", "plan": "pro"}}
    )

    email: str | None = None
    phone_number: str | None = Field(None, description="In E.164.")
    avatar: str | None = None


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


class TenantSettings(BaseModel):
    """A tenant's branding and default preferences."""

    model_config = ConfigDict(extra="allow")

    branding: Branding | None = None
    preference_set: Json | None = None


class SetTenantRequest(Identified):
    """A tenant's properties. Everything given is merged with what the tenant has."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"name": "Analytical Engines", "settings": {"branding": {"primary_color": "#1122aa"}}}
        }
    )

    settings: TenantSettings | None = None

    def profile(self, reference: Reference) -> Profile:
        profile = super().profile(reference)
        if self.settings is not None:
            profile.properties["settings"] = self.settings.model_dump(exclude_unset=True)
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
SYSTEM_COLLECTIONS = frozenset({USERS, TENANTS})
