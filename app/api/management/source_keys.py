"""Keys of a reverse ETL source: issued, listed without their values, revoked. Doorbell's own."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import EnvironmentDep, ReadAccess, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Entries, Timestamp, WrappedRequest, example
from app.models.source import SourceEnvironment, SourceKey
from app.runtime.resources import save
from app.sources.keys import issue_source_key, list_source_keys, revoke_source_key
from app.sources.store import get_configured

router = APIRouter(
    prefix="/sources/{key}/keys",
    tags=["Source keys"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)


class SourceKeyRequest(BaseModel):
    """What a new key is for."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        "Management API", min_length=1, max_length=255, pattern=r"\S", description="What the key is for."
    )


class WrappedSourceKeyRequest(WrappedRequest):
    """What a new key is for, under `key`."""

    model_config = example(key={"name": "Hightouch workspace"})

    key: SourceKeyRequest = SourceKeyRequest()


class SourceKeyResponse(BaseModel):
    """A key of a source. Its value is shown once, when it is issued."""

    model_config = example(
        id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        name="Hightouch workspace",
        created_at="2026-01-01T00:00:00Z",
        revoked_at=None,
        api_key=None,
    )

    id: UUID
    name: str
    created_at: Timestamp
    revoked_at: Timestamp | None = Field(description="Since when it opens nothing.")
    api_key: str | None = Field(None, description="The key itself (`sk_src_...`), when it is issued.")


class WrappedSourceKeyResponse(BaseModel):
    """A key under `key`."""

    key: SourceKeyResponse


async def _configured(key: str, session: SessionDep, environment: EnvironmentDep) -> SourceEnvironment:
    return await get_configured(session, key, environment)


ConfiguredDep = Annotated[SourceEnvironment, Depends(_configured)]


def _response(key: SourceKey, plaintext: str | None = None) -> SourceKeyResponse:
    return SourceKeyResponse(
        id=key.id, name=key.name, created_at=key.created_at, revoked_at=key.revoked_at, api_key=plaintext
    )


@router.get("", summary="List source keys")
async def list_keys(
    access: ReadAccess, session: SessionDep, configured: ConfiguredDep
) -> Entries[SourceKeyResponse]:
    """The keys of the source in an environment, newest first, revoked ones too."""
    found = await list_source_keys(session, configured)
    return Entries[SourceKeyResponse](entries=[_response(each) for each in found])


@router.post("", summary="Issue a source key", status_code=201)
async def issue_key(
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    body: WrappedSourceKeyRequest | None = None,
) -> WrappedSourceKeyResponse:
    """A key with which a reverse ETL tool calls Knock's API in the name of this source. It is shown this
    once."""
    name = (body or WrappedSourceKeyRequest()).key.name
    key, plaintext = await issue_source_key(session, access, configured, name)
    await save(session, runtime)
    return WrappedSourceKeyResponse(key=_response(key, plaintext))


@router.delete("/{id}", summary="Revoke a source key", status_code=204)
async def revoke_key(
    id: UUID, access: WriteAccess, session: SessionDep, runtime: RuntimeDep, configured: ConfiguredDep
) -> None:
    """The key opens nothing from now on."""
    await revoke_source_key(session, access, configured, id)
    await save(session, runtime)
