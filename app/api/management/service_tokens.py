"""Service tokens, which open this API. Doorbell's own."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.account.audit import note_change, snapshot
from app.account.tokens import Scope, add_token, list_tokens, revoke_token
from app.api.dependencies import SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import AdminAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Entries, Timestamp, WrappedRequest, example
from app.models.credential import ServiceToken

router = APIRouter(prefix="/service_tokens", tags=["Service tokens"], route_class=ManagementRoute)


class TokenRequest(BaseModel):
    """A service token to issue."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255, pattern=r"\S", description="What the token is for.")
    scope: Scope = Field(
        Scope.WRITE, description="`read`, `write` (includes read) or `admin` (includes write)."
    )
    environments: list[str] | None = Field(
        None,
        min_length=1,
        description="The environments (slugs) that it is limited to; null is all. A limited token reads "
        "and changes "
        "nothing of others, and nothing of the account: no tokens, environments, variables or audit log.",
    )


class WrappedTokenRequest(WrappedRequest):
    """A service token under the key `service_token`."""

    model_config = example(service_token={"name": "ci", "scope": "write", "environments": ["development"]})

    service_token: TokenRequest


class TokenResponse(BaseModel):
    """A service token. `token` is there once, in the answer that issues it."""

    model_config = example(
        id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        name="ci",
        scope="write",
        environments=["development"],
        created_at="2026-01-01T00:00:00Z",
        last_used_at=None,
        revoked_at=None,
    )

    id: UUID
    name: str
    scope: Scope
    environments: list[str] | None = Field(description="What it is limited to; null is all environments.")
    created_at: Timestamp
    last_used_at: Timestamp | None = Field(description="When it was last used, to the minute.")
    revoked_at: Timestamp | None
    token: str | None = None


class WrappedTokenResponse(BaseModel):
    """A service token under the key `service_token`."""

    model_config = example(
        service_token={
            "id": "01a20df1-e8fc-72f9-a988-19f172a42afd",
            "name": "ci",
            "scope": "write",
            "environments": ["development"],
            "created_at": "2026-01-01T00:00:00Z",
            "last_used_at": None,
            "revoked_at": None,
            "token": "dbl_st_...",
        }
    )

    service_token: TokenResponse


def _response(token: ServiceToken) -> TokenResponse:
    return TokenResponse(**token.model_dump(exclude={"token_hash"}))


@router.get(
    "",
    summary="List service tokens",
    response_model=Entries[TokenResponse],
    response_model_exclude_unset=True,
)
async def list_service_tokens(access: AdminAccess, session: SessionDep) -> Entries[TokenResponse]:
    """All service tokens, newest first, revoked ones too."""
    return Entries[TokenResponse](entries=[_response(each) for each in await list_tokens(session)])


@router.post("", summary="Issue a service token", status_code=201)
async def issue_service_token(
    access: AdminAccess, session: SessionDep, body: WrappedTokenRequest
) -> WrappedTokenResponse:
    """A token that opens this API. It is shown this once."""
    asked = body.service_token
    token, plaintext = await add_token(session, asked.name, asked.scope, asked.environments)
    resource = ("service_token", token.name)
    note_change(session, access, "service_token.issued", resource, after=snapshot(token))
    await session.commit()
    return WrappedTokenResponse(service_token=_response(token).model_copy(update={"token": plaintext}))


@router.delete("/{id}", summary="Revoke a service token", status_code=204, responses={404: RESPONSES[404]})
async def revoke_service_token(id: UUID, access: AdminAccess, session: SessionDep) -> None:
    """The token opens nothing from now on."""
    token = await revoke_token(session, id)
    resource = ("service_token", token.name)
    note_change(session, access, "service_token.revoked", resource, before=snapshot(token))
    await session.commit()
