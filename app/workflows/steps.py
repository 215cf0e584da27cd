"""How workflows run their short steps, which need Postgres only, and what a step's failure says."""

from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import PERMANENT
    from app.workflows import policies

Result = TypeVar("Result")


async def run_step(name: str, argument: Any, result_type: type[Result]) -> Result:
    """The step's result: of a local activity, or of a regular one, seen in Temporal's UI, when that keeps
    failing.

    Raises:
        FailureError: the workflow was cancelled, or the step cannot be done (`permanent_problem`).
    """
    result: Result
    try:
        result = await workflow.execute_local_activity(
            name, argument, result_type=result_type, **policies.LOCAL_STEP
        )
    except FailureError as error:
        if is_cancelled_exception(error) or permanent_problem(error):
            raise
        result = await workflow.execute_activity(name, argument, result_type=result_type, **policies.STEP)
    return result


def permanent_problem(error: BaseException) -> str | None:
    """What an activity said that it cannot do, however often it is tried."""
    cause = raised(error)
    return cause.message if isinstance(cause, ApplicationError) and cause.type == PERMANENT else None


def raised(error: BaseException) -> BaseException | None:
    """What an activity raised: a regular activity's failure wraps it, a local one's may not (SDKs differ)."""
    return error.cause if isinstance(error, ActivityError) else error
