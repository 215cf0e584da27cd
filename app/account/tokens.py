"""Credentials of API callers: service tokens for the Management API, keys for an environment's directory.

The plaintext is returned once, when a credential is issued; only hashes are stored.
"""

import base64
import hmac
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlmodel import col, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.environments import get_environment, list_environments, unknown_environment
from app.core.errors import ConfigurationError, FieldError, RequestError
from app.core.secrets import new_token, token_hash
from app.core.settings import Settings
from app.core.validation import invalid_fields
from app.database.engine import close_engine, open_engine
from app.models.credential import EnvironmentKey, ServiceToken
from app.models.types import new_id, now

TOKEN_PREFIX = "dbl_st_"
KEY_PREFIX = "sk_"
# A token in constant use costs one write in this time.
USE_NOTED_EVERY = timedelta(minutes=1)


class Scope(StrEnum):
    """What a service token allows. Each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Access:
    """Who calls the Management API, and what they may do: in all environments, or in these."""

    name: str
    scope: Scope
    environments: frozenset[str] | None = None
    token_hash: str = field(default="", repr=False)

    def permits(self, environment: str) -> bool:
        return self.environments is None or environment in self.environments

    def require(self, *environments: str) -> None:
        """Refuse what concerns an environment that the token does not open.

        Raises:
            RequestError: 403, it does not open one of these.
        """
        for each in environments:
            if not self.permits(each):
                raise self.refused(f"this concerns {each!r}")

    def refused(self, reason: str) -> RequestError:
        """The answer to what a limited token may not do."""
        limits = ", ".join(sorted(self.environments or ()))
        message = f"The service token {self.name!r} is limited to {limits}: {reason}"
        return RequestError(403, "environment_not_permitted", message)


async def check_token(session: AsyncSession, settings: Settings, token: str) -> Access:
    """The access that a token gives.

    Raises:
        RequestError: 401, the token is of another kind, unknown or revoked.
    """
    if token.startswith(KEY_PREFIX):
        raise _refused("incorrect_token_type", "This is a key of an environment; a service token is needed")
    return await check_token_hash(session, settings, token_hash(token))


async def check_token_hash(session: AsyncSession, settings: Settings, hashed: str) -> Access:
    """The access that the token with this hash gives. Raises as `check_token` does."""
    if settings.admin_token and _same(hashed, token_hash(settings.admin_token.get_secret_value())):
        return Access("bootstrap", Scope.ADMIN, token_hash=hashed)
    query = select(ServiceToken).where(ServiceToken.token_hash == hashed)
    found = (await session.exec(query)).one_or_none()
    if found is None:
        raise _refused("api_key_invalid", "The service token is unknown")
    if found.revoked_at is not None:
        raise _refused("api_key_revoked", f"The service token {found.name!r} was revoked")
    await _note_use(session, found)
    limits = None if found.environments is None else frozenset(found.environments)
    return Access(found.name, Scope(found.scope), limits, hashed)


async def add_token(
    session: AsyncSession, name: str, scope: Scope, environments: Collection[str] | None = None
) -> tuple[ServiceToken, str]:
    """A new service token, for all environments or for these, and its plaintext.

    Raises:
        RequestError: 422, there is no such environment.
    """
    known = await list_environments(session)
    unknown = sorted(set(environments or ()) - {each.slug for each in known})
    if unknown:
        message = unknown_environment(unknown[0], known)
        raise invalid_fields([FieldError("service_token.environments", message)])
    plaintext = new_token(TOKEN_PREFIX)
    token = ServiceToken(
        name=name,
        scope=scope.value,
        environments=None if environments is None else sorted(set(environments)),
        token_hash=token_hash(plaintext),
    )
    session.add(token)
    await session.flush()
    return token, plaintext


async def list_tokens(session: AsyncSession) -> Sequence[ServiceToken]:
    """All service tokens, the revoked ones too, newest first."""
    return (await session.exec(select(ServiceToken).order_by(col(ServiceToken.id).desc()))).all()


async def revoke_token(session: AsyncSession, identifier: UUID) -> ServiceToken:
    """Let a service token open nothing from now on; the token.

    Raises:
        RequestError: 404, there is none with this id.
    """
    token = await session.get(ServiceToken, identifier)
    if token is None:
        raise RequestError(404, "resource_missing", f"There is no service token {identifier}")
    token.revoked_at = token.revoked_at or now()
    # Keys from before they knew their token go by its name.
    name = f"exchanged by {token.name}"
    await session.exec(
        update(EnvironmentKey)
        .where(
            col(EnvironmentKey.name) == name,
            col(EnvironmentKey.exchanged_from).is_(None),
            col(EnvironmentKey.revoked_at).is_(None),
        )
        .values(revoked_at=now())
        .execution_options(synchronize_session=False)
    )
    await session.flush()
    return token


async def add_key(session: AsyncSession, environment: str, name: str) -> tuple[EnvironmentKey, str]:
    """A new key for an environment's directory, and its plaintext."""
    plaintext = new_token(KEY_PREFIX)
    key = EnvironmentKey(environment=environment, name=name, key_hash=token_hash(plaintext))
    session.add(key)
    await session.flush()
    return key, plaintext


async def exchange_token(
    session: AsyncSession, settings: Settings, access: Access, environment: str
) -> tuple[EnvironmentKey, str]:
    """A key of an environment for who has a service token, and its plaintext: the same each time, until it or
    the token is revoked. It opens nothing without the token."""
    keys = await list_keys(session, environment)
    exchanged = [each for each in keys if _same(each.exchanged_from or "", access.token_hash)]
    revoked = sum(each.revoked_at is not None for each in exchanged)
    plaintext = _exchanged_key(settings, access.token_hash, environment, revoked)
    hashed = token_hash(plaintext)
    insert = pg_insert(EnvironmentKey).values(
        id=new_id(),
        environment=environment,
        name=f"exchanged by {access.name}",
        key_hash=hashed,
        exchanged_from=access.token_hash,
        created_at=now(),
    )
    await (await session.connection()).execute(insert.on_conflict_do_nothing())
    query = select(EnvironmentKey).where(EnvironmentKey.key_hash == hashed)
    return (await session.exec(query)).one(), plaintext


def _exchanged_key(settings: Settings, token: str, environment: str, number: int) -> str:
    """The key of a token for an environment, when `number` of those before it were revoked."""
    assert settings.secret_key is not None
    secret = settings.secret_key.get_secret_value().split(",")[0].strip().encode()
    parts = "\0".join(("exchanged key", token, environment, str(number)))
    digest = hmac.digest(secret, parts.encode(), "sha256")
    return KEY_PREFIX + base64.urlsafe_b64encode(digest[:24]).decode()


async def list_keys(session: AsyncSession, environment: str) -> Sequence[EnvironmentKey]:
    """All keys of an environment, the revoked ones too, newest first."""
    query = select(EnvironmentKey).where(EnvironmentKey.environment == environment)
    return (await session.exec(query.order_by(col(EnvironmentKey.id).desc()))).all()


async def revoke_key(session: AsyncSession, environment: str, identifier: UUID) -> None:
    """Let a key open nothing from now on.

    Raises:
        RequestError: 404, the environment has none with this id.
    """
    key = await session.get(EnvironmentKey, identifier)
    if key is None or key.environment != environment:
        raise RequestError(404, "resource_missing", f"Environment {environment!r} has no key {identifier}")
    key.revoked_at = key.revoked_at or now()
    await session.flush()


async def issue_token(
    settings: Settings, name: str, scope: str, environments: Collection[str] | None = None
) -> str:
    """Issue a service token from the command line; its plaintext.

    Raises:
        ConfigurationError: there is no such scope or environment.
    """
    if scope not in list(Scope):
        raise ConfigurationError(f"{scope!r} is not a scope: choose {', '.join(Scope)}")
    async with _session(settings) as session:
        try:
            _, plaintext = await add_token(session, name, Scope(scope), environments)
        except RequestError as error:
            raise ConfigurationError(error.errors[0].message) from None
        await session.commit()
    return plaintext


async def issue_key(settings: Settings, environment: str, name: str) -> str:
    """Issue an environment's key from the command line; its plaintext.

    Raises:
        ConfigurationError: there is no such environment.
    """
    async with _session(settings) as session:
        try:
            await get_environment(session, environment)
        except RequestError as error:
            raise ConfigurationError(error.message) from None
        _, plaintext = await add_key(session, environment, name)
        await session.commit()
    return plaintext


@asynccontextmanager
async def _session(settings: Settings) -> AsyncIterator[AsyncSession]:
    engine = open_engine(settings)
    try:
        async with AsyncSession(engine) as session:
            yield session
    finally:
        await close_engine(engine)


async def _note_use(session: AsyncSession, token: ServiceToken) -> None:
    moment = now()
    if token.last_used_at and token.last_used_at > moment - USE_NOTED_EVERY:
        return
    last_used = col(ServiceToken.last_used_at)
    unnoted = or_(last_used.is_(None), last_used < moment - USE_NOTED_EVERY)
    await session.exec(
        update(ServiceToken)
        .where(col(ServiceToken.id) == token.id, unnoted)
        .values(last_used_at=moment)
        .execution_options(synchronize_session=False)
    )
    await session.commit()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _refused(code: str, message: str) -> RequestError:
    return RequestError(401, code, message, headers={"www-authenticate": "Bearer"})
