"""How activities fail towards Temporal: what is permanent is not retried, whatever activity it comes from."""

from typing import Any

from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from app.errors import Permanent
from app.models.contracts import PERMANENT


class ActivityFailures(Interceptor):
    """Turns `Permanent` into a failure that Temporal does not retry. Its text is our own, without payloads."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activity(next)


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await self.next.execute_activity(input)
        except Permanent as error:
            raise ApplicationError(str(error), type=PERMANENT, non_retryable=True) from None
