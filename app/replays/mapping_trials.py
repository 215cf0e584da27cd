"""Mappings tried on an event, parameter by parameter, with the worker's own functions. Nothing is saved,
logged or run.

The event is a payload that the caller brings, one of the log, or a sample. Whichever it is, it goes through
`app/events/reception.py` as the source is configured now: provider, sensitive values, preprocessing, script.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.actions.base import Parameter
from app.actions.conditions import is_unmet
from app.actions.liquid_values import with_rendered
from app.actions.parameters import (
    InvalidParameter,
    MissingParameter,
    evaluate_parameter,
    outcome_of,
    template_of,
)
from app.actions.paths import MISSING, DecodedEvent
from app.actions.registry import action_types
from app.actions.sensitive import withheld
from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.events.reception import ReceivedEvent, Refusal, receive_event
from app.logs.samples import get_sample
from app.models.event import Event
from app.models.source import SourceEnvironment
from app.models.status import ActionStatus
from app.replays.one import delivery_in, endpoint_of, get_payload, receive_stored
from app.runtime.resources import Runtime
from app.scripting.turns import Busy
from app.sources.live import ActiveMapping, Endpoint
from app.sources.mappings import list_mappings
from app.sources.store import find_source

TestedOn = Literal["payload", "received", "example"]


@dataclass(frozen=True)
class TriedParameter:
    """A parameter with what the mapping sets it to. Without `value` and `error` it is left out of the
    call."""

    name: str
    required: bool
    template: Any
    value: Any = MISSING
    error: str | None = None


@dataclass(frozen=True)
class TriedMapping:
    """A mapping and what would come of it: `pending` is what would run, with this payload."""

    mapping: ActiveMapping
    active: bool
    status: ActionStatus
    payload: dict[str, Any] | None
    error: str | None
    parameters: list[TriedParameter]

    @property
    def met(self) -> bool:
        """Whether its conditions are met."""
        return not is_unmet(self.error)


@dataclass(frozen=True)
class MappingTest:
    """What was tested, and the mappings in the order in which they run."""

    origin: TestedOn
    log_id: UUID | None
    event: ReceivedEvent
    mappings: list[TriedMapping]


@dataclass(frozen=True)
class TestedEvent:
    """An event as a worker would map it. `log_id` is None for one that is not of the log."""

    origin: TestedOn
    log_id: UUID | None
    event: ReceivedEvent
    decoded: DecodedEvent
    endpoint: Endpoint


async def try_mappings(
    session: AsyncSession,
    runtime: Runtime,
    configured: SourceEnvironment,
    event_type: str,
    *,
    log_id: UUID | None = None,
    payload: dict[str, Any] | None = None,
) -> MappingTest:
    """Evaluate the mappings of an event type on a payload, else on an event of the log, else on a sample.

    Raises as `open_event` does.
    """
    endpoint = endpoint_of(runtime, configured.environment, configured.source_key)
    tested = await open_event(session, runtime, configured, event_type, log_id=log_id, payload=payload)
    active = endpoint.mappings.get(event_type, ())
    inactive = [
        ActiveMapping(each.id, each.action_type, each.action_parameters, conditions=each.conditions)
        for each in await list_mappings(session, configured)
        if each.event_type == event_type and not each.active and each.action_type in action_types()
    ]
    tried = [
        await try_mapping(runtime, mapping, tested, active=mapping not in inactive)
        for mapping in sorted([*active, *inactive], key=_position)
    ]
    return MappingTest(tested.origin, tested.log_id, tested.event, tried)


async def open_event(
    session: AsyncSession,
    runtime: Runtime,
    configured: SourceEnvironment,
    event_type: str,
    *,
    log_id: UUID | None = None,
    payload: dict[str, Any] | None = None,
    is_example: bool = False,
) -> TestedEvent:
    """What mappings of an event type are tried on: a payload, else an event of the log, else the latest of
    its type, else (or when `is_example`) the provider's example.

    Raises:
        RequestError: 404, there is no such event or no sample; 409, its payload is gone; 422, the payload
            cannot be an event; 503, too many scripts wait.
    """
    endpoint = endpoint_of(runtime, configured.environment, configured.source_key)
    try:
        if payload is not None:
            origin: TestedOn = "payload"
            event = await _receive(runtime, endpoint, *delivery_in(payload))
        elif is_example:
            origin, log_id = "example", None
            event = await _receive_example(runtime, endpoint, event_type)
        else:
            origin, log_id, event = await _stored(session, runtime, endpoint, event_type, log_id)
    except Busy as error:
        raise RequestError(503, error.code, str(error), headers={"retry-after": "1"}) from error
    if isinstance(event, Refusal):
        raise invalid_fields([FieldError("payload", event.rejected.message)])
    body = withheld(exact_json.loads(event.body), endpoint.provider.sensitive_paths)
    decoded = DecodedEvent(body, event.headers, event.preprocess_output)
    return TestedEvent(origin, log_id, event, decoded, endpoint)


def _position(mapping: ActiveMapping) -> int:
    return list(action_types()).index(mapping.action_type)


async def _stored(
    session: AsyncSession, runtime: Runtime, endpoint: Endpoint, event_type: str, log_id: UUID | None
) -> tuple[TestedOn, UUID | None, ReceivedEvent | Refusal]:
    """The event of the log, else the latest of its type, else the provider's example, and its id in the
    log."""
    source = await find_source(session, endpoint.source_key)
    if log_id is None:
        log_id = (await get_sample(session, runtime.box, source, endpoint.environment, event_type)).id
    if log_id is None:
        return "example", None, await _receive_example(runtime, endpoint, event_type)
    event = await session.get(Event, log_id)
    if event is None or event.source_key != source.key:
        raise RequestError(404, "resource_missing", f"Source {source.key!r} has no log entry {log_id}")
    payload = await get_payload(session, event)
    return "received", log_id, await receive_stored(runtime, endpoint, event, payload)


async def _receive_example(runtime: Runtime, endpoint: Endpoint, event_type: str) -> ReceivedEvent | Refusal:
    examples = endpoint.provider.examples.get(event_type)
    if not examples:
        message = f"{endpoint.provider.name} has no example of {event_type!r}"
        raise RequestError(404, "resource_missing", message)
    body = exact_json.dumps(endpoint.provider.event_body(examples[0]))
    return await _receive(runtime, endpoint, body, dict(examples[0].headers))


async def _receive(
    runtime: Runtime, endpoint: Endpoint, body: bytes, headers: dict[str, str]
) -> ReceivedEvent | Refusal:
    unenforced = replace(endpoint, enforce_verification=False)
    return await receive_event(unenforced, body, headers, runtime.box, runtime.scripts)


async def try_mapping(
    runtime: Runtime, mapping: ActiveMapping, tested: TestedEvent, *, active: bool
) -> TriedMapping:
    """What would come of a mapping, saved or not.

    Raises:
        RequestError: 503, too many templates wait.
    """
    action, endpoint = action_types()[mapping.action_type], tested.endpoint
    variables, owner = endpoint.variables.public, (endpoint.environment, endpoint.source_key)
    try:
        event = await with_rendered(tested.decoded, mapping.liquid, runtime.templates, variables, owner)
    except Busy as error:
        raise RequestError(503, error.code, str(error), headers={"retry-after": "1"}) from error
    outcome = outcome_of(action, mapping.parameters, event, mapping.conditions, variables)
    parameters = list(_parameters(action.parameters, mapping.parameters, event))
    return TriedMapping(mapping, active, outcome.status, outcome.payload, outcome.error, parameters)


def _parameters(
    parameters: tuple[Parameter, ...], configured: dict[str, Any], event: DecodedEvent
) -> Iterator[TriedParameter]:
    """Each parameter that the mapping sets or the action needs: all that is wrong, where a worker ends at the
    first."""
    for parameter in parameters:
        template = template_of(parameter, configured)
        if template is None and not parameter.required:
            continue
        tried = TriedParameter(parameter.name, parameter.required, template)
        try:
            yield replace(tried, value=evaluate_parameter(parameter, configured, event))
        except (MissingParameter, InvalidParameter) as error:
            yield replace(tried, error=str(error))
