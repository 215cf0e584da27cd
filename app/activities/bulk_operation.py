"""The activities of a bulk operation's workflow."""

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from app.directory.bulk_operations import fail_operation, work_off_chunk
from app.models.contracts import BulkOperationRef


class BulkOperationActivities:
    """Changes to the directory, each activity one transaction: one that is repeated changes nothing twice."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @activity.defn
    async def work_off_bulk_chunk(self, operation: BulkOperationRef) -> bool:
        """Make the next changes; whether there are more."""
        async with self._engine.begin() as connection:
            return await work_off_chunk(connection, operation.operation_id)

    @activity.defn
    async def fail_bulk_operation(self, operation: BulkOperationRef) -> None:
        """Mark the operation as failed."""
        async with self._engine.begin() as connection:
            await fail_operation(connection, operation.operation_id)
