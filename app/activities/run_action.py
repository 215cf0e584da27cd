"""The activities that run actions: one for each action type, under the type's name.

They send what `map_event` evaluated, as often a second as the destination takes it, and write each attempt
into the action log. A failure that may pass is raised, for Temporal to try again; any other is recorded and
returned. `record_outcome` comes next.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from temporalio import activity

from app.actions.base import ActionType
from app.actions.registry import action_types
from app.activities.failures import tried_later
from app.core.errors import Permanent, Retryable
from app.events.action_log import ActionLog, Attempt, StoredAction
from app.models.contracts import ActionOutcome, ActionRef
from app.models.status import ActionStatus
from app.models.types import now
from app.outbound.destinations import Destinations
from app.outbound.knock import attempt
from app.outbound.rate_limits import Limit, NotYet, RateLimits
from app.runtime import metrics, tracing

logger = logging.getLogger(__name__)

# An action of many calls stores how far it is and goes on in a new attempt, well before Temporal's time
# limits (app/workflows/policies.py): a call that hangs must not take the finished ones with it.
LOCAL_ATTEMPT = 2.0
ATTEMPT = 8.0
CONTINUE_AFTER = 0.1
# Pause after a 429 that names no time.
DEFAULT_PAUSE = 1.0
# An event whose turn is further away than this, in seconds, gives its place in the dispatcher to the next
# one.
LONG_WAIT = 2.0


@dataclass
class Progress:
    """How far an action is: calls that succeeded, what came of them, and when this attempt sent its first."""

    calls: int
    result: dict[str, Any] | None
    started_at: datetime | None = None

    def add(self, result: dict[str, Any] | None) -> None:
        """Count a call. The results of several are numbers, and are summed."""
        self.calls += 1
        earlier = self.result if self.calls > 1 else None
        self.result = _sum(earlier, result) if earlier and result else result


class RunAction:
    """Runs actions of every type. `on_retry` hears of events whose actions go on as regular activities."""

    def __init__(
        self,
        actions: ActionLog,
        destinations: Destinations,
        rate_limits: RateLimits,
        on_retry: Callable[[UUID], None],
    ) -> None:
        self._actions = actions
        self._destinations = destinations
        self._rate_limits = rate_limits
        self._on_retry = on_retry

    def activities(self) -> list[Callable[..., Any]]:
        """One activity for each action type."""
        return [self._activity(each) for each in action_types().values()]

    async def run(self, action: ActionRef) -> ActionOutcome:
        """What an action's activity does."""
        return await self._run(action_types()[action.action_type], action)

    def _activity(self, action_type: ActionType) -> Callable[..., Any]:
        @activity.defn(name=action_type.name)
        async def run(action: ActionRef) -> ActionOutcome:
            return await self._run(action_type, action)

        return run

    async def _run(self, action_type: ActionType, reference: ActionRef) -> ActionOutcome:
        retried = not activity.info().is_local
        action = await self._actions.load(reference.action_id, anew=retried)
        if retried:
            self._on_retry(action.event_id)
        if action.status is not ActionStatus.PENDING:
            # Done by an earlier execution whose result Temporal did not get.
            return ActionOutcome(action_id=action.id, status=action.status)
        return await self._attempt(action_type, action, reference.environment, retried=retried)

    async def _attempt(
        self, action_type: ActionType, action: StoredAction, environment: str, *, retried: bool
    ) -> ActionOutcome:
        progress = Progress(action.calls, action.result)
        try:
            await self._send(action_type, action, environment, progress, retried=retried)
        except Permanent as error:
            await self._record(action, ActionStatus.FAILED, progress, str(error))
            metrics.count_action(environment, action_type.name, ActionStatus.FAILED)
            return ActionOutcome(action_id=action.id, status=ActionStatus.FAILED)
        except Retryable as error:
            await self._record(action, ActionStatus.PENDING, progress, str(error))
            metrics.count_retry(environment, action_type.name, error.code)
            # Without the error's text, which may repeat the payload.
            seen = {"event_id": str(action.event_id), "action_type": action_type.name, "code": error.code}
            logger.info("action_tried_later", extra=seen)
            if isinstance(error, NotYet) and error.retry_after > LONG_WAIT:
                self._on_retry(action.event_id)
            raise tried_later(error, "the action log") from None
        await self._record(action, ActionStatus.SUCCEEDED, progress)
        metrics.count_action(environment, action_type.name, ActionStatus.SUCCEEDED)
        return ActionOutcome(action_id=action.id, status=ActionStatus.SUCCEEDED)

    async def _send(
        self,
        action_type: ActionType,
        action: StoredAction,
        environment: str,
        progress: Progress,
        *,
        retried: bool,
    ) -> None:
        """Make the calls that are left, each when the destination takes it."""
        clock = asyncio.get_running_loop().time
        end = clock() + (ATTEMPT if retried else LOCAL_ATTEMPT)
        knock = self._destinations.client(environment)
        account = self._destinations.account(environment)
        calls = action_type.calls(action.payload or {}, action.idempotency_key or "")
        for payload, idempotency_key in calls[progress.calls :]:
            if progress.started_at is not None and clock() > end:
                raise Retryable(
                    f"{progress.calls} of {len(calls)} calls are done, the rest follows",
                    code="continued",
                    retry_after=CONTINUE_AFTER,
                )
            limit = None if account is None else Limit(account, action_type.name, action_type.tier)
            if limit is not None:
                with metrics.rate_limit_wait(environment, action_type.name):
                    await self._rate_limits.take(limit, came_back=retried)
            progress.started_at = progress.started_at or now()
            try:
                with (
                    metrics.destination_call(environment, action_type.name),
                    tracing.destination_call(environment, action_type.name),
                ):
                    answer = await attempt(action_type.call(knock, payload, idempotency_key))
                progress.add(answer)
            except Retryable as error:
                if limit is not None and error.code == "http_429":
                    await self._rate_limits.pause(limit, error.retry_after or DEFAULT_PAUSE)
                raise

    async def _record(
        self, action: StoredAction, status: ActionStatus, progress: Progress, error: str | None = None
    ) -> None:
        finished_at = None if status is ActionStatus.PENDING else now()
        await self._actions.record(
            Attempt(
                action.id, status, progress.started_at, finished_at, progress.calls, progress.result, error
            )
        )


def _sum(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {name: first.get(name, 0) + value for name, value in second.items()}
