"""Sessions of the dashboard: opened with a service token or by a link that works once, ended by logging out,
by time, or by revoking the token.

The browser holds a session's id, encrypted with a key derived from DOORBELL_SECRET_KEY; Postgres holds the
rest, so that all API processes know the same sessions.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.tokens import Access, check_token, check_token_hash
from app.core.errors import ConfigurationError, Permanent, RequestError
from app.core.secrets import SecretBox, new_token, token_hash
from app.core.settings import Settings
from app.database.engine import close_engine, open_engine
from app.models.dashboard import DashboardSession
from app.models.types import now

SESSION_LIFE = timedelta(hours=12)
LINK_LIFE = timedelta(minutes=10)
LINK_PREFIX = "dbl_link_"

_USE_LINK = text("""
UPDATE dashboard_sessions SET link_hash = NULL, expires_at = :expires_at
WHERE link_hash = :link_hash AND expires_at > :now RETURNING id
""")
_FIND_LINK = text("SELECT FROM dashboard_sessions WHERE link_hash = :link_hash AND expires_at > :now")
_FORGET_EXPIRED = text("DELETE FROM dashboard_sessions WHERE expires_at <= :now")
_END = text("DELETE FROM dashboard_sessions WHERE id = :id")


@dataclass(frozen=True)
class LoggedIn:
    """A session that is open: who it is, and the token that their forms carry."""

    id: UUID
    access: Access
    csrf_token: str


class SessionKeys:
    """What sessions are sealed with: keys of their own, derived from each part of DOORBELL_SECRET_KEY."""

    def __init__(self, secret_key: SecretStr | None) -> None:
        self._box = SecretBox(secret_key, purpose="dashboard sessions")

    def seal(self, identifier: UUID) -> str:
        """The cookie of a session."""
        return self._box.encrypt(identifier.bytes).decode()

    def unseal(self, cookie: str) -> UUID | None:
        """The session of a cookie; None when it is none of ours."""
        try:
            return UUID(bytes=self._box.decrypt(cookie.encode()))
        except (Permanent, ValueError):
            return None


async def log_in(session: AsyncSession, settings: Settings, token: str) -> UUID:
    """Open a session with a service token; its id.

    Raises:
        RequestError: 401, the token opens nothing.
    """
    await check_token(session, settings, token)
    await (await session.connection()).execute(_FORGET_EXPIRED, {"now": now()})
    opened = DashboardSession(token_hash=token_hash(token), expires_at=now() + SESSION_LIFE)
    session.add(opened)
    await session.commit()
    return opened.id


async def add_link(session: AsyncSession, settings: Settings, token: str) -> str:
    """The path of a link that logs in once, with a service token.

    Raises:
        RequestError: 401, the token opens nothing.
    """
    await check_token(session, settings, token)
    secret = new_token(LINK_PREFIX)
    session.add(
        DashboardSession(
            token_hash=token_hash(token), link_hash=token_hash(secret), expires_at=now() + LINK_LIFE
        )
    )
    await session.commit()
    return f"/login/{secret}"


async def issue_link(settings: Settings, token: str) -> str:
    """A link that logs in once, issued from the command line.

    Raises:
        ConfigurationError: the token opens nothing.
    """
    engine = open_engine(settings)
    try:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            return settings.base_url + await add_link(session, settings, token)
    except RequestError as error:
        raise ConfigurationError(error.message) from None
    finally:
        await close_engine(engine)


async def check_link(session: AsyncSession, secret: str) -> None:
    """Look whether a link would log in.

    Raises:
        RequestError: 401, the link was used or is too old.
    """
    parameters = {"link_hash": token_hash(secret), "now": now()}
    if (await (await session.connection()).execute(_FIND_LINK, parameters)).first() is None:
        raise _unusable()


async def use_link(session: AsyncSession, secret: str) -> UUID:
    """Open the session of a link; its id.

    Raises:
        RequestError: 401, the link was used or is too old.
    """
    moment = now()
    parameters = {"link_hash": token_hash(secret), "now": moment, "expires_at": moment + SESSION_LIFE}
    found: UUID | None = (await (await session.connection()).execute(_USE_LINK, parameters)).scalar()
    if found is None:
        raise _unusable()
    await session.commit()
    return found


def _unusable() -> RequestError:
    return RequestError(401, "link_invalid", "This link was used already, or is too old")


async def find_session(session: AsyncSession, settings: Settings, identifier: UUID) -> LoggedIn | None:
    """The open session with this id, with the access that its token gives now."""
    found = await session.get(DashboardSession, identifier)
    if found is None or found.link_hash is not None or found.expires_at <= now():
        return None
    try:
        access = await check_token_hash(session, settings, found.token_hash)
    except RequestError:
        return None
    return LoggedIn(found.id, access, _csrf_token(settings, found))


async def log_out(session: AsyncSession, identifier: UUID) -> None:
    """End a session."""
    await (await session.connection()).execute(_END, {"id": identifier})
    await session.commit()


def _csrf_token(settings: Settings, opened: DashboardSession) -> str:
    """What proves that a form came from a page of this session: pages of others cannot read it."""
    assert settings.secret_key is not None
    key = settings.secret_key.get_secret_value().split(",")[0].strip().encode()
    return hmac.new(key, b"dashboard forms" + opened.id.bytes, hashlib.sha256).hexdigest()
