"""Environments, where their actions run, and the keys of their directories."""

from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from app.account.audit import environment_snapshot, note_change, snapshot
from app.account.environments import get_environment, page_of_environments
from app.account.tokens import add_key, list_keys, revoke_key
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import AdminAccess, PageDep, ReadAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import (
    Entries,
    EntriesPage,
    EnvironmentResponse,
    Json,
    Timestamp,
    WrappedRequest,
    environment_response,
    example,
    page_of,
)
from app.models.credential import EnvironmentKey
from app.models.environment import Environment
from app.outbound.edits import set_destination
from app.runtime.resources import save

router = APIRouter(
    prefix="/environments",
    tags=["Environments"],
    route_class=ManagementRoute,
)
NOT_FOUND: dict[int | str, Json] = {404: RESPONSES[404]}


async def _environment(environment_slug: str, session: SessionDep) -> Environment:
    return await get_environment(session, environment_slug)


EnvironmentPath = Annotated[Environment, Depends(_environment)]


@router.get("", summary="List environments")
async def list_environments(
    access: ReadAccess, session: SessionDep, page: PageDep
) -> EntriesPage[EnvironmentResponse]:
    """The environments in their order; of a token that is limited to some, those."""
    found = await page_of_environments(session, page, access.permits)
    return page_of(found, EnvironmentResponse, environment_response)


@router.get("/{environment_slug}", summary="Get an environment", responses=NOT_FOUND)
async def read_environment(access: ReadAccess, environment: EnvironmentPath) -> EnvironmentResponse:
    """The environment."""
    return environment_response(environment)


def _base_url(text: str) -> str:
    """An http or https URL that names nothing but a place."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("is not an http or https URL, for example https://api.knock.app")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not have a user, a query or a fragment")
    return text.rstrip("/")


class DestinationRequest(BaseModel):
    """Where actions run."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, StringConstraints(max_length=2048), AfterValidator(_base_url)] = Field(
        description="Knock, or what speaks its API."
    )
    api_key: SecretStr | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description=(
            "Its secret key, never shown again. Without it, the present one stays for the present URL."
        ),
    )
    verify: bool = Field(
        True,
        description="List one user there before saving, and refuse with the answer when that fails. "
        "False saves without a call, for a destination that cannot be reached now.",
    )


class WrappedDestinationRequest(WrappedRequest):
    """Where actions run; null is the embedded directory."""

    model_config = example(destination={"url": "https://api.knock.app", "api_key": "sk_..."})

    destination: DestinationRequest | None


class DestinationResponse(BaseModel):
    """Where actions run."""

    url: str
    has_key: bool = Field(description="Whether a key is set. It is never shown.")


class WrappedDestinationResponse(BaseModel):
    """Where actions run; null is the embedded directory."""

    model_config = example(destination={"url": "https://api.knock.app", "has_key": True})

    destination: DestinationResponse | None


def _destination(environment: Environment) -> WrappedDestinationResponse:
    if environment.destination_url is None:
        return WrappedDestinationResponse(destination=None)
    destination = DestinationResponse(
        url=environment.destination_url, has_key=environment.destination_key is not None
    )
    return WrappedDestinationResponse(destination=destination)


@router.get("/{environment_slug}/destination", summary="Get the destination", responses=NOT_FOUND)
async def read_destination(access: ReadAccess, environment: EnvironmentPath) -> WrappedDestinationResponse:
    """Where the environment's actions run."""
    return _destination(environment)


@router.put("/{environment_slug}/destination", summary="Set the destination", responses=NOT_FOUND)
async def save_destination(
    access: AdminAccess,
    environment: EnvironmentPath,
    session: SessionDep,
    runtime: RuntimeDep,
    body: WrappedDestinationRequest,
) -> WrappedDestinationResponse:
    """Let the environment's actions run against Knock, or with null against the embedded directory."""
    wanted = body.destination
    key = wanted.api_key.get_secret_value() if wanted and wanted.api_key else None
    before = {**environment_snapshot(environment), "new_destination_key": False}
    await set_destination(
        session,
        runtime.box,
        environment,
        wanted.url if wanted else None,
        key,
        verify=wanted is not None and wanted.verify,
    )
    note_change(
        session,
        access,
        "destination.updated",
        ("environment", environment.slug),
        environment=environment.slug,
        before=before,
        after={**environment_snapshot(environment), "new_destination_key": key is not None},
    )
    await save(session, runtime)
    return _destination(environment)


class KeyRequest(BaseModel):
    """A key to issue."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("API", min_length=1, max_length=255, pattern=r"\S", description="What the key is for.")


class WrappedKeyRequest(WrappedRequest):
    """A key under the key `key`."""

    model_config = example(key={"name": "backend"})

    key: KeyRequest = KeyRequest()


class KeyResponse(BaseModel):
    """A key of an environment's directory. `api_key` is there once, in the answer that issues it."""

    model_config = example(
        id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        name="backend",
        created_at="2026-01-01T00:00:00Z",
        revoked_at=None,
    )

    id: UUID
    name: str
    created_at: Timestamp
    revoked_at: Timestamp | None
    api_key: str | None = None


class WrappedKeyResponse(BaseModel):
    """A key under the key `key`."""

    model_config = example(
        key={
            "id": "01a20df1-e8fc-72f9-a988-19f172a42afd",
            "name": "backend",
            "created_at": "2026-01-01T00:00:00Z",
            "revoked_at": None,
            "api_key": "sk_...",
        }
    )

    key: KeyResponse


def _key(key: EnvironmentKey) -> KeyResponse:
    return KeyResponse(id=key.id, name=key.name, created_at=key.created_at, revoked_at=key.revoked_at)


@router.get(
    "/{environment_slug}/keys",
    summary="List keys",
    response_model=Entries[KeyResponse],
    response_model_exclude_unset=True,
    responses=NOT_FOUND,
)
async def list_environment_keys(
    access: AdminAccess, environment: EnvironmentPath, session: SessionDep
) -> Entries[KeyResponse]:
    """The keys of the environment, newest first, revoked ones too."""
    found = await list_keys(session, environment.slug)
    return Entries[KeyResponse](entries=[_key(each) for each in found])


@router.post("/{environment_slug}/keys", summary="Issue a key", status_code=201, responses=NOT_FOUND)
async def issue_environment_key(
    access: AdminAccess,
    environment: EnvironmentPath,
    session: SessionDep,
    body: WrappedKeyRequest | None = None,
) -> WrappedKeyResponse:
    """A secret key that opens the environment's directory. It is shown this once."""
    name = (body or WrappedKeyRequest()).key.name
    key, plaintext = await add_key(session, environment.slug, name)
    resource = ("environment", environment.slug)
    note_change(
        session, access, "api_key.issued", resource, environment=environment.slug, after=snapshot(key)
    )
    await session.commit()
    return WrappedKeyResponse(key=_key(key).model_copy(update={"api_key": plaintext}))


@router.delete("/{environment_slug}/keys/{id}", summary="Revoke a key", status_code=204, responses=NOT_FOUND)
async def revoke_environment_key(
    id: UUID, access: AdminAccess, environment: EnvironmentPath, session: SessionDep
) -> None:
    """The key opens nothing from now on."""
    await revoke_key(session, environment.slug, id)
    resource = ("environment", environment.slug)
    note_change(
        session, access, "api_key.revoked", resource, environment=environment.slug, before={"id": str(id)}
    )
    await session.commit()
