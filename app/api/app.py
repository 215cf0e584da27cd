"""The HTTP application: routers, lifespan, error handlers. Each process makes one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api import documentation, errors, health, integrations, receive, source_calls, tracking
from app.api.directory import routes as directory
from app.api.directory.app import create_directory_app
from app.api.directory.request import EncodedSlashes
from app.api.management import routes as management
from app.destinations import Destinations
from app.inbox import Inbox
from app.runtime import open_runtime
from app.settings import Settings
from app.source_rate_limits import RateLimits

DESCRIPTION = """\
Doorbell receives events from other services, verifies them, and runs the actions mapped to them.

**Management API** (`Authorization: Bearer <service token>`): sources, mappings, logs, in the shapes of Knock's
Management API. **Directory API** (`Authorization: Bearer sk_...`): users, workflows and the rest, in the shapes
of Knock's API, for environments whose destination is the embedded directory.
"""


def create_app(settings: Settings) -> FastAPI:
    """The application of an API process."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_runtime(settings) as runtime:
            app.state.runtime = runtime
            app.state.inbox = Inbox(
                runtime.engine,
                maximum_queued=settings.max_queued_events,
                maximum_bytes=settings.max_queued_bytes,
            )
            app.state.rate_limits = RateLimits()
            app.state.refusal_budget = receive.RefusalBudget()
            app.state.destinations = Destinations(runtime.configuration, create_directory_app(runtime.engine))
            try:
                yield
            finally:
                await app.state.destinations.close()

    app = FastAPI(
        title="Doorbell",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(receive.router)
    app.include_router(tracking.router)
    app.include_router(integrations.router)
    app.include_router(management.router)
    app.include_router(directory.router)
    app.include_router(health.router)
    calls = source_calls.create_source_calls_app(app.state, integrations.router)
    calls.dependency_overrides[integrations.at_destination] = integrations.as_events
    app.add_middleware(source_calls.SourceKeys, calls=calls)
    app.add_middleware(EncodedSlashes)
    documentation.install(app)
    errors.install(app)
    return app
