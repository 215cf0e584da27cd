"""The workflow that erases one user, batch by batch.

The erasure's row says how far it is (`app/retention/erasure.py`); the workflow sees no data, and of the user
nothing.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import ErasureRef, ErasureStep
    from app.workflows import policies

# How often what is in mid-work is looked at.
LOOK_AGAIN_AFTER = timedelta(seconds=2)


@workflow.defn(name="Erasure")
class ErasureWorkflow:
    """Erases until nothing is left. An erasure that cannot go on is marked as failed."""

    @workflow.run
    async def run(self, erasure: ErasureRef) -> None:
        try:
            while not (
                step := await workflow.execute_activity(
                    "work_off_erasure", erasure, result_type=ErasureStep, **policies.BULK_CHUNK
                )
            ).done:
                if step.waits:
                    await workflow.sleep(LOOK_AGAIN_AFTER)
        except FailureError:
            await workflow.execute_activity("fail_erasure", erasure, **policies.STEP)
            raise
