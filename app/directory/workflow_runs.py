"""Workflow runs in the database: recorded when a workflow is triggered, cancelled, read.

A workflow that has a definition gets queued runs, which a worker finds (`app/worker/runs.py`) and follows.
Runs of a workflow without one complete as soon as they are recorded. `app/directory/fan_outs.py` adds those
of subscribers.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import to_json
from app.directory.fan_outs import CHANNEL, begin_fan_out, cancel_fan_outs
from app.directory.idempotency import CLAIM_GIVEN
from app.directory.recipients import Json, Reference
from app.models.types import new_id

# How long a cancel waits at most for what is being sent just then: longer than that takes
# (app/outbound/http.py).
SENDS_END_WITHIN = 16.0
SENDS_LOOK_INTERVAL = 0.05

# Triggers as one JSON array: those of `mine` are recorded.
_GIVEN = """
given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS given (
        id uuid, environment text, workflow text, actor_collection text, actor_id text, tenant text,
        cancellation_key text, data text, settings text, run_ids uuid[], collections text[],
          recipient_ids text[],
        key text, request_digest text, request_id text, response text)
)
"""
_RECORD_MINE = """
triggered AS MATERIALIZED (
    SELECT mine.*, definition.version_id
    FROM mine LEFT JOIN workflow_definitions AS definition
        ON definition.environment = mine.environment AND definition.key = mine.workflow
), runs AS (
    INSERT INTO workflow_runs (id, environment, workflow, actor_collection, actor_id, tenant,
      cancellation_key,
                               data, settings, version_id, inserted_at)
    SELECT id, environment, workflow, actor_collection, actor_id, tenant, cancellation_key, data::json,
           settings::json, version_id, now()
    FROM triggered
), recipient_runs AS (
    INSERT INTO workflow_recipient_runs (id, environment, workflow_run_id, workflow, recipient_collection,
                                         recipient_id, tenant, cancellation_key, status, error_count,
                                           stop_requested,
                                         inserted_at, updated_at)
    SELECT recipient.run_id, environment, triggered.id, workflow, recipient.collection, recipient.id, tenant,
           cancellation_key, CASE WHEN version_id IS NULL THEN 'completed'
             ELSE 'queued' END, 0, false, now(), now()
    FROM triggered CROSS JOIN unnest(run_ids, collections, recipient_ids) AS recipient (run_id, collection,
      id)
)
SELECT id, CASE WHEN version_id IS NOT NULL THEN pg_notify(:channel, environment) END FROM triggered
"""
_RECORD = text(f"WITH {_GIVEN}, mine AS (SELECT * FROM given), {_RECORD_MINE}")
_RECORD_FIRST = text(f"""
WITH {_GIVEN}, claimed AS ({CLAIM_GIVEN}), mine AS (
    SELECT given.* FROM given JOIN claimed ON (claimed.environment, claimed.key) = (given.environment,
      given.key)
), {_RECORD_MINE}
""")

_NOTIFY = text("SELECT pg_notify(:channel, :environment)")

# A run that a worker has claimed may have a workflow, which the worker then cancels.
_CANCEL = text("""
UPDATE workflow_recipient_runs
SET status = 'cancelled', updated_at = now(), finished_at = now(),
  stop_requested = lease_expires_at IS NOT NULL
WHERE environment = :environment AND workflow = :workflow AND cancellation_key = :cancellation_key
    AND status IN ('queued', 'processing', 'paused')
    AND (CAST(:collections AS text[]) IS NULL OR (recipient_collection, recipient_id) IN (
        SELECT * FROM unnest(CAST(:collections AS text[]), CAST(:recipient_ids AS text[]))
    ))
RETURNING id, stop_requested
""")

_CANCEL_ONE = text("""
UPDATE workflow_recipient_runs
SET status = 'cancelled', updated_at = now(), finished_at = now(),
  stop_requested = lease_expires_at IS NOT NULL
WHERE environment = :environment AND id = :id AND status IN ('queued', 'processing', 'paused')
RETURNING stop_requested
""")

_SENDING = text("""
SELECT EXISTS (
    SELECT FROM workflow_run_steps
    WHERE run_id = ANY(CAST(:ids AS uuid[])) AND status = 'sending' AND lease_expires_at > now()
)
""")

_STEPS = text("""
SELECT position, ref, type, channel_type, status, attempts, error, wait_until, message_id, started_at,
  finished_at
FROM workflow_run_steps WHERE run_id = :id ORDER BY position
""")

_COLUMNS = """
run.id, run.workflow_run_id, run.workflow, run.recipient_collection, run.recipient_id, run.tenant,
run.cancellation_key, run.status, run.error_count, run.error, run.temporal_run_id, run.environment,
run.inserted_at, run.updated_at, run.started_at, run.finished_at, trigger.actor_collection, trigger.actor_id
"""

_GET = text(f"""
SELECT {_COLUMNS} FROM workflow_recipient_runs AS run JOIN workflow_runs AS trigger
  ON trigger.id = run.workflow_run_id
WHERE run.environment = :environment AND run.id = :id
""")


_SIBLINGS = text(f"""
SELECT {_COLUMNS} FROM workflow_recipient_runs AS run JOIN workflow_runs AS trigger
  ON trigger.id = run.workflow_run_id
WHERE run.workflow_run_id = :workflow_run_id AND run.environment = :environment AND run.id <> :id LIMIT :limit
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
    """Record one run for each recipient, and that the subscribers of the objects among them are to get
    theirs. A recipient named twice gets one run. In one transaction.
    """
    rows = to_json([_row(environment, workflow_run_id, trigger)])
    await connection.execute(_RECORD, {"rows": rows, "channel": CHANNEL})
    await begin_fan_out(connection, environment, workflow_run_id, trigger.recipients)


@dataclass(frozen=True)
class KeyedTrigger:
    """A trigger of users, whom nobody subscribes to, under an idempotency key, with the answer that is kept.
    `size`: of its request, in bytes."""

    environment: str
    workflow_run_id: UUID
    trigger: Trigger
    key: str
    request_digest: str
    request_id: str
    response: Json
    size: int


async def record_first(connection: AsyncConnection, triggers: Sequence[KeyedTrigger]) -> set[UUID]:
    """Record those that are the first with their keys, in one statement; their `workflow_run_id`s."""
    rows = [
        {
            **_row(each.environment, each.workflow_run_id, each.trigger),
            "key": each.key,
            "request_digest": each.request_digest,
            "request_id": each.request_id,
            "response": to_json(each.response),
        }
        for each in triggers
    ]
    recorded = await connection.scalars(_RECORD_FIRST, {"rows": to_json(rows), "channel": CHANNEL})
    return set(recorded)


def _row(environment: str, workflow_run_id: UUID, trigger: Trigger) -> Json:
    """A trigger as `given` takes it. JSON within it is text, so that it stays as it came."""
    recipients = list(dict.fromkeys(trigger.recipients))
    return {
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
    }


async def cancel_runs(
    connection: AsyncConnection,
    environment: str,
    workflow: str,
    cancellation_key: str,
    recipients: Sequence[Reference] | None,
) -> list[UUID]:
    """Cancel what still runs of the triggers with this key, for all recipients or for these, and what a
    fan-out has yet to make. In one transaction.

    The runs that were being followed: when this is committed they begin nothing new, and `sends_end` waits
    for what they had begun.
    """
    await cancel_fan_outs(connection, environment, workflow, cancellation_key, recipients)
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


async def cancel_run(connection: AsyncConnection, environment: str, run_id: UUID) -> tuple[bool, bool]:
    """Cancel one run, as `cancel_runs` does; whether it was still to be cancelled, and whether it was
    followed."""
    row = (await connection.execute(_CANCEL_ONE, {"environment": environment, "id": run_id})).first()
    if row is not None and row.stop_requested:
        await connection.execute(_NOTIFY, {"channel": CHANNEL, "environment": environment})
    return row is not None, row is not None and row.stop_requested


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


async def list_siblings(
    connection: AsyncConnection, environment: str, run: RecipientRun, limit: int
) -> list[RecipientRun]:
    """Some of the runs that the same trigger made for its other recipients."""
    parameters = {
        "environment": environment,
        "workflow_run_id": run.workflow_run_id,
        "id": run.id,
        "limit": limit,
    }
    return [recipient_run_of(row) for row in await connection.execute(_SIBLINGS, parameters)]


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
