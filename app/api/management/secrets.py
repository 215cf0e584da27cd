"""Signing secrets of a source: added, listed without their values, deleted. Doorbell's own."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import ConfiguredDep, ReadAccess, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Entries, Timestamp, WrappedRequest, example
from app.models.source import SigningSecret
from app.models.types import in_utc
from app.runtime.resources import save
from app.sources import edits as source_edits
from app.sources.endpoints import MAXIMUM_OVERLAP_SECONDS
from app.sources.secret_uses import last_matches
from app.sources.signing_secrets import list_secrets

router = APIRouter(
    prefix="/sources/{key}/secrets",
    tags=["Signing secrets"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)

MAXIMUM_SECRET_LENGTH = 1024


class SecretRequest(BaseModel):
    """A signing secret to add."""

    model_config = ConfigDict(extra="forbid")

    value: SecretStr = Field(
        min_length=1, max_length=MAXIMUM_SECRET_LENGTH, description="The secret. It is never shown again."
    )
    expires_at: AwareDatetime | None = Field(None, description="When it stops verifying; never, if null.")
    expire_others_in_seconds: int | None = Field(
        None,
        ge=0,
        le=MAXIMUM_OVERLAP_SECONDS,
        description="To rotate: let the secrets before this one verify for so long still.",
    )


class WrappedSecretRequest(WrappedRequest):
    """A signing secret under the key `secret`."""

    model_config = example(secret={"value": "whsec_...", "expire_others_in_seconds": 86400})

    secret: SecretRequest


class SecretResponse(BaseModel):
    """A signing secret, without its value."""

    model_config = example(
        id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        created_at="2026-01-01T00:00:00Z",
        expires_at=None,
        last_matched_at="2026-01-15T12:00:00Z",
    )

    id: UUID
    created_at: Timestamp
    expires_at: Timestamp | None = Field(description="When it stops verifying; never, if null.")
    last_matched_at: Timestamp | None = Field(
        description=(
            "When it last verified an event, to the minute: one that others replaced can go when it is old."
        )
    )


class WrappedSecretResponse(BaseModel):
    """A signing secret under the key `secret`."""

    secret: SecretResponse


def _response(secret: SigningSecret, last_matched_at: datetime | None = None) -> SecretResponse:
    return SecretResponse(
        id=secret.id,
        created_at=secret.created_at,
        expires_at=secret.expires_at,
        last_matched_at=last_matched_at,
    )


@router.get("", summary="List signing secrets")
async def list_signing_secrets(
    access: ReadAccess, session: SessionDep, configured: ConfiguredDep
) -> Entries[SecretResponse]:
    """The secrets of the source in an environment, newest first, expired ones too. Values are never shown."""
    found = await list_secrets(session, configured)
    matches = await last_matches(session, configured)
    return Entries[SecretResponse](entries=[_response(each, matches.get(each.id)) for each in found])


@router.post("", summary="Add a signing secret", status_code=201)
async def add_signing_secret(
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    body: WrappedSecretRequest,
) -> WrappedSecretResponse:
    """From now on, events signed with this secret are genuine too."""
    secret = await source_edits.add_signing_secret(
        session,
        access,
        runtime.box,
        configured,
        body.secret.value.get_secret_value(),
        expires_at=None if body.secret.expires_at is None else in_utc(body.secret.expires_at),
        expire_others_in_seconds=body.secret.expire_others_in_seconds,
    )
    await save(session, runtime)
    return WrappedSecretResponse(secret=_response(secret))


@router.delete("/{id}", summary="Delete a signing secret", status_code=204)
async def delete_signing_secret(
    id: UUID, access: WriteAccess, session: SessionDep, runtime: RuntimeDep, configured: ConfiguredDep
) -> None:
    """Events signed with this secret are refused from now on."""
    await source_edits.remove_signing_secret(session, access, configured, id)
    await save(session, runtime)
