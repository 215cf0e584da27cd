"""Starts a workflow for each row of some kind that asks for one, in the worker of the row's environment.

The API only writes a row and notifies, so that it needs no Temporal. Starting is idempotent: every worker of
the environment hears of a row, and the workflow's id, which derives from it, is taken once.
`app/worker/bulk_operations.py`, `app/worker/replays.py`, `app/worker/alerts.py` and `app/worker/erasures.py`
say which rows, and which workflow.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from app.core.outages import Outage
from app.database.listener import Listener
from app.runtime.temporal import ENVIRONMENT, task_queue

logger = logging.getLogger(__name__)

SWEEP_INTERVAL = timedelta(seconds=10)
# A row that has not moved for this long is looked at, in case its workflow was ended by hand.
QUIET_AFTER = timedelta(minutes=2)
MAXIMUM_BATCH = 100
RPC_TIMEOUT = timedelta(seconds=10)

# How a workflow may end that did not finish its row.
ENDED_EARLY = frozenset(
    {
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.CANCELED,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.TIMED_OUT,
    }
)


class RowDispatcher(ABC):
    """Starts the workflows of one environment's rows.

    `kind` names it in log lines and workflow ids, `channel` is where rows are told of, `workflow` the method
    that runs. `table` has the columns id, environment, status (`queued`, then `under_way`) and updated_at.
    """

    kind: ClassVar[str]
    channel: ClassVar[str]
    table: ClassVar[str]
    under_way: ClassVar[str]
    workflow: ClassVar[Any]

    def __init__(self, environment: str, *, engine: AsyncEngine, client: Client) -> None:
        self.environment = environment
        self._engine = engine
        self._client = client
        self._wake = asyncio.Event()

    @classmethod
    def workflow_id(cls, environment: str, row_id: UUID) -> str:
        """The id of a row's workflow."""
        return f"{cls.kind}/{environment}/{row_id}"

    @abstractmethod
    def argument(self, row_id: UUID) -> Any:
        """What a row's workflow is given."""

    @abstractmethod
    async def fail(self, connection: AsyncConnection, row_id: UUID) -> None:
        """Mark a row as failed whose workflow ended without finishing it: an operator wanted that."""

    def listen(self, listener: Listener) -> None:
        """Wake when a row of this environment asks for its workflow."""
        listener.subscribe(self.channel, self._wake.set, payload=self.environment)

    async def run(self) -> None:
        """Start what waits, until cancelled. What cannot be started now is found again by the sweep."""
        outage = Outage(logger, f"{self.kind}_dispatcher_waits", environment=self.environment)
        while True:
            self._wake.clear()
            try:
                await self._start_all()
                outage.is_over()
            except (RPCError, SQLAlchemyError, OSError) as error:
                outage.goes_on(error=type(error).__name__)
            except Exception:
                # A dispatcher that ends would leave all rows waiting.
                logger.exception(f"{self.kind}_dispatcher_failed", extra={"environment": self.environment})
            # Not `wait_for`: Python 3.11's loses a cancellation that comes together with the wake.
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_INTERVAL.total_seconds()):
                    await self._wake.wait()

    async def _start_all(self) -> None:
        after = UUID(int=0)
        while waiting := await self._waiting(after):
            for row_id in waiting:
                await self._start_safely(row_id)
            after = waiting[-1]

    async def _waiting(self, after: UUID) -> list[UUID]:
        """Rows by id that wait, and those that began and have not moved for some time."""
        query = text(
            f"SELECT id FROM {self.table} WHERE environment = :environment AND id > :after "
            "AND (status = 'queued' OR status = :under_way AND updated_at < now() - CAST(:quiet AS "
            "interval)) ORDER BY id LIMIT :limit"
        )
        parameters = {
            "environment": self.environment,
            "after": after,
            "under_way": self.under_way,
            "quiet": QUIET_AFTER,
            "limit": MAXIMUM_BATCH,
        }
        async with self._engine.connect() as connection:
            return list((await connection.execute(query, parameters)).scalars())

    async def _start_safely(self, row_id: UUID) -> None:
        try:
            await self._start(row_id)
        except (RPCError, SQLAlchemyError, OSError):
            raise
        except Exception:
            # One row whose workflow cannot be started must not stop the others; the sweep finds it again.
            logger.exception(f"{self.kind}_not_started", extra={"id": str(row_id)})

    async def _start(self, row_id: UUID) -> None:
        identifier = self.workflow_id(self.environment, row_id)
        try:
            await self._client.start_workflow(
                self.workflow,
                self.argument(row_id),
                id=identifier,
                task_queue=task_queue(self.environment),
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                search_attributes=TypedSearchAttributes([SearchAttributePair(ENVIRONMENT, self.environment)]),
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            await self._settle(row_id, identifier)

    async def _settle(self, row_id: UUID, identifier: str) -> None:
        description = await self._client.get_workflow_handle(identifier).describe(rpc_timeout=RPC_TIMEOUT)
        if description.status in ENDED_EARLY:
            async with self._engine.begin() as connection:
                await self.fail(connection, row_id)
