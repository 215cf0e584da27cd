"""All routes of the Management API. None of them answers without a service token."""

from fastapi import APIRouter, Depends

from app.api.errors import RESPONSES
from app.api.management import (
    accounts,
    environments,
    logs,
    secrets,
    service_tokens,
    source_providers,
    sources,
    workflows,
)
from app.api.management.dependencies import authenticate

router = APIRouter(
    prefix="/v1",
    dependencies=[Depends(authenticate)],
    responses={status: RESPONSES[status] for status in (401, 403, 422, 503)},
)
for each in (sources, logs, secrets, source_providers, environments, service_tokens, accounts, workflows):
    router.include_router(each.router)
