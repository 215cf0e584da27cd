"""Starts the workflows that deliver alerts (`app/workflows/deliver_alert.py`)."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.alerts.store import CHANNEL, finish_alert, give_up
from app.models.contracts import AlertRef
from app.models.status import AlertStatus
from app.worker.rows import RowDispatcher
from app.workflows.deliver_alert import DeliverAlert


class AlertDispatcher(RowDispatcher):
    """Starts one environment's alerts."""

    kind = "alert"
    channel = CHANNEL
    table = "alerts"
    under_way = AlertStatus.DELIVERING.value
    workflow = DeliverAlert.run

    def argument(self, row_id: UUID) -> AlertRef:
        return AlertRef(alert_id=row_id, environment=self.environment)

    async def fail(self, connection: AsyncConnection, row_id: UUID) -> None:
        await give_up(connection, row_id)
        await finish_alert(connection, row_id)
