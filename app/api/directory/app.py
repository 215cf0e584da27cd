"""The directory as the embedded destination: the same routes, called in this process without a socket or
keys."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.directory.shortcut import Shortcut


class DirectoryApp:
    """An application, and beside it the short way, `answer`. It must never be served to others: it trusts its
    caller.

    The application is made with the first request that does not go the short way: FastAPI with the routes is
    8 MB.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._app: ASGIApp | None = None
        self.answer = Shortcut(engine).answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            self._app = await asyncio.to_thread(_create_app, self._engine)
        await self._app(scope, receive, send)


def _create_app(engine: AsyncEngine) -> ASGIApp:
    from fastapi import FastAPI

    from app.api import errors
    from app.api.directory import routes
    from app.api.directory.access import authorised_caller, trusted_caller
    from app.api.request import EncodedSlashes

    app = FastAPI(openapi_url=None)
    app.state.engine = engine
    app.dependency_overrides[authorised_caller] = trusted_caller
    app.include_router(routes.router)
    errors.install(app)
    return EncodedSlashes(app)
