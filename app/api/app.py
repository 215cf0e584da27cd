"""The HTTP application: routers, lifespan, error handlers. Each process makes one."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from app.api import documentation, errors, health, receive, tracking
from app.api.dashboard import routes as dashboard
from app.api.dashboard.request import unknown_page
from app.api.directory import routes as directory
from app.api.directory.app import DirectoryApp
from app.api.management import routes as management
from app.api.request import EncodedSlashes
from app.api.reverse_etl import routes as integrations
from app.api.reverse_etl import source_calls
from app.api.security_headers import SecurityHeaders
from app.core.settings import Settings
from app.events.inbox import Inbox
from app.events.rate_limits import SourceRateLimits
from app.events.write_probe import WriteProbe
from app.logs.timeline import Timelines
from app.outbound.destinations import Destinations
from app.runtime import tracing
from app.runtime.resources import open_runtime
from app.runtime.scrape import serve_metrics
from app.sources.secret_uses import SecretUses

logger = logging.getLogger(__name__)

# Seconds for which a process that starts does not listen yet.
WAIT_FOR_CONFIGURATION = 5.0

DESCRIPTION = """\
Doorbell receives events from other services, verifies them, and runs the actions mapped to them.

**Management API** (`Authorization: Bearer <service token>`): sources, mappings, logs, in the shapes of
Knock's Management API. **Directory API** (`Authorization: Bearer sk_...`): users, workflows and the rest, in
the shapes of Knock's API, for environments whose destination is the embedded directory.
"""


@cache
def _routes() -> list[BaseRoute]:
    """The routes of the APIs. FastAPI compiles a router for each application that includes it, ours in most
    of a second: this way once for all applications of a process. In turn, none can override their
    dependencies."""
    router = APIRouter()
    for each in (receive, tracking, integrations, management, directory, health):
        router.include_router(each.router)
    return router.routes


def create_app(settings: Settings) -> FastAPI:
    """The application of an API process."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_runtime(settings) as runtime, serve_metrics(runtime, with_backlog=True):
            app.state.runtime = runtime
            app.state.inbox = Inbox(
                runtime.engine,
                maximum_queued=settings.max_queued_events,
                maximum_bytes=settings.max_queued_bytes,
            )
            app.state.write_probe = WriteProbe(runtime.engine)
            app.state.rate_limits = SourceRateLimits()
            app.state.refusal_budget = receive.RefusalBudget()
            app.state.secret_uses = SecretUses(runtime.engine)
            app.state.timelines = Timelines(settings, runtime.configuration)
            app.state.destinations = Destinations(
                runtime.configuration.destination, DirectoryApp(runtime.engine)
            )
            # From the first request on, deliveries find their source. Postgres may be away for longer.
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_FOR_CONFIGURATION):
                    await runtime.configuration.wait_until_loaded()
            logger.info("api_started", extra={"url": settings.base_url})
            try:
                async with app.state.secret_uses.written():
                    yield
            finally:
                logger.info("api_stopping")
                await app.state.destinations.close()

    app = FastAPI(
        title="Doorbell",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=tracing.of_requests(),
    )
    app.state.is_stopping = False
    app.router.routes.extend(_routes())
    calls = source_calls.create_source_calls_app(app.state, integrations.router)
    calls.dependency_overrides[integrations.at_destination] = integrations.as_events
    app.add_middleware(source_calls.SourceKeys, calls=calls)
    app.add_middleware(EncodedSlashes)
    documentation.install(app)
    dashboard.install(app)
    errors.install(app, page=unknown_page)
    app.add_middleware(SecurityHeaders, https=settings.base_url.startswith("https://"))
    return app
