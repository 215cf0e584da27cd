"""Starts the workflows of replays of many events (`app/workflows/replay_events.py`)."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.contracts import ReplayRef
from app.models.status import ReplayStatus
from app.replays.many import CHANNEL, fail_replay
from app.worker.rows import RowDispatcher
from app.workflows.replay_events import ReplayEvents


class ReplayDispatcher(RowDispatcher):
    """Starts one environment's replays."""

    kind = "replay"
    channel = CHANNEL
    table = "replays"
    under_way = ReplayStatus.RUNNING.value
    workflow = ReplayEvents.run

    def argument(self, row_id: UUID) -> ReplayRef:
        return ReplayRef(replay_id=row_id, environment=self.environment)

    async def fail(self, connection: AsyncConnection, row_id: UUID) -> None:
        async with AsyncSession(connection) as session:
            await fail_replay(session, row_id, "its workflow was ended in Temporal")
            await session.flush()
