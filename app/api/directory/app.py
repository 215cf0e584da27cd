"""The directory as the embedded destination: the same routes, called in this process without a socket or keys."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from app.api import errors
from app.api.directory import routes
from app.api.directory.access import authorised_caller, trusted_caller
from app.api.directory.request import EncodedSlashes


def create_directory_app(engine: AsyncEngine) -> ASGIApp:
    """The application for `app/destinations.py`. It must never be served to others: it trusts its caller."""
    app = FastAPI(openapi_url=None)
    app.state.engine = engine
    app.dependency_overrides[authorised_caller] = trusted_caller
    app.include_router(routes.router)
    errors.install(app)
    return EncodedSlashes(app)
