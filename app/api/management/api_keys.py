"""A service token exchanged for an environment's secret key."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.account.audit import note_change, snapshot
from app.account.tokens import exchange_token
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.management.dependencies import EnvironmentDep, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import example

router = APIRouter(prefix="/api_keys", tags=["API keys"], route_class=ManagementRoute)


class ExchangeResponse(BaseModel):
    """A secret key."""

    model_config = example(api_key="sk_...")

    api_key: str = Field(description="Opens the environment's directory, Knock's API as Doorbell speaks it.")


@router.post("/exchange", summary="Exchange for API key")
async def exchange_for_api_key(
    access: WriteAccess, session: SessionDep, runtime: RuntimeDep, environment: EnvironmentDep
) -> ExchangeResponse:
    """A secret key of the environment: the same for the same token, until one of them is revoked. It opens
    nothing once the token is revoked."""
    key, plaintext = await exchange_token(session, runtime.settings, access, environment)
    note_change(
        session,
        access,
        "api_key.exchanged",
        ("environment", environment),
        environment=environment,
        after=snapshot(key),
    )
    await session.commit()
    return ExchangeResponse(api_key=plaintext)
