"""The HTTP application: routers, lifespan, error handlers. Each process makes one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api import errors, health, receive
from app.api.directory import routes as directory
from app.api.directory.request import EncodedSlashes
from app.api.management import routes as management
from app.inbox import Inbox
from app.rate_limits import RateLimits
from app.runtime import open_runtime
from app.settings import Settings

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
            yield

    app = FastAPI(title="Doorbell", version="0.1.0", description=DESCRIPTION, lifespan=lifespan)
    app.include_router(receive.router)
    app.include_router(management.router)
    app.include_router(directory.router)
    app.include_router(health.router)
    app.add_middleware(EncodedSlashes)
    errors.install(app)
    return app
