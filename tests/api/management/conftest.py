"""The Management API, called in process over the real Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from app.api import errors
from app.api.management import routes
from app.runtime.resources import Runtime
from tests.conftest import ADMIN_TOKEN

Put = Callable[..., Awaitable[httpx.Response]]


@cache
def _routes() -> list[BaseRoute]:
    """The API's routes, compiled once for all tests."""
    router = APIRouter()
    router.include_router(routes.router)
    return router.routes


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the bootstrap token."""
    app = FastAPI()
    app.state.runtime = runtime
    app.router.routes.extend(_routes())
    errors.install(app)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://doorbell",
        headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
    ) as client:
        yield client


@pytest.fixture
def put(client: httpx.AsyncClient) -> Put:
    """Create or change a source in development."""

    async def put(key: str, source: dict[str, Any], environment: str = "development") -> httpx.Response:
        return await client.put(
            f"/v1/sources/{key}", params={"environment": environment}, json={"source": source}
        )

    return put


def fields(answer: httpx.Response) -> list[str]:
    """The fields that a refusal names."""
    assert answer.status_code == 422, answer.text
    return [each["field"] for each in answer.json()["errors"]]
