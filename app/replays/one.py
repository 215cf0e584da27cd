"""Events that no service sent: rehearsals of a payload, and replays of an event that is in the log.

Both are rows of the event log like any other, marked by their `origin`, and go the same way from there
(`app/worker/events.py`). Idempotency does not hold back a rehearsal or the replay of a success: each was
asked for by hand. The replay of an event that did not succeed is its next try, under its idempotency key.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.environments import get_environment
from app.core import exact_json
from app.core.errors import FieldError, Rejected, RequestError
from app.core.raw_json import Part, loads_loosely
from app.core.secrets import SecretBox
from app.core.validation import invalid_fields
from app.events.applied import Position, event_time
from app.events.assessment import assess, assess_tracking, refusal, status_of
from app.events.reception import (
    SCRIPT_FAILED,
    ReceivedEvent,
    Refusal,
    events_of_request,
    receive_event,
    received_part,
)
from app.events.tracking import events_of
from app.events.writer import write_events
from app.models.action import Action
from app.models.event import Event, EventPayload
from app.models.status import (
    ActionStatus,
    EventStatus,
    Origin,
    ReceivedThrough,
    ReplayMappings,
)
from app.models.types import derived_id, digest_of, id_time_range
from app.providers.verification import Delivery
from app.runtime.resources import Runtime
from app.sources.live import Endpoint
from app.sources.store import get_configured

# A rehearsal's caller waits for its result; an event whose actions are tried again takes longer than anyone
# waits.
REHEARSAL_DEADLINE = 20.0
POLL_INTERVAL = 0.05

# Ends after which an event's replay is its next try.
UNSUCCESSFUL = (EventStatus.FAILED, EventStatus.REJECTED, EventStatus.IGNORED)

_STATUS = text("SELECT status FROM events WHERE id = :id")


class PayloadMissing(RequestError):
    """Retention or an erasure took the payload of an event that is still in the log."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(409, code, message)


@dataclass(frozen=True)
class Rehearsal:
    """What came of a rehearsal. `errors` name the actions that failed or were skipped, and why."""

    event_id: UUID | None
    actions: int
    succeeded: int
    failed: int
    errors: list[FieldError]


async def rehearse(
    session: AsyncSession, runtime: Runtime, key: str, environment: str, payload: dict[str, Any]
) -> Rehearsal:
    """Let a payload run as an event that the source received, and wait for its result.

    The payload is `{"body": {...}, "headers": {...}}`, or a body alone.

    Raises:
        RequestError: 404, there is no such source; 422, the payload cannot be an event, or the environment is
            one of production.
    """
    if (await get_environment(session, environment)).is_production:
        message = f"{environment!r} is a production environment: rehearse in another one"
        raise invalid_fields([FieldError("environment", message)])
    await get_configured(session, key, environment)
    body, headers = delivery_in(payload)
    endpoint = replace(endpoint_of(runtime, environment, key), enforce_verification=False)
    received = await receive_event(endpoint, body, headers, runtime.box, runtime.scripts)
    if isinstance(received, Refusal):
        return Rehearsal(None, 0, 0, 0, [FieldError("payload", received.rejected.message)])
    await write_events(await session.connection(), [replace(received, origin=Origin.REHEARSAL)])
    await session.commit()
    if not await _finished(runtime.engine, received.id):
        waiting = (
            f"there was no result within {REHEARSAL_DEADLINE:g} s. The event goes on and its log will tell; "
            f"is a worker that serves {environment!r} running?"
        )
        return replace(await _result(session, received.id), errors=[FieldError("environment", waiting)])
    return await _result(session, received.id)


def delivery_in(payload: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The body and headers in a payload, which is `{"body": {...}, "headers": {...}}` or a body alone. Names
    of headers are in lower case.

    Raises:
        RequestError: 422, it is neither.
    """
    if "body" not in payload:
        return exact_json.dumps(payload), {}
    body, headers = payload["body"], payload.get("headers") or {}
    errors = [
        FieldError(f"payload.{name}", "is not known here") for name in payload.keys() - {"body", "headers"}
    ]
    if not isinstance(body, dict):
        errors.append(FieldError("payload.body", "must be an object"))
    if not isinstance(headers, dict):
        errors.append(FieldError("payload.headers", "must be an object"))
    else:
        errors += [
            FieldError(f"payload.headers.{name}", "must be a string")
            for name, value in headers.items()
            if not isinstance(value, str)
        ]
    if errors:
        raise invalid_fields(errors)
    return exact_json.dumps(body), {name.lower(): value for name, value in headers.items()}


async def _finished(engine: AsyncEngine, event_id: UUID) -> bool:
    """Whether the event came to its end before the deadline."""
    waiting = (EventStatus.RECEIVED, EventStatus.PROCESSING)
    try:
        async with asyncio.timeout(REHEARSAL_DEADLINE):
            while True:
                async with engine.connect() as connection:
                    status = (await connection.execute(_STATUS, {"id": event_id})).scalar_one()
                if status not in waiting:
                    return True
                await asyncio.sleep(POLL_INTERVAL)
    except TimeoutError:
        return False


async def _result(session: AsyncSession, event_id: UUID) -> Rehearsal:
    event = await session.get_one(Event, event_id, populate_existing=True)
    actions = await _actions(session, event_id)
    errors = [
        FieldError(each.action_type, each.error or each.status)
        for each in actions
        if each.status in (ActionStatus.FAILED, ActionStatus.SKIPPED)
    ]
    if event.error and (
        SCRIPT_FAILED in event.error
        or (not errors and (event.event_type is None or event.status == EventStatus.FAILED))
    ):
        errors.insert(0, FieldError("event", event.error))
    return Rehearsal(
        event_id,
        actions=len(actions),
        succeeded=sum(each.status == ActionStatus.SUCCEEDED for each in actions),
        failed=sum(each.status == ActionStatus.FAILED for each in actions),
        errors=errors,
    )


async def replay(
    session: AsyncSession, runtime: Runtime, key: str, event_id: UUID, mappings: ReplayMappings
) -> UUID:
    """Run an event of the log again; the id of the new event, the first of them when a batch was refused as a
    whole.

    With `current` mappings it is identified and mapped by the configuration of now. With `original` ones, the
    actions are sent as they were evaluated: of a failed event those that did not succeed, under the
    idempotency keys that they had, so that nothing which arrived is repeated; else all of them.

    Raises:
        RequestError: 404, there is no such event; 409, its payload is gone or erased; 422, it cannot run.
    """
    original = await session.get(Event, event_id)
    if original is None or original.source_key != key:
        raise RequestError(404, "resource_missing", f"Source {key!r} has no log entry {event_id}")
    again = await replay_event(session, runtime, original, mappings)
    await session.commit()
    return again


async def replay_event(
    session: AsyncSession,
    runtime: Runtime,
    original: Event,
    mappings: ReplayMappings,
    *,
    replay_id: UUID | None = None,
) -> UUID:
    """As `replay`, in the caller's transaction, maybe as part of a replay of many; the id of the new event.

    Raises:
        PayloadMissing: its payload is gone or erased.
        RequestError: it cannot run.
    """
    payload = await get_payload(session, original)
    endpoint = endpoint_of(runtime, original.environment, original.source_key)
    received = [
        replace(
            each,
            origin=Origin.REPLAY,
            replay_of=original.id,
            replay_mappings=mappings,
            replay_id=replay_id,
            takes_key=_is_next_try(original),
            **(_as_then(original) if mappings is ReplayMappings.ORIGINAL else {}),
        )
        for each in await _again(runtime, endpoint, original, payload)
    ]
    await write_events(await session.connection(), received)
    if mappings is ReplayMappings.ORIGINAL:
        await _copy_actions(session, original, received[0].id)
    return received[0].id


def _is_next_try(original: Event) -> bool:
    """Whether a replay stands for its original. A forced replay that failed had keys of its own."""
    return original.status in UNSUCCESSFUL and (original.origin is None or original.takes_key)


def _as_then(original: Event) -> dict[str, Any]:
    """How a replay is identified that sends what was evaluated for its original: that needs no mapping
    now."""
    return {
        "event_type": original.event_type,
        "idempotency_key": original.idempotency_key,
        "status": EventStatus.RECEIVED,
        "error": None,
    }


async def get_payload(session: AsyncSession, event: Event) -> EventPayload:
    """What an event of the log sent.

    Raises:
        PayloadMissing: it is no longer stored; the message says why.
    """
    if event.erased_at is not None:
        message = f"What this event sent was erased on request at {event.erased_at:%Y-%m-%d %H:%M:%SZ}"
        raise PayloadMissing("payload_erased", f"{message}: it cannot run again")
    payload = await session.get(EventPayload, event.id)
    if payload is None:
        raise PayloadMissing("payload_missing", "The payload of this event is no longer stored")
    return payload


async def _again(
    runtime: Runtime, endpoint: Endpoint, original: Event, payload: EventPayload
) -> list[ReceivedEvent]:
    """The event as if it came now, with the verification that it had; a rejected one must verify by now. A
    request of a library that was rejected is several, when it was a batch."""
    status, reason = original.verification_status, original.verification_reason
    if original.status == EventStatus.REJECTED:
        delivery = Delivery(payload.body, _headers(runtime.box, payload), original.received_at)
        is_tracked = original.received_through == ReceivedThrough.TRACKING
        events = _tracked_events(endpoint, payload) if is_tracked else []
        judge = assess_tracking if is_tracked else assess
        assessment = await judge(endpoint, delivery, runtime.scripts, [each.body for each in events])
        verdict = assessment.verdict
        if refusal(endpoint, assessment):
            raise _cannot_run(f"was rejected, and still cannot be verified: {verdict.reason}")
        if is_tracked:
            return events_of_request(
                endpoint,
                events,
                delivery.headers,
                runtime.box,
                assessment,
                through=ReceivedThrough.TRACKING,
            )
        status = status_of(endpoint, verdict)
        reason = None if verdict.verified else verdict.reason
    received = await receive_stored(runtime, endpoint, original, payload)
    if isinstance(received, Refusal):
        raise _cannot_run(received.rejected.message)
    return [replace(received, verification_status=status, verification_reason=reason)]


def _tracked_events(endpoint: Endpoint, payload: EventPayload) -> list[Part]:
    """The events of a library's request that was rejected as a whole, as reception would take them now."""
    limits = endpoint.provider.tracking
    if limits is None:
        raise _cannot_run(f"came from a library, from which {endpoint.provider.name} takes no events")
    try:
        # The path, which may have said the type, is not stored.
        events = events_of(loads_loosely(payload.body), "", limits)
    except ValueError:
        raise _cannot_run("is not JSON: of a large request that is rejected the beginning is kept") from None
    except Rejected as rejected:
        raise _cannot_run(rejected.message) from None
    if not events:
        raise _cannot_run("is a batch without events")
    return [each for each in events if each.problem is None]


async def receive_stored(
    runtime: Runtime, endpoint: Endpoint, original: Event, payload: EventPayload
) -> ReceivedEvent | Refusal:
    """What a source makes now of an event of the log, verified or not. A script does not see one event
    of a request of several: what it made of the whole stays.

    Raises:
        Busy: the source has a script, and too many wait already.
    """
    headers = _headers(runtime.box, payload)
    through = ReceivedThrough(original.received_through)
    if through is not ReceivedThrough.WEBHOOK and original.status != EventStatus.REJECTED:
        return received_part(
            endpoint,
            payload.body,
            headers,
            runtime.box,
            through=through,
            verification=(original.verification_status, original.verification_reason),
            preprocess_output=payload.preprocess_output,
        )
    unenforced = replace(endpoint, enforce_verification=False)
    return await receive_event(unenforced, payload.body, headers, runtime.box, runtime.scripts)


def _headers(box: SecretBox, payload: EventPayload) -> dict[str, str]:
    """All headers that an event came with, those with credentials too."""
    if payload.sensitive_headers is None:
        return dict(payload.headers)
    return {**payload.headers, **exact_json.loads(box.decrypt(payload.sensitive_headers))}


async def _copy_actions(session: AsyncSession, original: Event, event_id: UUID) -> None:
    """Give a replay the actions of the original, as they were evaluated."""
    failed = original.status == EventStatus.FAILED
    actions = [
        each
        for each in await _actions(session, original.id)
        if each.payload is not None and not (failed and each.status == ActionStatus.SUCCEEDED)
    ]
    if not actions:
        raise _cannot_run("has no actions to send again; replay it with the mappings of now")
    session.add_all(
        Action(
            id=derived_id(event_id, str(each.mapping_id)),
            event_id=event_id,
            environment=original.environment,
            source_key=original.source_key,
            mapping_id=each.mapping_id,
            action_type=each.action_type,
            parameters=each.parameters,
            payload=each.payload,
            position=each.position or _position(original),
            idempotency_key=each.idempotency_key
            if failed
            else digest_of(str(event_id), str(each.mapping_id)).hex(),
        )
        for each in actions
    )


def _position(original: Event) -> dict[str, Any]:
    """Where an event stands whose actions were stored without it."""
    received_at = original.received_at
    first = original.replay_of or original.id
    return Position(str(first), event_time(original.occurred_at, received_at)).as_mark()


async def _actions(session: AsyncSession, event_id: UUID) -> list[Action]:
    first, end = id_time_range(event_id)
    query = select(Action).where(
        col(Action.id) >= first, col(Action.id) < end, col(Action.event_id) == event_id
    )
    return list((await session.exec(query.execution_options(populate_existing=True))).all())


def endpoint_of(runtime: Runtime, environment: str, key: str) -> Endpoint:
    """The source in an environment.

    Raises:
        RequestError: 404, there is no such source, or not here.
    """
    endpoint = runtime.configuration.endpoint(environment, key)
    if endpoint is None:
        message = f"Source {key!r} does not work in {environment!r}: the environment or the provider is gone"
        raise RequestError(404, "resource_missing", message)
    return endpoint


def _cannot_run(why: str) -> RequestError:
    return invalid_fields([FieldError("id", why)])
