"""Errors of every kind have Knock's body, and say nothing of the inside."""

import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.api import errors
from app.api.management import routes
from app.core.errors import Rejected
from app.core.settings import Settings
from app.runtime.resources import Runtime, open_runtime
from tests.conftest import ADMIN_TOKEN


@pytest.fixture
async def broken() -> AsyncIterator[httpx.AsyncClient]:
    """An application with handlers that fail."""
    app = FastAPI()
    errors.install(app)

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("the password is hunter2")

    @app.get("/busy")
    async def busy() -> None:
        raise Rejected(429, "rate_limited", "too many events", retry_after=7)

    @app.get("/number/{number}")
    async def number(number: int, query: int) -> int:
        return number + query

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://doorbell"
    ) as client:
        yield client


async def test_a_bug_is_logged_and_not_shown(
    broken: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await broken.get("/bug")
    assert answer.status_code == 500
    assert answer.json() == {
        "code": "internal_error",
        "message": "Something went wrong; Doorbell's log says what",
        "status": 500,
        "type": "api_error",
    }
    assert [record.message for record in caplog.records] == ["request_failed"]
    assert "hunter2" in caplog.text


async def test_a_rejection_says_when_to_come_back(broken: httpx.AsyncClient) -> None:
    answer = await broken.get("/busy")
    assert answer.headers["retry-after"] == "7"
    assert answer.json() == {
        "code": "rate_limited",
        "message": "too many events",
        "status": 429,
        "type": "invalid_request_error",
    }


async def test_invalid_parameters_are_named(broken: httpx.AsyncClient) -> None:
    answer = await broken.get("/number/x")
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == ["number", "query"]


async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    missing = await client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await client.patch("/v1/sources/shop")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, PUT, DELETE"
    assert wrong.json()["message"] == "PATCH is not possible here; allowed: GET, PUT, DELETE"


async def test_postgres_away(runtime: Runtime) -> None:
    settings = Settings(
        _env_file=None,
        database_url="postgresql://nobody@127.0.0.1:1/none",
        secret_key=SecretStr("k" * 32),
        admin_token=SecretStr(ADMIN_TOKEN),
    )
    app = FastAPI()
    app.include_router(routes.router)
    errors.install(app)
    async with (
        open_runtime(settings) as away,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://doorbell",
            headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
        ) as client,
    ):
        app.state.runtime = away
        answer = await client.get("/v1/sources")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json() == {
        "code": "service_unavailable",
        "message": "The database is not available",
        "status": 503,
        "type": "api_error",
    }


async def test_every_operation_is_documented(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["Service token"]["scheme"] == "bearer"
    assert "ErrorBody" in document["components"]["schemas"]
    assert "SourceChange" in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert operation["security"], where
            assert {"401", "403", "422", "503"} <= operation["responses"].keys(), where
