"""The activities of the maintenance workflow, and the Temporal Schedule that runs it."""

import logging
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)

from app.models.types import now
from app.partitions import create_partitions, drop_partitions
from app.settings import Settings
from app.workflows.maintenance import Maintenance

logger = logging.getLogger(__name__)

# Not an environment's queue: slugs have no slash.
TASK_QUEUE = "doorbell/maintenance"
SCHEDULE_ID = "doorbell-maintenance"
INTERVAL = timedelta(hours=1)
# Knock keeps an idempotency key for 24 hours.
IDEMPOTENT_RESPONSES_KEPT = timedelta(hours=24)


class MaintenanceActivities:
    """What keeps the tables in shape."""

    def __init__(self, engine: AsyncEngine, settings: Settings) -> None:
        self._engine = engine
        self._retention = timedelta(days=settings.retention_days)

    @activity.defn
    async def maintain_partitions(self) -> None:
        """Make the partitions of the coming days and drop those past retention."""
        today = now().date()
        async with self._engine.begin() as connection:
            made = await connection.run_sync(create_partitions, today)
        async with self._engine.begin() as connection:
            dropped = await connection.run_sync(drop_partitions, today, self._retention)
        logger.info("partitions", extra={"made": made, "dropped": dropped})

    @activity.defn
    async def prune_idempotent_responses(self) -> None:
        """Forget answers that are past their time."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text("DELETE FROM idempotent_responses WHERE created_at < :before"),
                {"before": now() - IDEMPOTENT_RESPONSES_KEPT},
            )


async def ensure_schedule(client: Client) -> None:
    """Create the schedule unless it is there."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(Maintenance.run, id="maintenance", task_queue=TASK_QUEUE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=INTERVAL)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    try:
        await client.create_schedule(SCHEDULE_ID, schedule, trigger_immediately=True)
    except ScheduleAlreadyRunningError:
        return
