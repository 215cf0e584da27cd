"""The lists of the directory: recipients and workflow runs, filtered, in pages."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from app.database.pages import Page, PageRequest, fetch_page
from app.directory.recipients import Recipient, Reference, recipient_of
from app.directory.workflow_runs import RecipientRun, recipient_run_of
from app.models.directory import DirectoryRecipient, WorkflowRecipientRun, WorkflowRun


async def list_recipients(
    connection: AsyncConnection,
    environment: str,
    collection: str,
    page: PageRequest,
    *,
    id: str | None = None,
    name: str | None = None,
) -> Page[Recipient]:
    """The recipients of a collection by id, all of them or those with this id or name."""
    table = DirectoryRecipient
    query = select(
        col(table.collection),
        col(table.id),
        col(table.properties),
        col(table.preferences),
        col(table.updated_at),
    ).where(col(table.environment) == environment, col(table.collection) == collection)
    if id is not None:
        query = query.where(col(table.id) == id)
    if name is not None:
        query = query.where(col(table.properties)["name"].astext == name)
    return await fetch_page(connection, query, [col(table.id)], page, recipient_of)


async def list_runs(
    connection: AsyncConnection,
    environment: str,
    page: PageRequest,
    *,
    workflow: str | None = None,
    statuses: Sequence[str] = (),
    tenant: str | None = None,
    has_errors: bool | None = None,
    recipient: Reference | None = None,
    starting_at: datetime | None = None,
    ending_at: datetime | None = None,
) -> Page[RecipientRun]:
    """Workflow runs, the newest first."""
    run, trigger = WorkflowRecipientRun, WorkflowRun
    query = (
        select(
            *(each for each in run.__table__.columns if each.name not in ("data", "subscription")),  # type: ignore[attr-defined]
            col(trigger.actor_collection),
            col(trigger.actor_id),
        )
        .join(trigger, col(trigger.id) == col(run.workflow_run_id))
        .where(col(run.environment) == environment)
    )
    if workflow is not None:
        query = query.where(col(run.workflow) == workflow)
    if statuses:
        query = query.where(col(run.status).in_(statuses))
    if tenant is not None:
        query = query.where(col(run.tenant) == tenant)
    if has_errors is not None:
        query = query.where(col(run.error_count) > 0 if has_errors else col(run.error_count) == 0)
    if recipient is not None:
        query = query.where(
            col(run.recipient_collection) == recipient.collection, col(run.recipient_id) == recipient.id
        )
    if starting_at is not None:
        query = query.where(col(run.inserted_at) >= starting_at)
    if ending_at is not None:
        query = query.where(col(run.inserted_at) <= ending_at)
    return await fetch_page(
        connection, query, [col(run.id)], page, recipient_run_of, descending=True, parse=UUID
    )
