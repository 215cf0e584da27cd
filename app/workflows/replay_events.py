"""The workflow that replays many events, chunk by chunk, no faster than it was asked to.

The replay's row says how far it is (`app/replays/many.py`); the workflow sees no events.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import ReplayedChunk, ReplayRef
    from app.workflows import policies

# A timer comes up to a second late: what was missed of the rate is caught up with, as far as this.
CATCHING_UP = timedelta(seconds=2)


@workflow.defn(name="ReplayEvents")
class ReplayEvents:
    """Replays until no event is left. A replay that cannot go on is marked as failed."""

    @workflow.run
    async def run(self, replay: ReplayRef) -> None:
        due = workflow.now()
        try:
            for _ in range(replay.chunks):
                chunk = await workflow.execute_activity(
                    "replay_chunk", replay, result_type=ReplayedChunk, **policies.REPLAY_CHUNK
                )
                if chunk.is_last:
                    return
                due = max(due, workflow.now() - CATCHING_UP) + timedelta(seconds=chunk.pause)
                if due > workflow.now():
                    await workflow.sleep(due - workflow.now())
        except FailureError:
            await workflow.execute_activity("fail_replay", replay, **policies.STEP)
            raise
        # Histories stay short, however many events there are.
        workflow.continue_as_new(replay)
