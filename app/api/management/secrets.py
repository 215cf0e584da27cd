"""Signing secrets of a source: added, listed without their values, deleted. Doorbell's own."""

from datetime import timedelta
from uuid import UUID

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from app.api.errors import RESPONSES
from app.api.management.dependencies import (
    ConfiguredDep,
    ReadAccess,
    RuntimeDep,
    SessionDep,
    WriteAccess,
    save,
)
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Entries, Timestamp, example
from app.audit import note_change, snapshot
from app.models.source import SigningSecret
from app.signing_secrets import add_secret, delete_secret, list_secrets

router = APIRouter(
    prefix="/sources/{key}/secrets",
    tags=["Signing secrets"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)

MAXIMUM_SECRET_LENGTH = 1024
MAXIMUM_OVERLAP_SECONDS = 30 * 24 * 3600


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


class WrappedSecretRequest(BaseModel):
    """A signing secret under the key `secret`."""

    model_config = example(secret={"value": "whsec_...", "expire_others_in_seconds": 86400})

    secret: SecretRequest


class SecretResponse(BaseModel):
    """A signing secret, without its value."""

    model_config = example(
        id="01a20df1-e8fc-72f9-a988-19f172a42afd", created_at="2026-01-01T00:00:00Z", expires_at=None
    )

    id: UUID
    created_at: Timestamp
    expires_at: Timestamp | None = Field(description="When it stops verifying; never, if null.")


class WrappedSecretResponse(BaseModel):
    """A signing secret under the key `secret`."""

    secret: SecretResponse


def _response(secret: SigningSecret) -> SecretResponse:
    return SecretResponse(id=secret.id, created_at=secret.created_at, expires_at=secret.expires_at)


@router.get("", summary="List signing secrets")
async def list_signing_secrets(
    access: ReadAccess, session: SessionDep, configured: ConfiguredDep
) -> Entries[SecretResponse]:
    """The secrets of the source in an environment, newest first, expired ones too. Values are never shown."""
    found = await list_secrets(session, configured)
    return Entries[SecretResponse](entries=[_response(each) for each in found])


@router.post("", summary="Add a signing secret", status_code=201)
async def add_signing_secret(
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    body: WrappedSecretRequest,
) -> WrappedSecretResponse:
    """From now on, events signed with this secret are genuine too."""
    overlap = body.secret.expire_others_in_seconds
    secret = await add_secret(
        session,
        runtime.box,
        configured,
        body.secret.value.get_secret_value(),
        expires_at=body.secret.expires_at,
        expire_others_in=None if overlap is None else timedelta(seconds=overlap),
    )
    note_change(
        session,
        access,
        "signing_secret.added",
        ("source", configured.source_key),
        environment=configured.environment,
        after=snapshot(secret),
    )
    await save(session, runtime)
    return WrappedSecretResponse(secret=_response(secret))


@router.delete("/{id}", summary="Delete a signing secret", status_code=204)
async def delete_signing_secret(
    id: UUID, access: WriteAccess, session: SessionDep, runtime: RuntimeDep, configured: ConfiguredDep
) -> None:
    """Events signed with this secret are refused from now on."""
    await delete_secret(session, configured, id)
    note_change(
        session,
        access,
        "signing_secret.deleted",
        ("source", configured.source_key),
        environment=configured.environment,
        before={"id": str(id)},
    )
    await save(session, runtime)
