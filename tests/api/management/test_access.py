"""Who may call what: service tokens, their scopes, their revocation."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlmodel import col, select, update

from app.account.tokens import issue_key, issue_token
from app.api.management.routes import ROUTERS
from app.core.errors import ConfigurationError
from app.models.credential import ServiceToken
from app.models.types import now
from app.runtime.resources import Runtime
from tests.api.management.conftest import fields

Issue = Callable[[str], Awaitable[httpx.AsyncClient]]
ROUTES = [
    (method, f"/v1{route.path}")
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]


async def as_bearer(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.get("/v1/whoami", headers={"authorization": f"Bearer {token}"})


async def test_nothing_answers_without_a_token(client: httpx.AsyncClient) -> None:
    del client.headers["authorization"]
    for method, path in ROUTES:
        answer = await client.request(method, path)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json() == {
            "code": "api_key_missing",
            "message": "Send a service token: `Authorization: Bearer dbl_st_...`",
            "status": 401,
            "type": "authentication_error",
        }


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic dXNlcjpwYXNz", "api_key_malformed"),
        ("Bearer", "api_key_malformed"),
        ("Bearer ", "api_key_malformed"),
        ("Bearer dbl_st_unknown", "api_key_invalid"),
        ("Bearer dbl_st_\xe9", "api_key_invalid"),
        ("Bearer sk_something", "incorrect_token_type"),
    ],
)
async def test_credentials_that_open_nothing(client: httpx.AsyncClient, header: str, code: str) -> None:
    answer = await client.get("/v1/whoami", headers={"authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (401, code)


@pytest.mark.parametrize(
    ("scope", "allowed"), [("read", (200, 403, 403)), ("write", (200, 200, 403)), ("admin", (200, 200, 200))]
)
async def test_scopes(client: httpx.AsyncClient, scope: str, allowed: tuple[int, int, int]) -> None:
    issued = await client.post("/v1/service_tokens", json={"service_token": {"name": "ci", "scope": scope}})
    headers = {"authorization": f"Bearer {issued.json()['service_token']['token']}"}
    answers = [
        await client.get("/v1/sources", headers=headers),
        await client.put(
            "/v1/sources/shop?environment=development", headers=headers, json={"source": {"name": "S"}}
        ),
        await client.get("/v1/service_tokens", headers=headers),
    ]
    assert tuple(each.status_code for each in answers) == allowed
    for refused in (each for each in answers if each.status_code == 403):
        assert refused.json()["code"] == "insufficient_scope"
        assert refused.json()["type"] == "authentication_error"
    whoami = (await client.get("/v1/whoami", headers=headers)).json()
    assert whoami == {
        "account_name": "Doorbell",
        "account_slug": "doorbell",
        "account_features": {"data_retention_days": 30},
        "type": "service_token",
        "service_token_name": "ci",
        "service_token_scope": scope,
        "service_token_environments": None,
        "user_id": None,
        "user_name": None,
        "user_email": None,
    }


async def test_a_token_is_shown_once_and_revoked(client: httpx.AsyncClient) -> None:
    issued = await client.post("/v1/service_tokens", json={"service_token": {"name": "ci", "scope": "read"}})
    assert issued.status_code == 201
    token = issued.json()["service_token"]
    assert token["token"].startswith("dbl_st_")
    listed = (await client.get("/v1/service_tokens")).json()["entries"]
    assert [each.keys() for each in listed] == [
        {"id", "name", "scope", "environments", "created_at", "last_used_at", "revoked_at"}
    ]
    assert (await as_bearer(client, token["token"])).status_code == 200
    for _ in range(2):
        assert (await client.delete(f"/v1/service_tokens/{token['id']}")).status_code == 204
    refused = await as_bearer(client, token["token"])
    assert (refused.status_code, refused.json()["code"]) == (401, "api_key_revoked")
    assert (await client.get("/v1/service_tokens")).json()["entries"][0]["revoked_at"].endswith("Z")


async def test_use_is_noted_once_a_minute(client: httpx.AsyncClient, runtime: Runtime) -> None:
    token = await issue_token(runtime.settings, "ci", "read")

    async def is_noted(last: datetime | None) -> bool:
        """Whether a use is noted of a token that was used last at this time."""
        async with runtime.engine.begin() as connection:
            await connection.execute(update(ServiceToken).values(last_used_at=last))
        before = now()
        assert (await as_bearer(client, token)).status_code == 200
        async with runtime.engine.connect() as connection:
            noted = (await connection.execute(select(col(ServiceToken.last_used_at)))).scalar_one()
        assert noted == last or before <= noted <= now()
        return bool(noted != last)

    assert await is_noted(None)
    assert not await is_noted(now() - timedelta(seconds=10))
    assert await is_noted(now() - timedelta(seconds=61))


async def test_bad_token_requests(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/service_tokens", json={"service_token": {"name": "", "scope": "root", "x": 1}}
    )
    assert fields(answer) == ["service_token.name", "service_token.scope", "service_token.x"]
    assert fields(await client.delete("/v1/service_tokens/nope")) == ["id"]
    missing = await client.delete("/v1/service_tokens/01a20df1-e8fc-72f9-a988-19f172a42afd")
    assert missing.status_code == 404


async def test_issuing_from_the_command_line(client: httpx.AsyncClient, runtime: Runtime) -> None:
    token = await issue_token(runtime.settings, "ci", "admin")
    assert (await as_bearer(client, token)).json()["service_token_scope"] == "admin"
    assert (await issue_key(runtime.settings, "development", "ci")).startswith("sk_")
    with pytest.raises(ConfigurationError, match="read, write, admin"):
        await issue_token(runtime.settings, "ci", "root")
    with pytest.raises(ConfigurationError, match="development, production"):
        await issue_key(runtime.settings, "staging", "ci")
