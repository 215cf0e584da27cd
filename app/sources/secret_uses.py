"""When each signing secret last matched: kept in memory while events come, written now and then.

One for each API process. A write for each secret in use and minute, whatever the number of events; a process
that is killed forgets the last minute.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.background import background
from app.models.source import SigningSecret, SigningSecretUse, SourceEnvironment

logger = logging.getLogger(__name__)

WRITE_EVERY = timedelta(minutes=1)

# Of secrets that were deleted meanwhile nothing is written; of two processes, the later match counts.
_WRITE = text("""
INSERT INTO signing_secret_uses (secret_id, last_matched_at)
SELECT v.id, v.moment FROM unnest(CAST(:ids AS uuid[]), CAST(:moments AS timestamptz[])) AS v (id, moment)
JOIN signing_secrets ON signing_secrets.id = v.id
ON CONFLICT (secret_id) DO UPDATE
SET last_matched_at = greatest(signing_secret_uses.last_matched_at, excluded.last_matched_at)
""")


class SecretUses:
    """The matches of this process that are not written yet."""

    def __init__(self, engine: AsyncEngine, write_every: timedelta = WRITE_EVERY) -> None:
        self._engine = engine
        self._write_every = write_every
        self._matched: dict[UUID, datetime] = {}

    def note(self, secret: UUID | None, moment: datetime) -> None:
        """A secret matched; None is no secret."""
        if secret is not None:
            self._matched[secret] = moment

    @asynccontextmanager
    async def written(self) -> AsyncIterator[None]:
        """Write beside the block, and once more at its end."""
        async with background(self._write_regularly()):
            yield
        await self._write()

    async def _write_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._write_every.total_seconds())
            await self._write()

    async def _write(self) -> None:
        matched, self._matched = self._matched, {}
        if not matched:
            return
        try:
            async with self._engine.begin() as connection:
                await connection.execute(_WRITE, {"ids": list(matched), "moments": list(matched.values())})
        except (SQLAlchemyError, OSError) as error:
            logger.warning("secret_uses_not_written", extra={"error": type(error).__name__})
            self._matched = {**matched, **self._matched}


async def last_matches(session: AsyncSession, configured: SourceEnvironment) -> dict[UUID, datetime]:
    """When the secrets of a source in an environment last matched, by id."""
    query = (
        select(SigningSecretUse)
        .join(SigningSecret)
        .where(SigningSecret.source_environment_id == configured.id)
    )
    return {each.secret_id: each.last_matched_at for each in await session.exec(query)}
