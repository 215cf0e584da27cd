"""The audit log: who changed what. Doorbell's own."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from app.account.audit import AuditFilter, list_audit_log
from app.api.dependencies import SessionDep
from app.api.management.dependencies import AdminAccess, PageDep
from app.api.management.request import ManagementRoute
from app.api.management.schemas import EntriesPage, Json, Timestamp, example, page_of
from app.models.audit import AuditEntry
from app.models.types import Moment

router = APIRouter(prefix="/audit_log", tags=["Audit log"], route_class=ManagementRoute)


class Actor(BaseModel):
    """Who made a change."""

    name: str = Field(description="The service token's name.")
    scope: str


class Resource(BaseModel):
    """What was changed."""

    type: str = Field(
        description="For example `source`, `workflow`, `environment`, `service_token` or `retention`."
    )
    key: str


class AuditEntryResponse(BaseModel):
    """One change. `before` and `after` never hold secrets."""

    model_config = example(
        id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        actor={"name": "ci", "scope": "write"},
        action="mapping.updated",
        environment="development",
        resource={"type": "source", "key": "stripe"},
        before={"event_type": "invoice.paid", "active": True},
        after={"event_type": "invoice.paid", "active": False},
        inserted_at="2026-01-15T12:00:00Z",
    )

    id: UUID
    actor: Actor
    action: str = Field(description="What was done, for example `source.updated`.")
    environment: str | None = Field(description="The environment that it concerns, if it is one.")
    resource: Resource
    before: Json | None = Field(description="How it was; null for something new.")
    after: Json | None = Field(description="How it is; null for something that is gone.")
    inserted_at: Timestamp


async def _filter(
    resource_type: Annotated[str | None, Query(description="Only changes of this type of thing.")] = None,
    resource_key: Annotated[str | None, Query(description="Only changes of what has this key.")] = None,
    environment: Annotated[str | None, Query(description="Only changes in this environment.")] = None,
    actor: Annotated[str | None, Query(description="Only changes by this service token, by name.")] = None,
    starting_at: Annotated[Moment | None, Query(description="Only at or after this time.")] = None,
    ending_at: Annotated[Moment | None, Query(description="Only at or before this time.")] = None,
) -> AuditFilter:
    return AuditFilter(resource_type, resource_key, environment, actor, starting_at, ending_at)


def _response(entry: AuditEntry) -> AuditEntryResponse:
    return AuditEntryResponse(
        actor=Actor(name=entry.actor_name, scope=entry.actor_scope),
        resource=Resource(type=entry.resource_type, key=entry.resource_key),
        **entry.model_dump(include={"id", "action", "environment", "before", "after", "inserted_at"}),
    )


@router.get("", summary="List changes")
async def list_changes(
    access: AdminAccess,
    session: SessionDep,
    wanted: Annotated[AuditFilter, Depends(_filter)],
    page: PageDep,
) -> EntriesPage[AuditEntryResponse]:
    """Changes of the configuration, newest first."""
    return page_of(await list_audit_log(session, wanted, page), AuditEntryResponse, _response)
