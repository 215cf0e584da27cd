"""Starts the workflows of erasures (`app/workflows/erasure.py`)."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.contracts import ErasureRef
from app.retention.erasure import CHANNEL, fail_erasure
from app.worker.rows import RowDispatcher
from app.workflows.erasure import ErasureWorkflow


class ErasureDispatcher(RowDispatcher):
    """Starts one environment's erasures."""

    kind = "erasure"
    channel = CHANNEL
    table = "erasures"
    under_way = "processing"
    workflow = ErasureWorkflow.run

    def argument(self, row_id: UUID) -> ErasureRef:
        return ErasureRef(erasure_id=row_id, environment=self.environment)

    async def fail(self, connection: AsyncConnection, row_id: UUID) -> None:
        await fail_erasure(connection, row_id)
