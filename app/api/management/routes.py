"""All routes of the Management API. None of them answers without a service token."""

from fastapi import APIRouter, Depends

from app.api.errors import RESPONSES
from app.api.management import (
    accounts,
    alerts,
    api_keys,
    audit_log,
    commits,
    endpoints,
    environment_changes,
    environments,
    erasures,
    follow,
    logs,
    mapping_tests,
    mappings,
    promotions,
    rehearsals,
    replays,
    retention,
    retries,
    scripts,
    secrets,
    service_tokens,
    source_keys,
    source_providers,
    sources,
    statistics,
    variables,
    workflows,
)
from app.api.management.dependencies import authenticate

router = APIRouter(
    prefix="/v1",
    dependencies=[Depends(authenticate)],
    responses={status: RESPONSES[status] for status in (401, 403, 422, 503)},
)
# `follow` before `logs`, so that `stream` is not read as the id of an entry.
ROUTERS = (
    sources.router,
    promotions.router,
    rehearsals.router,
    replays.router,
    alerts.router,
    mapping_tests.router,
    mappings.router,
    endpoints.router,
    secrets.router,
    scripts.router,
    source_keys.router,
    retries.router,
    follow.router,
    logs.router,
    logs.across,
    statistics.router,
    source_providers.router,
    environments.router,
    environment_changes.router,
    api_keys.router,
    variables.router,
    workflows.router,
    commits.router,
    service_tokens.router,
    accounts.router,
    audit_log.router,
    retention.router,
    erasures.router,
)
for each in ROUTERS:
    router.include_router(each)
