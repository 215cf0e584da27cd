"""The workflow that gives runs to the subscribers of a trigger's objects, page by page.

The database says how far it is (`app/directory/fan_outs.py`); the workflow sees no recipients.
"""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import FanOutProgress, FanOutRef
    from app.workflows import policies

# While many runs wait to be started.
PAUSE = timedelta(seconds=1)


@workflow.defn(name="FanOut")
class FanOut:
    """Makes pages until there are no more subscribers, or none that the trigger was not cancelled for."""

    @workflow.run
    async def run(self, trigger: FanOutRef) -> None:
        while True:
            progress = await workflow.execute_activity(
                "fan_out_page", trigger, result_type=FanOutProgress, **policies.FAN_OUT_PAGE
            )
            if progress.done:
                return
            if progress.crowded:
                await workflow.sleep(PAUSE)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(trigger)
