"""The activity `map_event`: from a decoded event to the actions to run, each evaluated and stored.

What is evaluated here is what is sent on every attempt. The actions' own activities come next
(`app/activities/run_action.py`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from uuid import UUID

from temporalio import activity

from app.actions.conditions import is_unmet
from app.actions.liquid_values import with_rendered
from app.actions.parameters import outcome_of
from app.actions.paths import DecodedEvent
from app.actions.registry import action_types
from app.activities.failures import tried_later
from app.database.engine import to_json
from app.events.action_log import ActionLog, StoredAction
from app.events.applied import Position, event_time, says_it_creates
from app.events.event_log import EventLog, StoredEvent
from app.models.contracts import ActionRef, EventRef, MappedEvent
from app.models.status import ActionStatus, ReplayMappings
from app.models.types import derived_id, digest_of, now, time_of
from app.runtime import metrics
from app.scripting.templates import Templates
from app.scripting.turns import Busy
from app.sources.live import ActiveMapping, Configuration, Endpoint


class MapEvent:
    """Evaluates the active mappings of an event's type."""

    def __init__(
        self, events: EventLog, actions: ActionLog, configuration: Configuration, templates: Templates
    ) -> None:
        self._events = events
        self._actions = actions
        self._configuration = configuration
        self._templates = templates

    @activity.defn
    async def map_event(self, event: EventRef) -> MappedEvent:
        stored = await self._events.load(event.event_id)
        if stored.replay_mappings == ReplayMappings.ORIGINAL:
            return _mapped(stored, await self._actions.of_event(stored.id))
        endpoint = self._configuration.endpoint(stored.environment, stored.source_key)
        mappings = endpoint.mappings.get(stored.event_type or "", ()) if endpoint else ()
        if endpoint is None or not mappings:
            return MappedEvent(mapped=False)
        decoded = stored.decoded(endpoint.provider.sensitive_paths)
        decoded = await self._with_rendered(decoded, endpoint, mappings)
        order = list(action_types())
        original = await self._events.original_of(stored)
        evaluated = [
            evaluate_mapping(stored, decoded, mapping, original, endpoint.variables.public)
            for mapping in sorted(mappings, key=lambda each: order.index(each.action_type))
        ]
        destination = self._configuration.destination(stored.environment).account or ""
        actions = await asyncio.gather(*(self._actions.add(each, destination) for each in evaluated))
        for each in actions:
            # Those that run are counted when they have run.
            if each.status in (ActionStatus.SKIPPED, ActionStatus.FAILED):
                metrics.count_action(stored.environment, each.action_type, each.status)
        return _mapped(stored, actions)

    async def _with_rendered(
        self, decoded: DecodedEvent, endpoint: Endpoint, mappings: Sequence[ActiveMapping]
    ) -> DecodedEvent:
        """The event with the texts of the Liquid templates of its mappings.

        Raises:
            Busy: too many templates of the source wait already.
        """
        sources = [source for each in mappings for source in each.liquid]
        if not sources:
            return decoded
        owner = (endpoint.environment, endpoint.source_key)
        try:
            return await with_rendered(decoded, sources, self._templates, endpoint.variables.public, owner)
        except Busy as error:
            raise tried_later(error, "the event's log entry") from None


def evaluate_mapping(
    event: StoredEvent,
    decoded: DecodedEvent,
    mapping: ActiveMapping,
    original: UUID,
    variables: Mapping[str, str],
) -> StoredAction:
    """The action that a mapping makes of an event: pending, skipped or failed. `original`: the event that it
    replays, or itself. `variables`: those that its conditions may read."""
    action = action_types()[mapping.action_type]
    outcome = outcome_of(action, mapping.parameters, decoded, mapping.conditions, variables)
    payload = outcome.payload
    return StoredAction(
        id=derived_id(event.id, str(mapping.id)),
        event_id=event.id,
        mapping_id=mapping.id,
        action_type=mapping.action_type,
        parameters=mapping.parameters,
        payload=payload,
        idempotency_key=None if payload is None else _idempotency_key(event, mapping, payload, original),
        status=outcome.status,
        error=outcome.error,
        finished_at=None if outcome.status is ActionStatus.PENDING else now(),
        left_out=outcome.left_out or None,
        environment=event.environment,
        source_key=event.source_key,
        position=_position(event, mapping, original),
    )


def _position(event: StoredEvent, mapping: ActiveMapping, original: UUID) -> Position:
    """Where the event stands among those about the same thing: a replay where its original does."""
    received_at = event.received_at if original == event.id else time_of(original)
    return Position(
        str(original),
        event_time(event.occurred_at, received_at),
        says_it_creates(event.event_type),
        event.source_key,
        mapping.skip_older,
    )


def _idempotency_key(
    event: StoredEvent, mapping: ActiveMapping, payload: dict[str, object], original: UUID
) -> str:
    """The same for a retry, a crash after the call, the next event that repeats this one, and the replay of
    one that did not succeed; not for a rehearsal or the replay of a success, which are asked for by hand."""
    delivery = None if event.is_by_hand else event.idempotency_key or str(original)
    return digest_of(
        event.environment,
        event.source_key,
        event.event_type or "",
        delivery or str(event.id),
        str(mapping.id),
        to_json(payload),
    ).hex()


def _mapped(event: StoredEvent, actions: list[StoredAction]) -> MappedEvent:
    runnable = [each for each in actions if each.status in (ActionStatus.PENDING, ActionStatus.SUCCEEDED)]
    kinds = groupby(runnable, key=lambda each: each.action_type)
    return MappedEvent(
        mapped=True,
        kinds=[[_reference(event, each) for each in kind] for _, kind in kinds],
        skipped=sum(each.status is ActionStatus.SKIPPED for each in actions),
        decided=sum(each.status is ActionStatus.SKIPPED and is_unmet(each.error) for each in actions),
        failed=sum(each.status is ActionStatus.FAILED for each in actions),
    )


def _reference(event: StoredEvent, action: StoredAction) -> ActionRef:
    return ActionRef(
        action_id=action.id,
        action_type=action.action_type,
        environment=event.environment,
        give_up_after=action_types()[action.action_type].give_up_after.total_seconds(),
    )
