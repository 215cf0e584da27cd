"""Starts the workflows of bulk operations (`app/workflows/bulk_operation.py`), in the worker of their environment.

The API only writes a row and notifies, so that it needs no Temporal. Starting is idempotent: every worker of the
environment hears of an operation, and the workflow's id, which derives from it, is taken once.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

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
from temporalio.service import RPCError

from app.directory.bulk_operations import CHANNEL, fail_operation, unfinished_operations
from app.listener import Listener
from app.models.contracts import BulkOperationRef
from app.temporal import ENVIRONMENT, task_queue
from app.workflows.bulk_operation import BulkOperation

logger = logging.getLogger(__name__)

SWEEP_INTERVAL = timedelta(seconds=10)
# An operation that has not moved for this long is looked at, in case its workflow was ended by hand.
QUIET_AFTER = timedelta(minutes=2)
MAXIMUM_BATCH = 100
RPC_TIMEOUT = timedelta(seconds=10)

# How a workflow may end that did not finish its operation.
ENDED_EARLY = frozenset(
    {
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.CANCELED,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.TIMED_OUT,
    }
)


def workflow_id(environment: str, operation_id: UUID) -> str:
    """The id of the workflow that works off an operation."""
    return f"bulk/{environment}/{operation_id}"


class BulkDispatcher:
    """Starts one environment's bulk operations."""

    def __init__(self, environment: str, *, engine: AsyncEngine, client: Client) -> None:
        self._environment = environment
        self._engine = engine
        self._client = client
        self._wake = asyncio.Event()

    def listen(self, listener: Listener) -> None:
        """Wake when an operation of this environment is asked for."""
        listener.subscribe(CHANNEL, self._wake.set, payload=self._environment)

    async def run(self) -> None:
        """Start what waits, until cancelled. What cannot be started now is found again by the sweep."""
        while True:
            self._wake.clear()
            try:
                await self._start_all()
            except (RPCError, SQLAlchemyError, OSError) as error:
                logger.warning(
                    "bulk_dispatcher_waits",
                    extra={"environment": self._environment, "error": type(error).__name__},
                )
            except Exception:
                # A dispatcher that ends would leave all operations waiting.
                logger.exception("bulk_dispatcher_failed", extra={"environment": self._environment})
            # Not `wait_for`: Python 3.11's loses a cancellation that comes together with the wake.
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_INTERVAL.total_seconds()):
                    await self._wake.wait()

    async def _start_all(self) -> None:
        after = UUID(int=0)
        while waiting := await self._waiting(after):
            for operation_id in waiting:
                await self._start_safely(operation_id)
            after = waiting[-1]

    async def _waiting(self, after: UUID) -> list[UUID]:
        async with self._engine.begin() as connection:
            return await unfinished_operations(
                connection,
                self._environment,
                quiet_seconds=QUIET_AFTER.total_seconds(),
                after=after,
                limit=MAXIMUM_BATCH,
            )

    async def _start_safely(self, operation_id: UUID) -> None:
        try:
            await self._start(operation_id)
        except (RPCError, SQLAlchemyError, OSError):
            raise
        except Exception:
            # One operation that cannot be started must not stop the others; the sweep finds it again.
            logger.exception("bulk_operation_not_started", extra={"operation_id": str(operation_id)})

    async def _start(self, operation_id: UUID) -> None:
        identifier = workflow_id(self._environment, operation_id)
        try:
            await self._client.start_workflow(
                BulkOperation.run,
                BulkOperationRef(operation_id=operation_id, environment=self._environment),
                id=identifier,
                task_queue=task_queue(self._environment),
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(ENVIRONMENT, self._environment)]
                ),
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            await self._settle(operation_id, identifier)

    async def _settle(self, operation_id: UUID, identifier: str) -> None:
        """Mark an operation as failed whose workflow ended without finishing it: an operator wanted that."""
        description = await self._client.get_workflow_handle(identifier).describe(rpc_timeout=RPC_TIMEOUT)
        if description.status in ENDED_EARLY:
            async with self._engine.begin() as connection:
                await fail_operation(connection, operation_id)
