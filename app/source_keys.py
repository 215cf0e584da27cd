"""Keys with which reverse ETL tools call Knock's API in the name of a source. Only hashes are stored.

What such a call becomes is in `app/api/source_calls.py`.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import FieldError, RequestError
from app.models.source import Source, SourceEnvironment, SourceKey
from app.models.types import now
from app.providers.registry import providers
from app.secrets import new_token, token_hash
from app.tokens import KEY_PREFIX
from app.validation import invalid_fields

SOURCE_KEY_PREFIX = f"{KEY_PREFIX}src_"


async def add_source_key(
    session: AsyncSession, configured: SourceEnvironment, name: str
) -> tuple[SourceKey, str]:
    """A new key of a source in an environment, and its plaintext.

    Raises:
        RequestError: 422, the source's provider does not call Knock's API.
    """
    source = await session.get_one(Source, configured.source_key)
    provider = providers().get(source.provider)
    if provider is None or provider.kind != "reverse_etl":
        able = ", ".join(each.key for each in providers().values() if each.kind == "reverse_etl")
        raise invalid_fields([FieldError("key", f"only sources of {able} have keys")])
    plaintext = new_token(SOURCE_KEY_PREFIX)
    key = SourceKey(source_environment_id=configured.id, name=name, key_hash=token_hash(plaintext))
    session.add(key)
    await session.flush()
    return key, plaintext


async def list_source_keys(session: AsyncSession, configured: SourceEnvironment) -> Sequence[SourceKey]:
    """The keys of a source in an environment, revoked ones too, newest first."""
    query = select(SourceKey).where(SourceKey.source_environment_id == configured.id)
    return (await session.exec(query.order_by(col(SourceKey.id).desc()))).all()


async def revoke_source_key(session: AsyncSession, configured: SourceEnvironment, identifier: UUID) -> None:
    """Let a key open nothing from now on.

    Raises:
        RequestError: 404, the source has none with this id in this environment.
    """
    key = await session.get(SourceKey, identifier)
    if key is None or key.source_environment_id != configured.id:
        where = f"Source {configured.source_key!r} in {configured.environment!r}"
        raise RequestError(404, "resource_missing", f"{where} has no key {identifier}")
    key.revoked_at = key.revoked_at or now()
    await session.flush()
