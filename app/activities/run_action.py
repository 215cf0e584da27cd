"""The activities that run actions: one for each action type, under the type's name.

They send what `map_event` evaluated, as often a second as the destination takes it, and write each attempt
into the action log. A failure that may pass is raised, for Temporal to try again; any other is recorded and
returned. `record_outcome` comes next.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from temporalio import activity
from temporalio.common import RetryPolicy

from app.actions.base import ActionType, Payload
from app.actions.registry import action_types
from app.activities.failures import tried_later
from app.core.errors import Permanent, Refused, Retryable
from app.database.engine import to_json
from app.events.action_log import ActionLog, AppliedBy, Attempt, StoredAction
from app.events.applied import NotedChange, Standing, SubjectKey, changes_of, subject_key
from app.events.superseded import Rest, holders_of, rest_of
from app.models.contracts import ActionOutcome, ActionRef
from app.models.status import ActionStatus
from app.models.types import digest_of, new_id, now
from app.outbound.destinations import Destinations
from app.outbound.knock import attempt
from app.outbound.rate_limits import KnockRateLimits, Limit, NotYet
from app.runtime import metrics, tracing
from app.workflows import policies

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
# What was applied to a thing is looked up again when it was longer ago than this.
RECENT = timedelta(seconds=1)
# Between tries of an action that waits for what it adds to: half of the time that it has waited, within
# these.
FIRST_WAIT = timedelta(seconds=0.5)
LAST_WAIT = timedelta(minutes=1)
# How soon an action asks again whether it is its turn, in seconds.
TURN_PAUSE = 1.0
# How often an attempt sends again what holds, while other events change the same thing.
ROUNDS = 5


class ParentMissing(Retryable):
    """What an action adds to does not exist. Senders may send it later."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="resource_missing")


@dataclass
class Progress:
    """How far an action is: calls that are done, what came of them, and when this attempt sent its first.

    `changes`: what the calls of this attempt changed. `left_out`: what calls did not carry. `reason`: why the
    last one was not sent.
    """

    calls: int
    result: dict[str, Any] | None
    left_out: list[dict[str, Any]]
    started_at: datetime | None = None
    changes: list[NotedChange] = field(default_factory=list)
    reason: str | None = None

    @property
    def is_skipped(self) -> bool:
        """Whether later events left nothing to send."""
        return self.reason is not None and not self.changes and self.result is None

    def add(self, rest: Rest, result: dict[str, Any] | None, changes: Sequence[NotedChange]) -> None:
        """Count a call that succeeded. Of the results of several, numbers are summed, and ids are listed."""
        earlier = self.result
        self.result = _sum(earlier, result) if earlier and result else result
        self.changes += changes
        self._count(rest)

    def skip(self, rest: Rest) -> None:
        """Count a call of which later events left nothing."""
        self.reason = rest.reason
        self._count(rest)

    def _count(self, rest: Rest) -> None:
        self.calls += 1
        self.left_out += rest.left_out


@dataclass
class PendingCalls:
    """Where an action is sent: its environment, what the far side counts calls by, and what was applied
    there."""

    environment: str
    account: str | None
    standing: Standing

    @property
    def destination(self) -> str:
        """As what was applied names it."""
        return self.account or ""

    def limit(self, action_type: ActionType) -> Limit | None:
        """How often it takes calls of a type; the embedded directory has no limit."""
        return None if self.account is None else Limit(self.account, action_type.name, action_type.tier)


class RunAction:
    """Runs actions of every type. `on_retry` hears of events whose actions go on as regular activities,
    `on_wait` of those whose action waits for what it adds to: others of their ordering key may go first.
    `on_return` is asked before such an action is tried again, and names the event that comes before it."""

    def __init__(
        self,
        actions: ActionLog,
        destinations: Destinations,
        rate_limits: KnockRateLimits,
        on_retry: Callable[[UUID], None],
        on_wait: Callable[[UUID], Awaitable[None]],
        on_return: Callable[[UUID], Awaitable[UUID | None]],
    ) -> None:
        self._actions = actions
        self._destinations = destinations
        self._rate_limits = rate_limits
        self._on_retry = on_retry
        self._on_wait = on_wait
        self._on_return = on_return

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
        if action.parent_missing_since is not None and (earlier := await self._on_return(action.event_id)):
            message = f"comes after event {earlier}, which is being executed"
            raise tried_later(Retryable(message, code="turn", retry_after=TURN_PAUSE), "the action log")
        return await self._attempt(action_type, action, reference.environment, retried=retried)

    async def _attempt(
        self, action_type: ActionType, action: StoredAction, environment: str, *, retried: bool
    ) -> ActionOutcome:
        progress = Progress(action.calls, action.result, list(action.left_out or ()))
        sending = PendingCalls(environment, None, Standing())
        status, problem = ActionStatus.SUCCEEDED, None
        try:
            sending = await self._prepare(action, environment)
            if action.contested:
                await self._settle(action_type, action, sending, retried=retried)
            await self._send(action_type, action, sending, progress, retried=retried)
        except ParentMissing as error:
            failure = _waited_enough(action_type, action, error)
            if failure is None:
                await self._wait_for_parent(action_type, action, sending, progress, error)
            status, problem = ActionStatus.FAILED, failure
        except Permanent as error:
            status, problem = ActionStatus.FAILED, str(error)
        except Retryable as error:
            next_attempt_at = _next_attempt_at(error, retried=retried)
            await self._record(
                action, ActionStatus.PENDING, sending, progress, str(error), next_attempt_at=next_attempt_at
            )
            metrics.count_retry(environment, action_type.name, error.code)
            # Without the error's text, which may repeat the payload.
            seen = {"event_id": str(action.event_id), "action_type": action_type.name, "code": error.code}
            logger.info("action_tried_later", extra=seen)
            if isinstance(error, NotYet) and error.retry_after > LONG_WAIT:
                self._on_retry(action.event_id)
            raise tried_later(error, "the action log") from None
        if status is ActionStatus.SUCCEEDED and progress.is_skipped:
            status, problem = ActionStatus.SKIPPED, progress.reason
        if not await self._record(action, status, sending, progress, problem):
            contested = replace(
                action,
                calls=progress.calls,
                result=progress.result,
                left_out=progress.left_out,
                standing=None,
                contested=True,
            )
            return await self._attempt(action_type, contested, environment, retried=retried)
        metrics.count_action(environment, action_type.name, status)
        return ActionOutcome(action_id=action.id, status=status)

    async def _prepare(self, action: StoredAction, environment: str) -> PendingCalls:
        """Where the action is sent, with what was applied there so far, which may have been looked up when it
        was added."""
        account = self._destinations.account(environment)
        if action.standing is not None:
            return PendingCalls(environment, account, action.standing)
        return PendingCalls(
            environment, account, await self._actions.look_up(action, environment, account or "")
        )

    async def _refresh(self, action: StoredAction, sending: PendingCalls) -> None:
        """Look up again what was applied, unless that was just now."""
        if now() - sending.standing.looked_up_at > RECENT:
            sending.standing = await self._actions.look_up(action, sending.environment, sending.destination)

    async def _wait_for_parent(
        self,
        action_type: ActionType,
        action: StoredAction,
        sending: PendingCalls,
        progress: Progress,
        error: ParentMissing,
    ) -> NoReturn:
        """Try again in a while: soon at first, at last at the end of the time that it waits."""
        since = action.parent_missing_since or now()
        assert action_type.waits_for_parent is not None
        waited = now() - since
        left = action_type.waits_for_parent - waited
        error.retry_after = min(max(waited / 2, FIRST_WAIT), LAST_WAIT, left).total_seconds()
        await self._record(
            action,
            ActionStatus.PENDING,
            sending,
            progress,
            str(error),
            missing_since=since,
            next_attempt_at=now() + timedelta(seconds=error.retry_after),
        )
        metrics.count_retry(sending.environment, action_type.name, error.code)
        await self._on_wait(action.event_id)
        raise tried_later(error, "the action log") from None

    async def _send(
        self,
        action_type: ActionType,
        action: StoredAction,
        sending: PendingCalls,
        progress: Progress,
        *,
        retried: bool,
    ) -> None:
        """Make the calls that are left, and of each what no later event changed."""
        clock = asyncio.get_running_loop().time
        end = clock() + (ATTEMPT if retried else LOCAL_ATTEMPT)
        calls = action_type.calls(action.payload or {}, action.idempotency_key or "")
        for whole, key in calls[progress.calls :]:
            if progress.started_at is not None and clock() > end:
                raise Retryable(
                    f"{progress.calls} of {len(calls)} calls are done, the rest follows",
                    code="continued",
                    retry_after=CONTINUE_AFTER,
                )
            if rest_of(action_type, whole, action.stands, sending.standing).payload is not None:
                await self._take_turn(action_type, sending, retried=retried)
            await self._refresh(action, sending)
            rest = rest_of(action_type, whole, action.stands, sending.standing)
            if rest.payload is None:
                progress.skip(rest)
                continue
            progress.started_at = progress.started_at or now()
            answer = await self._call(action_type, sending, rest.payload, _key_of(rest, key))
            progress.add(rest, answer, changes_of(action_type, rest.payload))

    async def _take_turn(self, action_type: ActionType, sending: PendingCalls, *, retried: bool) -> None:
        """Wait until the destination takes a call. Raises as `RateLimits.take`."""
        limit = sending.limit(action_type)
        if limit is not None:
            with metrics.rate_limit_wait(sending.environment, action_type.name):
                await self._rate_limits.take(limit, came_back=retried)

    async def _call(
        self, action_type: ActionType, sending: PendingCalls, payload: Payload, idempotency_key: str
    ) -> dict[str, Any] | None:
        """The destination's answer to a call. Raises as `attempt`, and ParentMissing."""
        knock = self._destinations.client(sending.environment)
        try:
            with (
                metrics.destination_call(sending.environment, action_type.name),
                tracing.destination_call(sending.environment, action_type.name),
            ):
                return await attempt(action_type.call(knock, payload, idempotency_key))
        except Refused as error:
            if action_type.waits_for_parent and (error.status, error.code) == (404, "resource_missing"):
                raise ParentMissing(str(error)) from error
            raise
        except Retryable as error:
            limit = sending.limit(action_type)
            if limit is not None and error.code == "http_429":
                await self._rate_limits.pause(limit, error.retry_after or DEFAULT_PAUSE)
            raise

    async def _settle(
        self, action_type: ActionType, action: StoredAction, sending: PendingCalls, *, retried: bool
    ) -> None:
        """Several events changed the same thing at once, and nobody knows whose call came last: send again
        what the last of them set.

        Raises:
            Retryable: it goes on, or the destination does not take it now.
            Permanent: the destination refuses it.
        """
        payload = action.payload or {}
        assert action_type.effect is not None
        subject = subject_key(action_type.effect, payload)
        async with self._actions.alone(sending.environment, sending.destination, *subject):
            for _ in range(ROUNDS):
                if await self._send_what_holds(action_type, action, sending, retried=retried):
                    return
        raise Retryable("several events change the same thing at once", code="contested", retry_after=1)

    async def _send_what_holds(
        self, action_type: ActionType, action: StoredAction, sending: PendingCalls, *, retried: bool
    ) -> bool:
        """Send again what holds of what an action changed; False when it was changed meanwhile."""
        payload = action.payload or {}
        keys = {each.key for each in changes_of(action_type, payload)}
        standing = await self._actions.look_up(action, sending.environment, sending.destination)
        is_settled = True
        for holder in holders_of(action_type, payload, standing):
            is_mine = holder.event_id == action.stands.event_id
            holding = [action] if is_mine else await self._actions.of_event(UUID(holder.event_id))
            for each in holding:
                is_settled &= await self._send_again(each, keys, sending, retried=retried)
        return is_settled

    async def _send_again(
        self, action: StoredAction, keys: set[SubjectKey], sending: PendingCalls, *, retried: bool
    ) -> bool:
        """Send again what an action set of these rows and still holds; False when they were changed
        meanwhile."""
        action_type = action_types()[action.action_type]
        if action_type.effect is None or action.payload is None:
            return True
        is_settled = True
        for whole, key in action_type.calls(action.payload, action.idempotency_key or ""):
            if keys.isdisjoint(each.key for each in changes_of(action_type, whole)):
                continue
            await self._take_turn(action_type, sending, retried=retried)
            # After the wait: what is looked up just before the call is rarely changed meanwhile.
            standing = await self._actions.look_up(action, sending.environment, sending.destination)
            rest = rest_of(action_type, whole, action.stands, standing)
            if rest.payload is None:
                continue
            await self._call(action_type, sending, rest.payload, digest_of(key, new_id().hex).hex())
            changes = changes_of(action_type, rest.payload)
            applied = AppliedBy(sending.environment, sending.destination, action.stands, changes, standing)
            is_settled &= await self._actions.apply(applied)
        return is_settled

    async def _record(
        self,
        action: StoredAction,
        status: ActionStatus,
        sending: PendingCalls,
        progress: Progress,
        error: str | None = None,
        *,
        missing_since: datetime | None = None,
        next_attempt_at: datetime | None = None,
    ) -> bool:
        """As `ActionLog.record`."""
        changed = AppliedBy(
            sending.environment, sending.destination, action.stands, progress.changes, sending.standing
        )
        return await self._actions.record(
            Attempt(
                action.id,
                status,
                progress.started_at,
                None if status is ActionStatus.PENDING else now(),
                progress.calls,
                progress.result,
                error,
                left_out=progress.left_out,
                parent_missing_since=missing_since,
                next_attempt_at=next_attempt_at,
                applied=changed if progress.changes else None,
            )
        )


def _key_of(rest: Rest, idempotency_key: str) -> str:
    """The key of a call: another one when it does not carry all, because it is another request."""
    if not rest.left_out:
        return idempotency_key
    return digest_of(idempotency_key, to_json(rest.payload)).hex()


def _next_attempt_at(error: Retryable, *, retried: bool) -> datetime:
    """When an action is tried again that this error ended an attempt of: as the workflow and its policy
    have it."""
    if error.retry_after:
        return now() + timedelta(seconds=error.retry_after)
    if not retried:
        return now() + policies.ACTION_FIRST_BACKOFF
    policy: RetryPolicy = policies.ACTION["retry_policy"]
    assert policy.maximum_interval is not None
    # Bounded, so that the power is a number of usual size.
    doublings = min(activity.info().attempt - 1, 30)
    return now() + min(
        policy.initial_interval * policy.backoff_coefficient**doublings, policy.maximum_interval
    )


def _waited_enough(action_type: ActionType, action: StoredAction, error: ParentMissing) -> str | None:
    """Why an action fails that waited for what it adds to; None when it still waits."""
    since, patience = action.parent_missing_since, action_type.waits_for_parent
    if since is None or patience is None or now() - since < patience:
        return None
    minutes = patience.total_seconds() / 60
    return (
        f"{error} (retried for {minutes:g} minutes, in case it arrives late; replay the event once it exists)"
    )


def _sum(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The results of several calls as one: `{name}s` lists what is no number, beside the first one's."""
    result = dict(first)
    for name, value in second.items():
        if isinstance(value, int):
            result[name] = first.get(name, 0) + value
        else:
            listed = first.get(f"{name}s", [first[name]] if name in first else [])
            result |= {name: first.get(name, value), f"{name}s": [*listed, value]}
    return result
