"""Signing secrets of sources: written, listed and removed, never read back. Several at once, for rotation."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import FieldError, RequestError
from app.core.secrets import SecretBox
from app.core.validation import invalid_fields
from app.models.source import SigningSecret, Source, SourceEnvironment
from app.models.types import LATEST, now
from app.providers.base import Provider
from app.providers.registry import providers
from app.providers.verification import CannotSign, UnusableSecret

# Each one is tried on each delivery that none before it signed.
MAXIMUM_SECRETS = 10


async def list_secrets(session: AsyncSession, configured: SourceEnvironment) -> Sequence[SigningSecret]:
    """The secrets of a source in an environment, expired ones too, newest first."""
    query = select(SigningSecret).where(SigningSecret.source_environment_id == configured.id)
    return (await session.exec(query.order_by(col(SigningSecret.id).desc()))).all()


async def add_secret(
    session: AsyncSession,
    box: SecretBox,
    configured: SourceEnvironment,
    value: str,
    *,
    expires_at: datetime | None,
    expire_others_in: timedelta | None,
) -> SigningSecret:
    """Add a secret; the others go on for `expire_others_in` when it is given, else for as long as they would.

    Raises:
        RequestError: 422, the source's provider cannot verify with it, or there are too many.
    """
    source = await session.get_one(Source, configured.source_key)
    errors = secret_errors(providers().get(source.provider), value, "secret.value")
    moment = now()
    if expires_at is not None and expires_at <= moment:
        errors.append(FieldError("secret.expires_at", "is in the past"))
    if expires_at is not None and expires_at >= LATEST:
        message = f"must be before the year {LATEST.year}. For a secret that does not expire, leave it out"
        errors.append(FieldError("secret.expires_at", message))
    others = await list_secrets(session, configured)
    if sum(each.expires_at is None or each.expires_at > moment for each in others) >= MAXIMUM_SECRETS:
        errors.append(FieldError("secret", f"there are {MAXIMUM_SECRETS} already: delete one first"))
    if errors:
        raise invalid_fields(errors)
    if expire_others_in is not None:
        for each in others:
            end = moment + expire_others_in
            each.expires_at = min(each.expires_at or end, end)
    secret = SigningSecret(
        source_environment_id=configured.id, ciphertext=box.encrypt(value.encode()), expires_at=expires_at
    )
    session.add(secret)
    await session.flush()
    return secret


async def delete_secret(session: AsyncSession, configured: SourceEnvironment, identifier: UUID) -> None:
    """Remove a secret: what it signed is refused from now on.

    Raises:
        RequestError: 404, the source has none with this id in this environment.
    """
    secret = await session.get(SigningSecret, identifier)
    if secret is None or secret.source_environment_id != configured.id:
        where = f"Source {configured.source_key!r} in {configured.environment!r}"
        raise RequestError(404, "resource_missing", f"{where} has no signing secret {identifier}")
    await session.delete(secret)
    await session.flush()


def secret_errors(provider: Provider | None, value: str, field: str) -> list[FieldError]:
    """Why a secret could verify nothing, found out by signing with it."""
    if value != value.strip() or not value.isprintable():
        return [FieldError(field, "has spaces around it, or characters that cannot be seen; copy it again")]
    if provider is None or provider.scheme is None:
        return [FieldError(field, "cannot be used: events of this provider are not signed with a secret")]
    try:
        provider.scheme.sign(b"{}", value, now(), "msg_check")
    except UnusableSecret as error:
        return [FieldError(field, str(error))]
    except CannotSign:
        # A public key: what it has to do here is verify.
        return []
    return []
