"""The workflow that works off one bulk operation of the directory, chunk by chunk.

Its row says how far it is (`app/directory/bulk_operations.py`); the workflow sees no items.
"""

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import BulkOperationRef
    from app.workflows import policies


@workflow.defn(name="BulkOperation")
class BulkOperationWorkflow:
    """Makes changes until none is left. An operation that cannot go on is marked as failed."""

    @workflow.run
    async def run(self, operation: BulkOperationRef) -> None:
        try:
            while await workflow.execute_activity(
                "work_off_bulk_chunk", operation, result_type=bool, **policies.BULK_CHUNK
            ):
                pass
        except FailureError:
            await workflow.execute_activity("fail_bulk_operation", operation, **policies.STEP)
            raise
