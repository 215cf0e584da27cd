"""The activities of a replay's workflow."""

import asyncio

from sqlmodel.ext.asyncio.session import AsyncSession
from temporalio import activity

from app.core.background import background
from app.models.contracts import ReplayedChunk, ReplayRef
from app.replays.many import fail_replay, work_off_chunk
from app.runtime.resources import Runtime

HEARTBEAT_INTERVAL = 1.0


class ReplayActivities:
    """Changes to replays and the event log, each activity one transaction: one that is repeated makes no
    event twice."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @activity.defn
    async def replay_chunk(self, replay: ReplayRef) -> ReplayedChunk:
        """Replay the next events."""
        async with background(_show_life()):
            return await work_off_chunk(self._runtime, replay.replay_id)

    @activity.defn(name="fail_replay")
    async def fail(self, replay: ReplayRef) -> None:
        """Mark the replay as failed."""
        async with AsyncSession(self._runtime.engine) as session:
            await fail_replay(session, replay.replay_id, "it could not go on; see its workflow in Temporal")
            await session.commit()


async def _show_life() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_INTERVAL)
