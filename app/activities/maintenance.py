"""The activities of the maintenance workflow, and the Temporal Schedule that runs it."""

import logging
import time
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession
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

from app.activities.failures import tried_later
from app.core.errors import Retryable
from app.core.settings import Settings
from app.database.partitions import (
    clear_default_partitions,
    create_partitions,
    drop_partitions,
    unfinished_days,
)
from app.models.types import now
from app.retention.periods import BATCH_SIZE, get_retention, log_retention, prune
from app.workflows.maintenance import Maintenance

logger = logging.getLogger(__name__)

# Not an environment's queue: slugs have no slash.
TASK_QUEUE = "doorbell/maintenance"
SCHEDULE_ID = "doorbell-maintenance"
INTERVAL = timedelta(hours=1)
# Knock keeps an idempotency key for 24 hours.
IDEMPOTENT_RESPONSES_KEPT = timedelta(hours=24)
# How long one activity deletes before it reports back: well within its time limit (policies.STEP).
PRUNING_SECONDS = 10.0

_SUCCEEDED = text("""
INSERT INTO maintenance VALUES (true, now()) ON CONFLICT (only_row) DO UPDATE SET succeeded_at = now()
""")


class MaintenanceActivities:
    """What keeps the tables in shape."""

    def __init__(self, engine: AsyncEngine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    @activity.defn
    async def maintain_partitions(self) -> None:
        """Make the partitions of the coming days and drop those past retention."""
        today = now().date()
        async with AsyncSession(self._engine) as session:
            retention = await log_retention(session, self._settings)
        try:
            async with self._engine.connect() as connection:
                made = await connection.run_sync(create_partitions, today)
                dropped = await connection.run_sync(drop_partitions, today, retention)
        except Retryable as error:
            logger.warning("partitions_wait_for_their_tables", extra={"error": str(error)})
            raise tried_later(error, "the worker's log") from error
        async with self._engine.begin() as connection:
            kept = await connection.run_sync(unfinished_days, today, retention["events"])
            cleared = await connection.run_sync(clear_default_partitions, today, retention, BATCH_SIZE)
        logger.info("partitions", extra={"made": made, "dropped": dropped, "rows_cleared": cleared})
        if kept:
            days = [day.isoformat() for day in kept]
            logger.warning("days_past_retention_have_unfinished_events", extra={"days": days})

    @activity.defn
    async def prune_directory(self) -> bool:
        """Delete workflow runs, messages and bulk operations past retention; whether there may be more."""
        async with AsyncSession(self._engine) as session:
            plan = await get_retention(session, self._settings)
        deadline = time.monotonic() + PRUNING_SECONDS
        pruned = {kind: 0 for kind in plan.days}
        more = False
        for kind, days in plan.days.items():
            while time.monotonic() < deadline:
                async with self._engine.begin() as connection:
                    deleted = await prune(connection, kind, days)
                pruned[kind] += deleted
                if deleted < BATCH_SIZE:
                    break
            else:
                more = True
        if any(pruned.values()):
            logger.info("directory_pruned", extra={"rows": pruned})
        if not more:
            await self._note_success()
        return more

    async def _note_success(self) -> None:
        """The round has come to its end: this is its last step."""
        async with self._engine.begin() as connection:
            await connection.execute(_SUCCEEDED)

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
