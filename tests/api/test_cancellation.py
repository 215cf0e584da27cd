"""Requests that are cancelled, as those of a server that stops are: their connections go back."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.account.tokens import issue_key
from app.api.app import create_app
from app.core.settings import Settings
from tests.bench import Api, Bench
from tests.cancelling import cancel_everywhere
from tests.conftest import ADMIN_TOKEN, add_environment
from tests.connections import Connections
from tests.servers import eventually


@pytest.fixture
async def application(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application in this task: no server stands between a request and who cancels it."""
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        await application.state.runtime.configuration.wait_until_loaded()
        yield application


@pytest.mark.usefixtures("each_wait_is_an_await")
@pytest.mark.parametrize("name", ["receive", "sources", "source", "identify", "users", "ready"])
async def test_requests(application: FastAPI, connections: Connections, name: str) -> None:
    runtime = application.state.runtime
    environment = await add_environment(runtime)
    key = await issue_key(runtime.settings, environment, "cancelled")
    async with Api("http://here", ADMIN_TOKEN, transport=httpx.ASGITransport(application)) as api:
        source = await Bench(runtime, environment, api).source("stripe")
        as_environment = {"authorization": f"Bearer {key}"}
        body = source.example("invoice.paid")
        requests = {
            "receive": lambda: api.post(source.path, content=body, headers=source.signed(body)),
            "sources": lambda: api.get("/v1/sources"),
            "source": lambda: api.get(f"/v1/sources/{source.key}", params={"environment": environment}),
            "identify": lambda: api.put("/v1/users/ada", json={"name": "Ada"}, headers=as_environment),
            "users": lambda: api.get("/v1/users", headers=as_environment),
            "ready": lambda: api.get("/readyz"),
        }

        async def request() -> None:
            answer = await requests[name]()
            assert answer.is_success, answer.text

        async def all_is_back() -> None:
            assert not connections.lost()
            await eventually(lambda: not runtime.engine.sync_engine.pool.checkedout())

        await request()
        await cancel_everywhere(request, all_is_back)
