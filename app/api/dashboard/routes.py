"""The dashboard in the application. To add a screen, write its file and add its router to ROUTERS: the
navigation and the tabs show what has a route."""

from functools import cache

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from app.api.dashboard import (
    alerts,
    audit_log,
    connect,
    directory,
    environments,
    events,
    login,
    logs,
    mappings,
    overview,
    replays,
    retention,
    sections,
    setup,
    source_settings,
    sources,
    tokens,
    variables,
    workflow_runs,
    workflows,
)
from app.api.dashboard.navigation import Navigation
from app.api.dashboard.pages import ASSETS, Assets

ROUTERS = (
    login.router,
    overview.router,
    sections.router,
    sources.router,
    connect.router,
    setup.router,
    source_settings.router,
    alerts.router,
    mappings.router,
    logs.router,
    events.router,
    replays.router,
    directory.router,
    workflow_runs.router,
    workflows.router,
    environments.router,
    variables.router,
    tokens.router,
    audit_log.router,
    retention.router,
)


def install(app: FastAPI) -> None:
    """Let the application serve the dashboard at `/`."""
    app.state.assets = Assets()
    app.state.navigation = Navigation(ROUTERS)
    app.state.login_failures = login.Failures()
    app.router.routes.extend(_routes())
    app.mount(ASSETS, app.state.assets, name="dashboard-assets")


@cache
def _routes() -> list[BaseRoute]:
    """The routes of the pages, compiled once for all applications of a process."""
    router = APIRouter()
    for each in ROUTERS:
        router.include_router(each, include_in_schema=False)
    return router.routes
