"""The activity of a fan-out's workflow (`app/workflows/fan_out.py`)."""

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from app.directory.fan_outs import fan_out_page
from app.models.contracts import FanOutProgress, FanOutRef


class FanOutActivities:
    """Makes the runs of subscribers. A page is one transaction, and one that is made again makes nothing
    twice."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @activity.defn
    async def fan_out_page(self, trigger: FanOutRef) -> FanOutProgress:
        """Make the next runs."""
        async with self._engine.begin() as connection:
            return await fan_out_page(connection, trigger.workflow_run_id)
