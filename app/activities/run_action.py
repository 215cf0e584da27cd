"""The activities that run actions: one for each action type, under the type's name.

They send what `map_event` evaluated and write each attempt into the action log. A failure that may pass is
raised, for Temporal to try again; any other is recorded and returned. `record_outcome` comes next.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError

from app.action_log import ActionLog, Attempt, StoredAction
from app.activities.actions.base import ActionType
from app.activities.actions.registry import action_types
from app.destinations import Destinations, attempt
from app.errors import Permanent, Retryable
from app.models.contracts import ActionOutcome, ActionRef
from app.models.status import ActionStatus
from app.models.types import now


class RunAction:
    """Runs actions of every type. `on_retry` hears of events whose actions go on as regular activities."""

    def __init__(
        self, actions: ActionLog, destinations: Destinations, on_retry: Callable[[UUID], None]
    ) -> None:
        self._actions = actions
        self._destinations = destinations
        self._on_retry = on_retry

    def activities(self) -> list[Callable[..., Any]]:
        """One activity for each action type."""
        return [self._activity(each) for each in action_types().values()]

    def _activity(self, action_type: ActionType) -> Callable[..., Any]:
        @activity.defn(name=action_type.name)
        async def run(action: ActionRef) -> ActionOutcome:
            return await self._run(action_type, action)

        return run

    async def _run(self, action_type: ActionType, reference: ActionRef) -> ActionOutcome:
        action = await self._actions.load(reference.action_id)
        if not activity.info().is_local:
            self._on_retry(action.event_id)
        if action.status is not ActionStatus.PENDING:
            # Done by an earlier execution whose result Temporal did not get.
            return ActionOutcome(action_id=action.id, status=action.status)
        return await self._attempt(action_type, action, reference.environment)

    async def _attempt(
        self, action_type: ActionType, action: StoredAction, environment: str
    ) -> ActionOutcome:
        started_at = now()
        try:
            knock = self._destinations.client(environment)
            result = await attempt(
                action_type.call(knock, action.payload or {}, action.idempotency_key or "")
            )
        except Permanent as error:
            failed = Attempt(action.id, ActionStatus.FAILED, started_at, now(), error=str(error))
            await self._actions.record(failed)
            return ActionOutcome(action_id=action.id, status=ActionStatus.FAILED)
        except Retryable as error:
            await self._actions.record(
                Attempt(action.id, ActionStatus.PENDING, started_at, None, error=str(error))
            )
            raise _for_temporal(error) from None
        await self._actions.record(
            Attempt(action.id, ActionStatus.SUCCEEDED, started_at, now(), result=result)
        )
        return ActionOutcome(action_id=action.id, status=ActionStatus.SUCCEEDED)


def _for_temporal(error: Retryable) -> ApplicationError:
    """The failure without the destination's text, which may repeat the payload: that is in the action log."""
    return ApplicationError(
        f"{error.code}: tried again later; see the action log for the destination's answer",
        type="Retryable",
        next_retry_delay=timedelta(seconds=error.retry_after) if error.retry_after else None,
    )
