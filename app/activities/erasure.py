"""The activities of an erasure's workflow."""

import time

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from app.core.secrets import SecretBox
from app.models.contracts import ErasureRef, ErasureStep
from app.retention.erasure import BatchOutcome, fail_erasure, work_off_batch

# How long one activity goes on before it reports back: well within its time limit (policies.BULK_CHUNK).
WORKING_SECONDS = 10.0


class ErasureActivities:
    """Batches of an erasure, each a transaction: one that is repeated finds nothing left of what it
    erased."""

    def __init__(self, engine: AsyncEngine, box: SecretBox) -> None:
        self._engine = engine
        self._box = box

    @activity.defn
    async def work_off_erasure(self, erasure: ErasureRef) -> ErasureStep:
        """Erase for some seconds; whether that was all, or something in mid-work is waited for."""
        deadline = time.monotonic() + WORKING_SECONDS
        verdict = BatchOutcome.MORE
        while verdict is BatchOutcome.MORE and time.monotonic() < deadline:
            async with self._engine.begin() as connection:
                verdict = await work_off_batch(connection, self._box, erasure.erasure_id)
        return ErasureStep(done=verdict is BatchOutcome.DONE, waits=verdict is BatchOutcome.LATER)

    @activity.defn
    async def fail_erasure(self, erasure: ErasureRef) -> None:
        """Mark the erasure as failed."""
        async with self._engine.begin() as connection:
            await fail_erasure(connection, erasure.erasure_id)
