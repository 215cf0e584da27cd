"""Starts the workflows of the directory's bulk operations (`app/workflows/bulk_operation.py`)."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.directory.bulk_operations import CHANNEL, fail_operation
from app.models.contracts import BulkOperationRef
from app.worker.rows import RowDispatcher
from app.workflows.bulk_operation import BulkOperationWorkflow


class BulkDispatcher(RowDispatcher):
    """Starts one environment's bulk operations."""

    kind = "bulk"
    channel = CHANNEL
    table = "bulk_operations"
    under_way = "processing"
    workflow = BulkOperationWorkflow.run

    def argument(self, row_id: UUID) -> BulkOperationRef:
        return BulkOperationRef(operation_id=row_id, environment=self.environment)

    async def fail(self, connection: AsyncConnection, row_id: UUID) -> None:
        await fail_operation(connection, row_id)
