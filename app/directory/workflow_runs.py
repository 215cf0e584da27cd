"""Workflow runs in the database: recorded when a workflow is triggered, cancelled, read.

No workflow has a definition here yet: runs complete as soon as they are recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import to_json
from app.directory.recipients import Json, Reference
from app.models.types import new_id

_RECORD = text("""
WITH run AS (
    INSERT INTO workflow_runs (id, environment, workflow, actor_collection, actor_id, tenant, cancellation_key,
                               data, settings, inserted_at)
    VALUES (:id, :environment, :workflow, :actor_collection, :actor_id, :tenant, :cancellation_key,
            CAST(:data AS json), CAST(:settings AS json), now())
)
INSERT INTO workflow_recipient_runs (id, environment, workflow_run_id, workflow, recipient_collection,
                                     recipient_id, tenant, cancellation_key, status, error_count, inserted_at,
                                     updated_at)
SELECT given.id, :environment, :id, :workflow, collection, recipient_id, :tenant, :cancellation_key, 'completed',
       0, now(), now()
FROM unnest(CAST(:run_ids AS uuid[]), CAST(:collections AS text[]), CAST(:recipient_ids AS text[]))
    AS given (id, collection, recipient_id)
""")

_CANCEL = text("""
UPDATE workflow_recipient_runs SET status = 'cancelled', updated_at = now()
WHERE environment = :environment AND workflow = :workflow AND cancellation_key = :cancellation_key
    AND status IN ('queued', 'processing', 'paused')
    AND (CAST(:collections AS text[]) IS NULL OR (recipient_collection, recipient_id) IN (
        SELECT * FROM unnest(CAST(:collections AS text[]), CAST(:recipient_ids AS text[]))
    ))
""")

_COLUMNS = """
run.id, run.workflow_run_id, run.workflow, run.recipient_collection, run.recipient_id, run.tenant,
run.cancellation_key, run.status, run.error_count, run.inserted_at, run.updated_at,
trigger.actor_collection, trigger.actor_id
"""

_GET = text(f"""
SELECT {_COLUMNS} FROM workflow_recipient_runs AS run JOIN workflow_runs AS trigger ON trigger.id = run.workflow_run_id
WHERE run.environment = :environment AND run.id = :id
""")


@dataclass(frozen=True)
class Trigger:
    """A request to run a workflow, with its recipients identified already."""

    workflow: str
    recipients: Sequence[Reference]
    actor: Reference | None = None
    tenant: str | None = None
    cancellation_key: str | None = None
    data: Json | None = None
    settings: Json | None = None


@dataclass(frozen=True)
class RecipientRun:
    """One recipient's run of a triggered workflow."""

    id: UUID
    workflow_run_id: UUID
    workflow: str
    status: str
    recipient: Reference
    actor: Reference | None
    tenant: str | None
    cancellation_key: str | None
    error_count: int
    inserted_at: datetime
    updated_at: datetime


async def record_trigger(
    connection: AsyncConnection, environment: str, workflow_run_id: UUID, trigger: Trigger
) -> None:
    """Record one run for each recipient. A recipient named twice gets one."""
    recipients = list(dict.fromkeys(trigger.recipients))
    await connection.execute(
        _RECORD,
        {
            "id": workflow_run_id,
            "environment": environment,
            "workflow": trigger.workflow,
            "actor_collection": trigger.actor.collection if trigger.actor else None,
            "actor_id": trigger.actor.id if trigger.actor else None,
            "tenant": trigger.tenant,
            "cancellation_key": trigger.cancellation_key,
            "data": None if trigger.data is None else to_json(trigger.data),
            "settings": None if trigger.settings is None else to_json(trigger.settings),
            "run_ids": [new_id() for _ in recipients],
            "collections": [each.collection for each in recipients],
            "recipient_ids": [each.id for each in recipients],
        },
    )


async def cancel_runs(
    connection: AsyncConnection,
    environment: str,
    workflow: str,
    cancellation_key: str,
    recipients: Sequence[Reference] | None,
) -> None:
    """Cancel what still runs of the triggers with this key, for all recipients or for these."""
    await connection.execute(
        _CANCEL,
        {
            "environment": environment,
            "workflow": workflow,
            "cancellation_key": cancellation_key,
            "collections": None if recipients is None else [each.collection for each in recipients],
            "recipient_ids": None if recipients is None else [each.id for each in recipients],
        },
    )


async def get_run(connection: AsyncConnection, environment: str, run_id: UUID) -> RecipientRun | None:
    """The run, if there is one."""
    row = (await connection.execute(_GET, {"environment": environment, "id": run_id})).first()
    return None if row is None else recipient_run_of(row)


def recipient_run_of(row: Row[Any]) -> RecipientRun:
    """A row of a run and its trigger."""
    return RecipientRun(
        id=row.id,
        workflow_run_id=row.workflow_run_id,
        workflow=row.workflow,
        status=row.status,
        recipient=Reference(row.recipient_collection, row.recipient_id),
        actor=None if row.actor_id is None else Reference(row.actor_collection, row.actor_id),
        tenant=row.tenant,
        cancellation_key=row.cancellation_key,
        error_count=row.error_count,
        inserted_at=row.inserted_at,
        updated_at=row.updated_at,
    )
