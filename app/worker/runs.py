"""Finds queued workflow runs of an environment and starts a workflow for each
(`app/workflows/recipient_run.py`); tells the workflows of cancelled runs to end. Triggers that reach
subscribers get a workflow that makes their runs (`app/workflows/fan_out.py`).

Both are claimed under a lease, and have a workflow with one id that Temporal accepts once: a run that is
claimed twice is followed once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from app.core.outages import Outage
from app.database.listener import Listener
from app.directory.fan_outs import (
    CHANNEL,
    ClaimedFanOut,
    claim_fan_outs,
    give_back_fan_outs,
    stop_fan_out,
)
from app.directory.run_log import LEASE
from app.directory.workflow_runs import workflow_id
from app.models.contracts import FanOutRef, RunRef
from app.models.status import RunStatus
from app.runtime.temporal import ENVIRONMENT, task_queue
from app.workflows.fan_out import FanOut
from app.workflows.recipient_run import RecipientRunWorkflow

logger = logging.getLogger(__name__)

BATCH = 50
# A claim that is not followed by a start within this time is claimed again.
CLAIM_LEASE = timedelta(seconds=60)
SWEEP_INTERVAL = timedelta(seconds=10)
BACKOFF = 2.0
RPC_TIMEOUT = timedelta(seconds=10)

_CLAIM = text("""
WITH claimed AS (
    SELECT id FROM workflow_recipient_runs
    WHERE environment = :environment AND status = 'queued' AND (lease_expires_at IS NULL
      OR lease_expires_at < now())
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE workflow_recipient_runs AS run SET lease_expires_at = now() + :lease
FROM claimed WHERE run.id = claimed.id
RETURNING run.id, run.workflow
""")

# The workflow may be ahead: then its own word about status and lease counts.
_STARTED = text("""
UPDATE workflow_recipient_runs AS run
SET temporal_run_id = v.run_id,
    lease_expires_at = CASE WHEN status = 'queued' THEN now() + :lease ELSE lease_expires_at END,
    status = CASE WHEN status = 'queued' THEN 'processing' ELSE status END
FROM unnest(CAST(:ids AS uuid[]), CAST(:run_ids AS text[])) AS v (id, run_id)
WHERE run.id = v.id
""")

_GIVE_BACK = text("""
UPDATE workflow_recipient_runs SET lease_expires_at = NULL WHERE id = ANY(CAST(:ids AS uuid[]))
  AND status = 'queued'
""")

_TO_STOP = text("""
SELECT id FROM workflow_recipient_runs WHERE environment = :environment
  AND stop_requested ORDER BY id LIMIT :limit
""")

_STOPPED = text("""
UPDATE workflow_recipient_runs SET stop_requested = false WHERE id = ANY(CAST(:ids AS uuid[]))
""")

_OVERDUE = text("""
WITH overdue AS (
    SELECT id FROM workflow_recipient_runs
    WHERE environment = :environment AND status IN ('processing', 'paused') AND lease_expires_at < now()
    ORDER BY lease_expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE workflow_recipient_runs AS run SET lease_expires_at = now() + :lease
FROM overdue WHERE run.id = overdue.id
RETURNING run.id
""")

_REQUEUE = text("""
UPDATE workflow_recipient_runs SET status = 'queued', lease_expires_at = NULL, updated_at = now()
WHERE id = :id AND status IN ('processing', 'paused')
""")

_ENDED_OTHERWISE = text("""
UPDATE workflow_recipient_runs
SET status = :status, finished_at = now(), updated_at = now(), lease_expires_at = NULL,
    error_count = error_count + 1, error = :error
WHERE id = :id AND status IN ('processing', 'paused')
""")


@dataclass(frozen=True)
class ClaimedRun:
    """A run that this dispatcher has claimed."""

    id: UUID
    workflow: str


class RunDispatcher:
    """Starts and stops the workflows of an environment's runs."""

    def __init__(self, environment: str, *, engine: AsyncEngine, client: Client) -> None:
        self._environment = environment
        self._engine = engine
        self._client = client
        self._wake = asyncio.Event()

    def listen(self, listener: Listener) -> None:
        """Wake when runs of this environment are queued or cancelled."""
        listener.subscribe(CHANNEL, self._wake.set, payload=self._environment)

    async def run(self) -> None:
        """Dispatch until cancelled."""
        clock = asyncio.get_running_loop().time
        outage = Outage(logger, "run_dispatcher_pauses", environment=self._environment)
        next_sweep = 0.0
        while True:
            try:
                await self._stop_cancelled()
                await self._start_fan_outs()
                await self._start_queued()
                if clock() >= next_sweep:
                    next_sweep = clock() + SWEEP_INTERVAL.total_seconds()
                    await self._check_overdue()
                outage.is_over()
            except (SQLAlchemyError, OSError, RPCError) as error:
                outage.goes_on(error=type(error).__name__)
                await asyncio.sleep(BACKOFF)
            except Exception:
                # A dispatcher that ends would leave all runs waiting.
                logger.exception("run_dispatcher_failed", extra={"environment": self._environment})
                await asyncio.sleep(BACKOFF)
            await self._sleep()

    async def _sleep(self) -> None:
        # Not `wait_for`: Python 3.11's loses a cancellation that comes together with the wake.
        try:
            async with asyncio.timeout(SWEEP_INTERVAL.total_seconds() / 10):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _start_fan_outs(self) -> None:
        async with self._engine.begin() as connection:
            claimed = await claim_fan_outs(connection, self._environment, lease=CLAIM_LEASE, limit=BATCH)
        if not claimed:
            return
        started = await asyncio.gather(*map(self._start_fan_out, claimed), return_exceptions=True)
        failures = [each for each in started if isinstance(each, BaseException)]
        if failures:
            left = [
                each.id
                for each, result in zip(claimed, started, strict=True)
                if isinstance(result, BaseException)
            ]
            async with self._engine.begin() as connection:
                await give_back_fan_outs(connection, left)
            raise failures[0]

    async def _start_fan_out(self, fan_out: ClaimedFanOut) -> None:
        identifier = f"fan-out/{self._environment}/{fan_out.id}"
        reference = FanOutRef(workflow_run_id=fan_out.id, environment=self._environment)
        try:
            await self._start_workflow(FanOut.run, reference, identifier, f"subscribers, {fan_out.workflow}")
        except WorkflowAlreadyStartedError:
            status = (
                await self._client.get_workflow_handle(identifier).describe(rpc_timeout=RPC_TIMEOUT)
            ).status
            if status is not None and status is not WorkflowExecutionStatus.RUNNING:
                # Someone ended it, or it could not go on. One that completed has left nothing to stop.
                error = f"the fan-out to subscribers was {status.name.lower()} in Temporal"
                async with self._engine.begin() as connection:
                    await stop_fan_out(connection, fan_out.id, error)

    async def _start_queued(self) -> None:
        """Start what waits, a batch of it: the next one comes after a look at what is to be stopped."""
        async with self._engine.begin() as connection:
            rows = await connection.execute(
                _CLAIM, {"environment": self._environment, "lease": CLAIM_LEASE, "limit": BATCH}
            )
            claimed = [ClaimedRun(**row) for row in rows.mappings()]
        if claimed:
            self._wake.set()
            await self._start_all(claimed)

    async def _start_all(self, claimed: Sequence[ClaimedRun]) -> None:
        started = await asyncio.gather(*map(self._start, claimed), return_exceptions=True)
        runs = {
            run.id: run_id for run, run_id in zip(claimed, started, strict=True) if isinstance(run_id, str)
        }
        failures = [each for each in started if isinstance(each, BaseException)]
        async with self._engine.begin() as connection:
            if runs:
                await connection.execute(
                    _STARTED, {"ids": list(runs), "run_ids": list(runs.values()), "lease": LEASE}
                )
            if failures:
                left = [run.id for run in claimed if run.id not in runs]
                await connection.execute(_GIVE_BACK, {"ids": left})
        if failures:
            raise failures[0]

    async def _start(self, run: ClaimedRun) -> str:
        """The run id in Temporal, of the workflow that was started now or by an earlier claim."""
        reference = RunRef(run_id=run.id, environment=self._environment)
        identifier = workflow_id(self._environment, run.id)
        try:
            return await self._start_workflow(
                RecipientRunWorkflow.run, reference, identifier, f"workflow {run.workflow}"
            )
        except WorkflowAlreadyStartedError as error:
            return error.run_id or ""

    async def _start_workflow(
        self,
        workflow: Callable[..., Awaitable[Any]],
        argument: RunRef | FanOutRef,
        identifier: str,
        summary: str,
    ) -> str:
        """The run id in Temporal.

        Raises:
            WorkflowAlreadyStartedError: there is one with this id, or was.
        """
        handle = await self._client.start_workflow(
            workflow,
            argument,
            id=identifier,
            task_queue=task_queue(self._environment),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            search_attributes=TypedSearchAttributes([SearchAttributePair(ENVIRONMENT, self._environment)]),
            static_summary=summary,
            request_eager_start=True,
            rpc_timeout=RPC_TIMEOUT,
        )
        return handle.first_execution_run_id or ""

    async def _stop_cancelled(self) -> None:
        while True:
            async with self._engine.connect() as connection:
                found = await connection.execute(_TO_STOP, {"environment": self._environment, "limit": BATCH})
                runs = list(found.scalars())
            if not runs:
                return
            await asyncio.gather(*map(self._stop, runs))
            async with self._engine.begin() as connection:
                await connection.execute(_STOPPED, {"ids": runs})

    async def _stop(self, run_id: UUID) -> None:
        """Cancel the workflow. One that is not there yet looks at its row before it does anything."""
        handle = self._client.get_workflow_handle(workflow_id(self._environment, run_id))
        try:
            await handle.cancel(rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def _check_overdue(self) -> None:
        """Runs of which nothing was heard for long: someone may have ended their workflow, or Temporal lost
        it."""
        async with self._engine.begin() as connection:
            found = await connection.execute(
                _OVERDUE, {"environment": self._environment, "lease": LEASE, "limit": BATCH}
            )
            runs = list(found.scalars())
        for run_id in runs:
            await self._check(run_id)

    async def _check(self, run_id: UUID) -> None:
        handle = self._client.get_workflow_handle(workflow_id(self._environment, run_id))
        try:
            status = (await handle.describe(rpc_timeout=RPC_TIMEOUT)).status
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            async with self._engine.begin() as connection:
                await connection.execute(_REQUEUE, {"id": run_id})
            return
        if status is None or status is WorkflowExecutionStatus.RUNNING:
            return
        cancelled = status is WorkflowExecutionStatus.CANCELED
        async with self._engine.begin() as connection:
            await connection.execute(
                _ENDED_OTHERWISE,
                {
                    "id": run_id,
                    "status": RunStatus.CANCELLED if cancelled else RunStatus.COMPLETED,
                    "error": f"the workflow was {status.name.lower()} in Temporal",
                },
            )
