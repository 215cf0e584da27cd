"""The ingestion endpoint of a source in an environment: its URL's token, rotated without losing an event.

A replaced token still works for a while, so that the sender can be changed over in peace.
"""

import secrets
from collections.abc import Sequence
from datetime import timedelta

from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.source import ReplacedEndpointToken, SourceEnvironment
from app.models.types import now
from app.sources.store import lock_source

# How long a replaced URL or secret may go on.
MAXIMUM_OVERLAP_SECONDS = 30 * 24 * 3600


def new_endpoint_token() -> str:
    """A token with 192 random bits."""
    return secrets.token_urlsafe(24)


async def list_replaced(
    session: AsyncSession, configured: SourceEnvironment
) -> Sequence[ReplacedEndpointToken]:
    """The replaced tokens that still work, the one that works longest first."""
    query = select(ReplacedEndpointToken).where(
        ReplacedEndpointToken.source_environment_id == configured.id,
        col(ReplacedEndpointToken.expires_at) > now(),
    )
    return (await session.exec(query.order_by(col(ReplacedEndpointToken.expires_at).desc()))).all()


async def rotate_endpoint(session: AsyncSession, configured: SourceEnvironment, overlap: timedelta) -> None:
    """Give the endpoint a new token. The tokens before it work for `overlap` still, and not longer."""
    await lock_source(session, configured.source_key)
    await session.refresh(configured)
    moment = now()
    for each in await list_replaced(session, configured):
        each.expires_at = min(each.expires_at, moment + overlap)
    await _forget_expired(session, configured)
    if overlap:
        session.add(
            ReplacedEndpointToken(
                token=configured.endpoint_token,
                source_environment_id=configured.id,
                expires_at=moment + overlap,
            )
        )
    configured.endpoint_token = new_endpoint_token()
    configured.updated_at = moment
    await session.flush()


async def end_overlap(session: AsyncSession, configured: SourceEnvironment) -> None:
    """Let replaced tokens work no longer."""
    await session.exec(
        delete(ReplacedEndpointToken).where(col(ReplacedEndpointToken.source_environment_id) == configured.id)
    )


async def _forget_expired(session: AsyncSession, configured: SourceEnvironment) -> None:
    await session.flush()
    await session.exec(
        delete(ReplacedEndpointToken).where(
            col(ReplacedEndpointToken.source_environment_id) == configured.id,
            col(ReplacedEndpointToken.expires_at) <= now(),
        )
    )
