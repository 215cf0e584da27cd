"""A service token exchanged for an environment's secret key."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.account.audit import note_change, snapshot
from app.account.tokens import exchange_token
from app.api.dependencies import SessionDep
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
    access: WriteAccess, session: SessionDep, environment: EnvironmentDep
) -> ExchangeResponse:
    """A secret key of the environment. A token has one at a time: the one from before opens nothing any
    more."""
    key, plaintext = await exchange_token(session, access, environment)
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
