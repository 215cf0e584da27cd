"""A ProcessEvent that does its steps in another order: what the replay test must notice."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import EventOutcome, EventRef
    from app.models.status import EventStatus
    from app.workflows import policies


@workflow.defn(name="ProcessEvent")
class ProcessEvent:
    @workflow.run
    async def run(self, event: EventRef) -> EventOutcome:
        outcome = EventOutcome(event_id=event.event_id, status=EventStatus.SUCCEEDED)
        await workflow.execute_local_activity("record_outcome", outcome, **policies.LOCAL_STEP)
        return outcome
