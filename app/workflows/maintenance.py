"""The workflow that a Temporal Schedule runs every hour: partitions ahead, retention behind."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from app.workflows import policies


# Each deletes for some seconds; what is left after so many waits for the next hour.
MAXIMUM_PRUNES = 200


@workflow.defn(name="Maintenance")
class Maintenance:
    """One round of maintenance. Rounds do the same work as often as they run."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("maintain_partitions", **policies.STEP)
        await workflow.execute_activity("prune_idempotent_responses", **policies.STEP)
        for _ in range(MAXIMUM_PRUNES):
            if not await workflow.execute_activity("prune_directory", result_type=bool, **policies.STEP):
                break
