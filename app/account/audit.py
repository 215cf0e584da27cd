"""The audit log: configuration changes as they are made, in the transaction that makes them.

Snapshots name what may be shown: no secret, key or endpoint token is ever part of one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.tokens import Access
from app.account.variables import FoundVariable
from app.core.secrets import REDACTED
from app.database.pages import Page, PageRequest, fetch_page
from app.models.audit import AuditEntry
from app.models.environment import Environment
from app.models.source import SourceEnvironment
from app.models.types import first_id_at, id_time_range

Snapshot = dict[str, Any]

# Columns that are secret, or that say nothing of the configuration.
_HIDDEN = frozenset(
    {
        "endpoint_token",
        "destination_key",
        "ciphertext",
        "token_hash",
        "key_hash",
        "exchanged_from",
        "source_environment_id",
        "created_at",
        "updated_at",
        "last_used_at",
    }
)


@dataclass(frozen=True)
class AuditFilter:
    """Which entries. Times are inclusive."""

    resource_type: str | None = None
    resource_key: str | None = None
    environment: str | None = None
    actor_name: str | None = None
    starting_at: datetime | None = None
    ending_at: datetime | None = None


def note_change(
    session: AsyncSession,
    access: Access,
    action: str,
    resource: tuple[str, str],
    *,
    environment: str | None = None,
    before: Snapshot | None = None,
    after: Snapshot | None = None,
) -> None:
    """Add an entry, unless nothing changed. `resource` is its type and key, `action` for example
    `source.updated`."""
    if before == after and before is not None:
        return
    resource_type, resource_key = resource
    session.add(
        AuditEntry(
            actor_name=access.name,
            actor_scope=access.scope.value,
            action=action,
            environment=environment,
            resource_type=resource_type,
            resource_key=resource_key,
            before=before,
            after=after,
        )
    )


async def list_audit_log(session: AsyncSession, wanted: AuditFilter, page: PageRequest) -> Page[AuditEntry]:
    """A page of the audit log, newest first."""
    query = select(AuditEntry.__table__)  # type: ignore[attr-defined]
    for name in ("resource_type", "resource_key", "environment", "actor_name"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(AuditEntry, name) == value)
    if wanted.starting_at is not None:
        query = query.where(col(AuditEntry.id) >= first_id_at(wanted.starting_at))
    if wanted.ending_at is not None:
        query = query.where(col(AuditEntry.id) < id_time_range(first_id_at(wanted.ending_at))[1])
    return await fetch_page(
        await session.connection(),
        query,
        [col(AuditEntry.id)],
        page,
        lambda row: AuditEntry(**{name: row._mapping[name] for name in AuditEntry.model_fields}),
        descending=True,
        parse=UUID,
    )


def snapshot(row: SQLModel) -> Snapshot:
    """A row without what is secret."""
    return {name: _shown(getattr(row, name)) for name in type(row).model_fields if name not in _HIDDEN}


def environment_snapshot(environment: Environment) -> Snapshot:
    """An environment; of its destination's key, whether there is one."""
    return {**snapshot(environment), "has_destination_key": environment.destination_key is not None}


def variable_snapshot(found: FoundVariable, earlier: FoundVariable | None = None) -> Snapshot:
    """A variable; of a secret one, which values there are, and which are others than `earlier`."""
    values = {"": found.value, **found.environment_values}
    if found.variable.type == "secret":
        others = {} if earlier is None else {"": earlier.value, **earlier.environment_values}
        values = {
            slug: None
            if value is None
            else f"{REDACTED}{' (new)' if others.get(slug, value) != value else ''}"
            for slug, value in values.items()
        }
    return {
        **snapshot(found.variable),
        "value": values.pop(""),
        "environment_values": values,
    }


def _shown(value: Any) -> Any:
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, dict | list | str | int | bool | float) or value is None:
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


def note_source_change(
    session: AsyncSession,
    access: Access,
    action: str,
    configured: SourceEnvironment,
    *,
    before: Snapshot | None = None,
    after: Snapshot | None = None,
) -> None:
    """Add an entry about a source in one environment, as `note_change` does."""
    resource = ("source", configured.source_key)
    note_change(
        session, access, action, resource, environment=configured.environment, before=before, after=after
    )
