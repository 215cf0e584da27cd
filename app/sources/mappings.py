"""Mappings of a source, one by one: read, added, changed and removed by id.

Every change takes the source's lock, so that it and a change of the whole source come one after the other,
and notes itself in the audit log.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.audit import note_source_change, snapshot
from app.account.tokens import Access
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.models.source import Mapping, Source, SourceEnvironment
from app.models.types import now
from app.sources.changes import MAXIMUM_MAPPINGS, MappingChange, canonical
from app.sources.store import conditions_of, lock_source
from app.sources.versions import check_match, mapping_version


async def list_mappings(session: AsyncSession, configured: SourceEnvironment) -> Sequence[Mapping]:
    """The mappings of a source in an environment, oldest first."""
    query = select(Mapping).where(Mapping.source_environment_id == configured.id)
    return (await session.exec(query.order_by(col(Mapping.id)))).all()


async def get_mapping(session: AsyncSession, configured: SourceEnvironment, identifier: UUID) -> Mapping:
    """The mapping.

    Raises:
        RequestError: 404, the source has none with this id in the environment.
    """
    mapping = await session.get(Mapping, identifier)
    if mapping is None or mapping.source_environment_id != configured.id:
        message = (
            f"Source {configured.source_key!r} has no mapping {identifier} in {configured.environment!r}"
        )
        raise RequestError(404, "resource_missing", message)
    return mapping


async def add_mapping(
    session: AsyncSession, access: Access, configured: SourceEnvironment, change: MappingChange
) -> Mapping:
    """Add a mapping.

    Raises:
        RequestError: 422, there is one that says the same, or there are too many.
    """
    await lock_source(session, configured.source_key)
    existing = await list_mappings(session, configured)
    if len(existing) >= MAXIMUM_MAPPINGS:
        raise invalid_fields(
            [FieldError("mapping", f"there are {MAXIMUM_MAPPINGS} already: delete one first")]
        )
    _refuse_repeat(existing, change)
    mapping = Mapping(source_environment_id=configured.id, **change.columns())
    session.add(mapping)
    await _touch(session, configured)
    note_source_change(session, access, "mapping.created", configured, after=snapshot(mapping))
    return mapping


async def change_mapping(
    session: AsyncSession,
    access: Access,
    configured: SourceEnvironment,
    identifier: UUID,
    change: MappingChange,
    if_match: str | None,
) -> Mapping:
    """Make a mapping what `change` says.

    Raises:
        RequestError: 404, there is none; 412, it is not as `if_match` says; 422, another one says the same.
    """
    await lock_source(session, configured.source_key)
    mapping = await get_mapping(session, configured, identifier)
    check_match(if_match, mapping_version(mapping), "The mapping")
    others = [each for each in await list_mappings(session, configured) if each.id != identifier]
    _refuse_repeat(others, change)
    before = snapshot(mapping)
    wanted = change.columns()
    if canonical(mapping.model_dump(include=set(wanted))) != canonical(wanted):
        mapping.sqlmodel_update(wanted)
        mapping.updated_at = now()
        await _touch(session, configured)
    note_source_change(session, access, "mapping.updated", configured, before=before, after=snapshot(mapping))
    return mapping


async def delete_mapping(
    session: AsyncSession,
    access: Access,
    configured: SourceEnvironment,
    identifier: UUID,
    if_match: str | None,
) -> None:
    """Remove a mapping.

    Raises:
        RequestError: 404, there is none; 412, it is not as `if_match` says.
    """
    await lock_source(session, configured.source_key)
    mapping = await get_mapping(session, configured, identifier)
    check_match(if_match, mapping_version(mapping), "The mapping")
    await session.delete(mapping)
    await _touch(session, configured)
    note_source_change(session, access, "mapping.deleted", configured, before=snapshot(mapping))


def _refuse_repeat(existing: Sequence[Mapping], change: MappingChange) -> None:
    """The action would run twice."""
    wanted = _what(change)
    same = next((each for each in existing if _what(each) == wanted), None)
    if same is not None:
        raise invalid_fields([FieldError("mapping", f"is the same as mapping {same.id}")])


def _what(mapping: Mapping | MappingChange) -> bytes:
    return canonical(
        [mapping.event_type, mapping.action_type, mapping.action_parameters or {}, conditions_of(mapping)]
    )


async def _touch(session: AsyncSession, configured: SourceEnvironment) -> None:
    source = await session.get_one(Source, configured.source_key)
    configured.updated_at = source.updated_at = now()
    session.add_all([configured, source])
    await session.flush()
