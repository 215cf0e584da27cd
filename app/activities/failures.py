"""How activities fail towards Temporal: what is permanent is not retried, whatever activity it comes from."""

from datetime import timedelta
from typing import Any

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from app.core.errors import Permanent, Retryable
from app.models.contracts import PERMANENT


def tried_later(error: Retryable, where: str) -> ApplicationError:
    """The failure without the far side's text, which may repeat the payload: that is shown elsewhere.

    It is expected, so that the SDK writes no traceback of it.
    """
    return ApplicationError(
        f"{error.code}: tried again later; see {where} for the answer",
        type="Retryable",
        category=ApplicationErrorCategory.BENIGN,
        next_retry_delay=timedelta(seconds=error.retry_after) if error.retry_after else None,
    )


class ActivityFailures(Interceptor):
    """Turns `Permanent` into a failure that Temporal does not retry. Its text is our own, without
    payloads."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activity(next)


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await self.next.execute_activity(input)
        except Permanent as error:
            raise ApplicationError(str(error), type=PERMANENT, non_retryable=True) from None
