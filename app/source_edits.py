"""A whole source edited: under its lock, only as the editor saw it, with an entry in the audit log."""

from sqlmodel.ext.asyncio.session import AsyncSession

from app.audit import note_change, source_snapshot
from app.models.source import Source
from app.scripting import Scripts
from app.source_changes import script_errors
from app.sources import ConfiguredSource, get_source, lock_source, upsert_source
from app.tokens import Access
from app.versions import check_match, source_version


async def edit_source(
    session: AsyncSession,
    access: Access,
    key: str,
    environment: str,
    body: object,
    if_match: str | None,
    *,
    scripts: Scripts,
) -> ConfiguredSource:
    """Create or change a source as a request's body says. `scripts` tries whether its scripts can run.

    Raises:
        RequestError: 412, it is not as `if_match` says; 422, naming everything that is wrong.
    """
    # Before the lock: a script may take its time.
    unusable = await script_errors(scripts, body)
    await lock_source(session, key)
    found = await get_source(session, key) if await session.get(Source, key) else None
    check_match(if_match, None if found is None else source_version(found), f"Source {key!r}")
    before = source_snapshot(found)
    source = await upsert_source(session, key, environment, body, unusable_scripts=unusable)
    action = "source.created" if before is None else "source.updated"
    note_change(session, access, action, ("source", key), before=before, after=source_snapshot(source))
    return source
