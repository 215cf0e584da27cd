"""The workflow that delivers one alert, to its webhook and its email addresses, each by itself.

It sees ids only; what the alert says is in its row (`app/alerts/store.py`).
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import AlertDeliveryRef, AlertRef
    from app.workflows import policies


@workflow.defn(name="DeliverAlert")
class DeliverAlert:
    """Delivers until each receiver has it or is given up."""

    @workflow.run
    async def run(self, alert: AlertRef) -> None:
        channels: list[str] = await workflow.execute_activity(
            "begin_alert", alert, result_type=list[str], **policies.STEP
        )
        await asyncio.gather(
            *(_deliver(AlertDeliveryRef(alert_id=alert.alert_id, channel=each)) for each in channels)
        )
        await workflow.execute_activity("finish_alert", alert, **policies.STEP)


async def _deliver(delivery: AlertDeliveryRef) -> None:
    """Deliver, or note that Temporal gave up."""
    try:
        await workflow.execute_activity("deliver_alert", delivery, **policies.SEND)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        await workflow.execute_activity("give_up_alert_delivery", delivery, **policies.STEP)
