"""Workflow runs in the database: recorded when a workflow is triggered, cancelled, read.

A workflow that has a definition gets queued runs, which a worker finds (`app/run_dispatch.py`) and follows. Runs
of a workflow without one complete as soon as they are recorded.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import to_json
from app.directory.recipients import Json, Reference
from app.models.status import RunStatus
from app.models.types import new_id

CHANNEL = "doorbell_runs"
# How long a cancel waits at most for what is being sent just then: longer than that takes (app/outbound.py).
SENDS_END_WITHIN = 16.0
SENDS_LOOK_INTERVAL = 0.05

_RECORD = text("""
WITH definition AS (
    SELECT version_id FROM workflow_definitions WHERE environment = :environment AND key = :workflow
), run AS (
    INSERT INTO workflow_runs (id, environment, workflow, actor_collection, actor_id, tenant, cancellation_key,
                               data, settings, version_id, inserted_at)
    VALUES (:id, :environment, :workflow, :actor_collection, :actor_id, :tenant, :cancellation_key,
            CAST(:data AS json), CAST(:settings AS json), (SELECT version_id FROM definition), now())
)
INSERT INTO workflow_recipient_runs (id, environment, workflow_run_id, workflow, recipient_collection,
                                     recipient_id, tenant, cancellation_key, status, error_count, stop_requested,
                                     inserted_at, updated_at)
SELECT given.id, :environment, :id, :workflow, collection, recipient_id, :tenant, :cancellation_key,
       CASE WHEN EXISTS (SELECT FROM definition) THEN 'queued' ELSE 'completed' END, 0, false, now(), now()
FROM unnest(CAST(:run_ids AS uuid[]), CAST(:collections AS text[]), CAST(:recipient_ids AS text[]))
    AS given (id, collection, recipient_id)
RETURNING status
""")

_NOTIFY = text("SELECT pg_notify(:channel, :environment)")

# A run that a worker has claimed may have a workflow, which the worker then cancels.
_CANCEL = text("""
UPDATE workflow_recipient_runs
SET status = 'cancelled', updated_at = now(), finished_at = now(), stop_requested = lease_expires_at IS NOT NULL
WHERE environment = :environment AND workflow = :workflow AND cancellation_key = :cancellation_key
    AND status IN ('queued', 'processing', 'paused')
    AND (CAST(:collections AS text[]) IS NULL OR (recipient_collection, recipient_id) IN (
        SELECT * FROM unnest(CAST(:collections AS text[]), CAST(:recipient_ids AS text[]))
    ))
RETURNING id, stop_requested
""")

_SENDING = text("""
SELECT EXISTS (
    SELECT FROM workflow_run_steps
    WHERE run_id = ANY(CAST(:ids AS uuid[])) AND status = 'sending' AND lease_expires_at > now()
)
""")

_STEPS = text("""
SELECT position, ref, type, channel_type, status, attempts, error, wait_until, message_id, started_at, finished_at
FROM workflow_run_steps WHERE run_id = :id ORDER BY position
""")

_COLUMNS = """
run.id, run.workflow_run_id, run.workflow, run.recipient_collection, run.recipient_id, run.tenant,
run.cancellation_key, run.status, run.error_count, run.error, run.temporal_run_id, run.environment, run.inserted_at,
run.updated_at, run.started_at, run.finished_at, trigger.actor_collection, trigger.actor_id
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
    error: str | None
    workflow_id: str | None
    temporal_run_id: str | None
    inserted_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class RunStep:
    """One step of a run."""

    position: int
    ref: str
    type: str
    channel_type: str | None
    status: str
    attempts: int
    error: str | None
    wait_until: datetime | None
    message_id: UUID | None
    started_at: datetime
    finished_at: datetime | None


def workflow_id(environment: str, run_id: UUID) -> str:
    """The id of the workflow in Temporal that follows a run."""
    return f"run/{environment}/{run_id}"


async def record_trigger(
    connection: AsyncConnection, environment: str, workflow_run_id: UUID, trigger: Trigger
) -> None:
    """Record one run for each recipient. A recipient named twice gets one."""
    recipients = list(dict.fromkeys(trigger.recipients))
    recorded = await connection.execute(
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
    if recorded.scalars().first() == RunStatus.QUEUED:
        await connection.execute(_NOTIFY, {"channel": CHANNEL, "environment": environment})


async def cancel_runs(
    connection: AsyncConnection,
    environment: str,
    workflow: str,
    cancellation_key: str,
    recipients: Sequence[Reference] | None,
) -> list[UUID]:
    """Cancel what still runs of the triggers with this key, for all recipients or for these.

    The runs that were being followed: when this is committed they begin nothing new, and `sends_end` waits for
    what they had begun.
    """
    cancelled = await connection.execute(
        _CANCEL,
        {
            "environment": environment,
            "workflow": workflow,
            "cancellation_key": cancellation_key,
            "collections": None if recipients is None else [each.collection for each in recipients],
            "recipient_ids": None if recipients is None else [each.id for each in recipients],
        },
    )
    followed = [row.id for row in cancelled if row.stop_requested]
    if followed:
        await connection.execute(_NOTIFY, {"channel": CHANNEL, "environment": environment})
    return followed


async def sends_end(connection: AsyncConnection, runs: Sequence[UUID]) -> None:
    """Return when nothing that these runs had begun to send is on its way any more."""
    end = asyncio.get_running_loop().time() + SENDS_END_WITHIN
    while (await connection.execute(_SENDING, {"ids": list(runs)})).scalar_one():
        if asyncio.get_running_loop().time() > end:
            return
        await asyncio.sleep(SENDS_LOOK_INTERVAL)


async def get_run(connection: AsyncConnection, environment: str, run_id: UUID) -> RecipientRun | None:
    """The run, if there is one."""
    row = (await connection.execute(_GET, {"environment": environment, "id": run_id})).first()
    return None if row is None else recipient_run_of(row)


async def get_steps(connection: AsyncConnection, run_id: UUID) -> list[RunStep]:
    """The steps that a run has come to, in their order."""
    rows = await connection.execute(_STEPS, {"id": run_id})
    return [RunStep(**row) for row in rows.mappings()]


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
        error=row.error,
        workflow_id=workflow_id(row.environment, row.id) if row.temporal_run_id else None,
        temporal_run_id=row.temporal_run_id,
        inserted_at=row.inserted_at,
        updated_at=row.updated_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
