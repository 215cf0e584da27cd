"""Who calls."""

from fastapi import APIRouter

from app.api.management.dependencies import ReadAccess, RuntimeDep
from app.api.management.request import ManagementRoute
from app.api.management.schemas import AccountFeatures, WhoamiResponse

router = APIRouter(tags=["Accounts"], route_class=ManagementRoute)


@router.get("/whoami", summary="Verify scope")
async def whoami(access: ReadAccess, runtime: RuntimeDep) -> WhoamiResponse:
    """The service token of this request and what it allows."""
    return WhoamiResponse(
        account_name="Doorbell",
        account_slug="doorbell",
        account_features=AccountFeatures(data_retention_days=runtime.settings.retention_days),
        type="service_token",
        service_token_name=access.name,
        service_token_scope=access.scope,
    )
