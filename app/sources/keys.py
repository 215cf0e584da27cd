"""Keys with which reverse ETL tools call Knock's API in the name of a source. Only hashes are stored.

What such a call becomes is in `app/api/reverse_etl/source_calls.py`. Each change has its entry in the audit
log; the caller commits.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.audit import note_source_change, snapshot
from app.account.tokens import KEY_PREFIX, Access
from app.core.errors import FieldError, RequestError
from app.core.secrets import new_token, token_hash
from app.core.validation import invalid_fields
from app.models.source import Source, SourceEnvironment, SourceKey
from app.models.types import now
from app.providers.base import Provider
from app.providers.registry import providers

SOURCE_KEY_PREFIX = f"{KEY_PREFIX}src_"


def takes_keys(provider: Provider | None) -> bool:
    """Whether sources of a provider may have keys: those of tools that call Knock's API."""
    return provider is not None and provider.kind == "reverse_etl"


async def issue_source_key(
    session: AsyncSession, access: Access, configured: SourceEnvironment, name: str
) -> tuple[SourceKey, str]:
    """A new key of a source in an environment, and its plaintext.

    Raises:
        RequestError: 422, the source's provider does not call Knock's API.
    """
    source = await session.get_one(Source, configured.source_key)
    if not takes_keys(providers().get(source.provider)):
        able = ", ".join(each.key for each in providers().values() if takes_keys(each))
        raise invalid_fields([FieldError("key", f"only sources of {able} have keys")])
    plaintext = new_token(SOURCE_KEY_PREFIX)
    key = SourceKey(source_environment_id=configured.id, name=name, key_hash=token_hash(plaintext))
    session.add(key)
    await session.flush()
    note_source_change(session, access, "source_key.issued", configured, after=snapshot(key))
    return key, plaintext


async def list_source_keys(session: AsyncSession, configured: SourceEnvironment) -> Sequence[SourceKey]:
    """The keys of a source in an environment, revoked ones too, newest first."""
    query = select(SourceKey).where(SourceKey.source_environment_id == configured.id)
    return (await session.exec(query.order_by(col(SourceKey.id).desc()))).all()


async def revoke_source_key(
    session: AsyncSession, access: Access, configured: SourceEnvironment, identifier: UUID
) -> None:
    """Let a key open nothing from now on.

    Raises:
        RequestError: 404, the source has none with this id in this environment.
    """
    key = await session.get(SourceKey, identifier)
    if key is None or key.source_environment_id != configured.id:
        where = f"Source {configured.source_key!r} in {configured.environment!r}"
        raise RequestError(404, "resource_missing", f"{where} has no key {identifier}")
    before = snapshot(key)
    key.revoked_at = key.revoked_at or now()
    await session.flush()
    note_source_change(session, access, "source_key.revoked", configured, before=before, after=snapshot(key))
