"""Who calls the directory: the environment that an `sk_...` key opens, or a worker of this same process."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.account.tokens import TOKEN_PREFIX
from app.api.request import DirectoryRoute
from app.core.errors import RequestError
from app.core.secrets import token_hash
from app.database.engine import with_isolation
from app.runtime.resources import Runtime

BEARER = HTTPBearer(auto_error=False, scheme_name="Environment key", description="`doorbell key create`")

# A key that a service token was exchanged for opens what the token does, now.
_ENVIRONMENT = text("""
SELECT environments.slug FROM environment_keys AS key
JOIN environments ON environments.slug = key.environment
WHERE key.key_hash = :key_hash AND key.revoked_at IS NULL AND deleted_at IS NULL
  AND (
    key.exchanged_from IS NULL OR key.exchanged_from = CAST(:admin_hash AS text)
    OR EXISTS (
        SELECT FROM service_tokens
        WHERE service_tokens.token_hash = key.exchanged_from AND service_tokens.revoked_at IS NULL
    )
  )
""")


@dataclass(frozen=True)
class Caller:
    """Whose directory a request is about."""

    environment: str
    engine: AsyncEngine

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection whose work is committed, whole, at the end of the block."""
        return self.engine.begin()

    def statement(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for one statement, which is a transaction by itself: one round trip instead of
        three."""
        return with_isolation(self.engine, "AUTOCOMMIT").connect()


class KeyRoute(DirectoryRoute):
    """A route of the directory: its body is read once the caller is known."""

    async def admit(self, request: Request) -> None:
        if authorised_caller not in request.app.dependency_overrides:
            request.state.caller = await _caller(request, await BEARER(request))


async def authorised_caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
) -> Caller:
    """The environment of the key in the request.

    Raises:
        RequestError: 401, without a key, with one that opens nothing, or with a credential of another kind.
    """
    found: Caller | None = getattr(request.state, "caller", None)
    return found or await _caller(request, credentials)


async def _caller(request: Request, credentials: HTTPAuthorizationCredentials | None) -> Caller:
    if credentials is None or not credentials.credentials:
        raise RequestError(401, "api_key_missing", "No valid API key provided")
    if credentials.credentials.startswith(TOKEN_PREFIX):
        message = "This is a service token; a key of an environment is needed (`doorbell key create`)"
        raise RequestError(401, "incorrect_token_type", message)
    runtime: Runtime = request.app.state.runtime
    admin = runtime.settings.admin_token
    async with runtime.engine.connect() as connection:
        parameters = {
            "key_hash": token_hash(credentials.credentials),
            "admin_hash": token_hash(admin.get_secret_value()) if admin else None,
        }
        environment = (await connection.execute(_ENVIRONMENT, parameters)).scalar()
    if environment is None:
        raise RequestError(401, "api_key_invalid", "The API key is unknown or was revoked")
    return Caller(environment, runtime.engine)


async def trusted_caller(request: Request) -> Caller:
    """The environment that the worker names as its bearer token.

    Only `app/outbound/destinations.py` of the same process reaches an application with this dependency: no
    socket leads to it, and the slug comes from the configuration, never from an event or a request.
    """
    environment = request.headers["authorization"].removeprefix("Bearer ")
    return Caller(environment, request.app.state.engine)


CallerDep = Annotated[Caller, Depends(authorised_caller)]
