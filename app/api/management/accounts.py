"""Who calls."""

from fastapi import APIRouter

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.management.dependencies import ReadAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import AccountFeatures, WhoamiResponse
from app.retention.periods import RetentionKind, get_retention

router = APIRouter(tags=["Accounts"], route_class=ManagementRoute)


@router.get("/whoami", summary="Verify scope")
async def whoami(access: ReadAccess, session: SessionDep, runtime: RuntimeDep) -> WhoamiResponse:
    """The service token of this request and what it allows."""
    retention = await get_retention(session, runtime.settings)
    return WhoamiResponse(
        account_name="Doorbell",
        account_slug="doorbell",
        account_features=AccountFeatures(data_retention_days=retention.days[RetentionKind.LOGS]),
        type="service_token",
        service_token_name=access.name,
        service_token_scope=access.scope,
        service_token_environments=None if access.environments is None else sorted(access.environments),
    )
