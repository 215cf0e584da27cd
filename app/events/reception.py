"""Stage 1 of an event, without HTTP: from the bytes received to a row of the event log.

Verifies the bytes, decodes them, and identifies event type, idempotency key and time. A delivery of many
events becomes as many rows. The result is accepted by `app/events/inbox.py`; a refused delivery becomes a row
too, with its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from app.actions.paths import MISSING, DecodedEvent, PathError, parse_path, resolve
from app.core.errors import Rejected
from app.core.raw_json import MAXIMUM_DEPTH, is_too_deep
from app.core.secrets import SecretBox
from app.events.assessment import Assessment, assess, hidden_values, refusal, status_of
from app.events.bodies import as_json
from app.events.library_calls import by_our_clock, exclusion
from app.models.status import EventStatus, Origin, ReceivedThrough, ReplayMappings, VerificationStatus
from app.models.types import digest_of, new_id, now
from app.providers.base import ORDERING_KEYS_PATH, OrderingKeys
from app.providers.verification import Delivery, FirstEventHmac, verify
from app.runtime import tracing
from app.scripting.pool import MINIMUM_MASKED_LENGTH, ScriptRun, Scripts
from app.sources.live import Endpoint

MAXIMUM_NAME_LENGTH = 255
# Of one event: as many as a call has recipients.
MAXIMUM_ORDERING_KEYS = 1000
# A refused body is kept for debugging, not for processing.
MAXIMUM_REJECTED_BODY = 16 * 1024
# Segment's largest batch.
MAXIMUM_EVENTS = 4000
TOO_DEEP = f"the body is nested more than {MAXIMUM_DEPTH} levels deep"
CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "x-write-key"})


@dataclass(frozen=True)
class ReceivedEvent:
    """A row of the event log and of its payloads, about to be written."""

    id: UUID
    environment: str
    source_key: str
    status: EventStatus
    verification_status: str
    verification_reason: str | None
    received_at: datetime
    body: bytes
    headers: dict[str, str]
    sensitive_headers: bytes | None
    event_type: str | None = None
    idempotency_key: str | None = None
    ordering_keys: list[str] | None = None
    occurred_at: datetime | None = None
    preprocess_output: dict[str, Any] | None = None
    error: str | None = None
    received_through: ReceivedThrough = ReceivedThrough.WEBHOOK
    batch_id: UUID | None = None
    signing_secret_id: UUID | None = None
    traceparent: str | None = None
    # Of what was asked for by hand (`app/replays/one.py`).
    origin: Origin | None = None
    replay_of: UUID | None = None
    replay_mappings: ReplayMappings | None = None
    replay_id: UUID | None = None


@dataclass(frozen=True)
class Refusal:
    """A delivery that is not accepted: what to answer, and what to log."""

    rejected: Rejected
    event: ReceivedEvent


async def receive_events(
    endpoint: Endpoint, body: bytes, headers: dict[str, str], box: SecretBox, scripts: Scripts
) -> list[ReceivedEvent] | Refusal:
    """The events in a delivery, or why there are none. Never raises for what a sender can send.

    Raises:
        ScriptsBusy: the source has a script, and too many wait already.
    """
    received_at = now()
    delivery = Delivery(body, headers, received_at)
    assessment = await assess(endpoint, delivery, scripts)
    verdict = assessment.verdict
    row = _row(
        endpoint,
        body,
        headers,
        box,
        status_of(endpoint, verdict),
        None if verdict.verified else verdict.reason,
        ReceivedThrough.WEBHOOK,
    )
    # The moment that the verdict is about.
    event = replace(row, received_at=received_at, signing_secret_id=verdict.secret_id)
    # A malformed body is refused below, with what is wrong with it.
    if not assessment.malformed and (rejected := refusal(endpoint, assessment)):
        return _refuse(event, rejected.status, rejected.code, rejected.message)
    content = as_json(body, headers)
    try:
        decoded = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        return _refuse(event, 400, "invalid_json", f"the body is not JSON: {error}")
    if is_too_deep(content, decoded):
        return _refuse(event, 400, "json_too_deep", TOO_DEEP)
    try:
        bodies = endpoint.provider.split(content, decoded) if endpoint.provider.split else None
    except ValueError as error:
        return _refuse(event, 400, "invalid_batch", f"the batch cannot be read: {error}")
    if bodies is not None:
        return _fan_out(event, endpoint, delivery, bodies, assessment)
    if not isinstance(decoded, dict):
        return _refuse(
            event, 400, "invalid_json", "the body is JSON but not an object: send one event as {...}"
        )
    if content is not body:
        event = replace(event, body=content, received_through=ReceivedThrough.BATCH)
    received = _identify(event, endpoint, decoded, headers, assessment.run)
    return [replace(received, error=received.error or assessment.problem)]


async def receive_event(
    endpoint: Endpoint, body: bytes, headers: dict[str, str], box: SecretBox, scripts: Scripts
) -> ReceivedEvent | Refusal:
    """The event in a delivery of one: what is rehearsed or replayed is a single event. As `receive_events`
    else."""
    received = await receive_events(endpoint, body, headers, box, scripts)
    if isinstance(received, Refusal):
        return received
    if len(received) == 1:
        return received[0]
    status = VerificationStatus.NOT_ENFORCED_UNVERIFIED
    event = _row(endpoint, body, headers, box, status, None, ReceivedThrough.WEBHOOK)
    message = f"this is a batch of {len(received)} events; send one of them at a time"
    return _refuse(event, 400, "invalid_batch", message)


def events_of_request(
    endpoint: Endpoint,
    bodies: Sequence[dict[str, Any]],
    headers: dict[str, str],
    box: SecretBox,
    assessment: Assessment,
    *,
    through: ReceivedThrough,
    batch_id: UUID | None = None,
) -> list[ReceivedEvent]:
    """The events of a request that is no delivery to the ingestion URL, after it has passed the gate."""
    batch_id = batch_id or (new_id() if len(bodies) > 1 else None)
    verdict = assessment.verdict
    row = _row(endpoint, b"", headers, box, status_of(endpoint, verdict), verdict.reason, through)
    request = replace(row, signing_secret_id=verdict.secret_id)
    events = [
        _identify(
            replace(request, id=new_id(), body=orjson.dumps(body), batch_id=batch_id),
            endpoint,
            body,
            headers,
            assessment.run,
        )
        for body in bodies
    ]
    events = [replace(each, error=each.error or assessment.problem) for each in events]
    if through is not ReceivedThrough.TRACKING:
        return events
    return [_of_library(event, endpoint, body) for event, body in zip(events, bodies, strict=True)]


def received_part(
    endpoint: Endpoint,
    body: bytes,
    headers: dict[str, str],
    box: SecretBox,
    *,
    through: ReceivedThrough,
    verification: tuple[str, str | None],
    preprocess_output: dict[str, Any] | None,
) -> ReceivedEvent:
    """An event that came in a request of its own kind, identified once more by what is stored of it.

    A script saw the request whole, as it is not stored, or no script did: what came of it is in
    `preprocess_output`.
    """
    status, reason = verification
    row = _row(endpoint, body, headers, box, VerificationStatus(status), reason, through)
    was_run = endpoint.script is not None and through is not ReceivedThrough.SOURCE_KEY
    run = ScriptRun(output=preprocess_output or {}) if was_run else None
    decoded = orjson.loads(body)
    event = _identify(row, endpoint, decoded, headers, run)
    return _of_library(event, endpoint, decoded) if through is ReceivedThrough.TRACKING else event


def refused_request(
    endpoint: Endpoint,
    body: bytes,
    headers: dict[str, str],
    rejected: Rejected,
    box: SecretBox,
    *,
    through: ReceivedThrough,
    assessment: Assessment | None = None,
) -> ReceivedEvent:
    """What to log of a request that is refused, without `assessment` before its signature, if it has one, is
    looked at."""
    status, reason = VerificationStatus.NOT_ENFORCED_UNVERIFIED, None
    if assessment is not None:
        status, reason = status_of(endpoint, assessment.verdict), assessment.verdict.reason
    return replace(
        _row(endpoint, body, headers, box, status, reason, through),
        status=EventStatus.REJECTED,
        error=rejected.message,
        body=body[:MAXIMUM_REJECTED_BODY],
    )


def _row(
    endpoint: Endpoint,
    body: bytes,
    headers: dict[str, str],
    box: SecretBox,
    status: VerificationStatus,
    reason: str | None,
    through: ReceivedThrough,
) -> ReceivedEvent:
    sensitive = sensitive_header_names(endpoint) | _telling_header_names(endpoint, headers)
    return ReceivedEvent(
        id=new_id(),
        environment=endpoint.environment,
        source_key=endpoint.source_key,
        status=EventStatus.RECEIVED,
        verification_status=status,
        verification_reason=reason,
        received_at=now(),
        body=body,
        headers={name: value for name, value in headers.items() if name not in sensitive},
        sensitive_headers=_encrypted({name: headers[name] for name in sensitive if name in headers}, box),
        received_through=through,
        traceparent=tracing.traceparent(),
    )


def _fan_out(
    event: ReceivedEvent,
    endpoint: Endpoint,
    delivery: Delivery,
    bodies: Sequence[bytes],
    assessment: Assessment,
) -> list[ReceivedEvent] | Refusal:
    """An event for each body of a delivery. The delivery's verdict is that of all: none is stored as it was
    signed."""
    if len(bodies) > MAXIMUM_EVENTS:
        message = f"the batch has {len(bodies)} events, allowed are {MAXIMUM_EVENTS}"
        return _refuse(event, 413, "batch_too_large", message)
    decoded = [orjson.loads(body) for body in bodies]
    wrong = next((position for position, each in enumerate(decoded) if not isinstance(each, dict)), None)
    if wrong is not None:
        return _refuse(event, 400, "invalid_batch", f"event {wrong} of the batch is not an object")
    batch_id = new_id()
    unsigned = _unsigned_reason(event, endpoint, delivery)
    return [
        _identify(
            replace(
                event,
                id=new_id(),
                body=body,
                received_through=ReceivedThrough.BATCH,
                batch_id=batch_id,
                verification_reason=unsigned if position and unsigned else event.verification_reason,
            ),
            endpoint,
            each,
            delivery.headers,
            assessment.run,
        )
        for position, (body, each) in enumerate(zip(bodies, decoded, strict=True))
    ]


def _unsigned_reason(event: ReceivedEvent, endpoint: Endpoint, delivery: Delivery) -> str | None:
    """What to note on the events after a batch's first, when its signature does not cover them."""
    scheme = endpoint.provider.scheme
    if event.verification_reason or endpoint.script or not isinstance(scheme, FirstEventHmac):
        return None
    if verify(replace(scheme, whole=True), delivery, endpoint.secrets).verified:
        return None
    return "the signature covers the first event of the batch only"


def sensitive_header_names(endpoint: Endpoint) -> frozenset[str]:
    """Headers that carry credentials: encrypted at rest and never shown."""
    scheme = endpoint.provider.scheme
    return CREDENTIAL_HEADERS | frozenset(scheme.secret_headers if scheme else ())


def _telling_header_names(endpoint: Endpoint, headers: dict[str, str]) -> frozenset[str]:
    """Headers in which a script finds a secret: which ones it reads only the script knows."""
    if endpoint.script is None:
        return frozenset()
    hidden = [value for value in hidden_values(endpoint) if len(value) >= MINIMUM_MASKED_LENGTH]
    return frozenset(name for name, sent in headers.items() if any(value in sent for value in hidden))


def _refuse(event: ReceivedEvent, status: int, code: str, message: str) -> Refusal:
    kept = replace(event, status=EventStatus.REJECTED, error=message, body=event.body[:MAXIMUM_REJECTED_BODY])
    return Refusal(Rejected(status, code, message), kept)


def _identify(
    event: ReceivedEvent,
    endpoint: Endpoint,
    body: dict[str, Any],
    headers: dict[str, str],
    run: ScriptRun | None = None,
) -> ReceivedEvent:
    preprocess, problem = _preprocess(endpoint, body, headers)
    if run is not None and run.output:
        # On top of the provider's own values, which its default mappings use.
        preprocess = {**(preprocess or {}), **run.output}
    decoded = DecodedEvent(body, headers, preprocess)
    event_type, unidentified = read_event_type(endpoint.event_type_path, decoded)
    ordering_keys, unordered = read_ordering_keys(endpoint, decoded)
    unmapped = event_type is None or event_type not in endpoint.mappings
    return replace(
        event,
        status=EventStatus.IGNORED if unmapped and not endpoint.start_unmapped else EventStatus.RECEIVED,
        event_type=event_type,
        idempotency_key=_idempotency_key(endpoint.idempotency_key_path, decoded),
        ordering_keys=ordering_keys,
        occurred_at=_time(_value(endpoint.timestamp_path, decoded)),
        preprocess_output=preprocess,
        error="; ".join(filter(None, (unidentified, unordered, problem))) or None,
    )


def _of_library(event: ReceivedEvent, endpoint: Endpoint, body: dict[str, Any]) -> ReceivedEvent:
    """An event that a library sent: its time by our clock, and nothing to run if its sender excludes us."""
    if event.occurred_at is not None and endpoint.timestamp_path == endpoint.provider.timestamp_path:
        sent, received = _time(body.get("sentAt")), _time(body.get("receivedAt"))
        event = replace(event, occurred_at=by_our_clock(event.occurred_at, sent, received))
    excluded = exclusion(body)
    if excluded is None:
        return event
    return replace(event, status=EventStatus.IGNORED, error="; ".join(filter(None, (event.error, excluded))))


def _preprocess(
    endpoint: Endpoint, body: dict[str, Any], headers: dict[str, str]
) -> tuple[dict[str, Any] | None, str | None]:
    """The provider's computed values, and why there are none: a body of unknown shape is still an event."""
    if endpoint.provider.preprocess is None:
        return None, None
    try:
        output = endpoint.provider.preprocess(body, headers)
        # What cannot be stored, for how deep it is, fails here and not at the inbox.
        orjson.dumps(output)
        return output, None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return (
            None,
            f"preprocess: the body is not of the shape that {endpoint.provider.name} sends ({error!r})",
        )


def read_event_type(path: str | None, event: DecodedEvent) -> tuple[str | None, str | None]:
    """The event type, or why it is not known."""
    if path is None:
        return None, "event type: event_type_path is not set"
    value = _value(path, event)
    if value is MISSING:
        return None, f"event type: {path} has no value in this event"
    if not _is_name(value):
        return None, f"event type: {path} is not a string of 1 to {MAXIMUM_NAME_LENGTH} characters"
    return value, None


def _idempotency_key(path: str | None, event: DecodedEvent) -> str | None:
    """The key when it is valid. An invalid one is dropped and the event processed without."""
    value = _value(path, event)
    return value if _is_name(value) else None


def read_ordering_keys(endpoint: Endpoint, event: DecodedEvent) -> tuple[list[str] | None, str | None]:
    """What the event is ordered by, or why a path that somebody chose gives no key. An event without keys is
    executed beside the others."""
    path = endpoint.ordering_key_path
    if path is None:
        return None, None
    value, own = _value(path, event), endpoint.provider.ordering_keys
    if path == ORDERING_KEYS_PATH and value is MISSING and own is not None:
        return _ordering_keys(_computed(own, event)) or None, None
    # A list is several keys where a provider or a script made it; in what a sender sends it is none.
    several = isinstance(value, list) and path.startswith("preprocess.")
    keys = _ordering_keys(value if several else [value])
    if keys or path == endpoint.provider.ordering_key_path:
        return keys or None, None
    found = "has no value in this event" if value is MISSING else "is not a string or a whole number"
    return None, f"ordering key: {path} {found}"


def _computed(own: OrderingKeys, event: DecodedEvent) -> Sequence[Any]:
    """The keys that a provider finds; none in a body of unknown shape."""
    try:
        return own(event.body, event.headers)
    except (LookupError, TypeError, ValueError, AttributeError):
        return ()


def _ordering_keys(values: Sequence[Any]) -> list[str]:
    """Each key once: strings that are not empty, and whole numbers by their digits."""
    found = {
        _short(str(value)): None
        for value in values[:MAXIMUM_ORDERING_KEYS]
        if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool))
    }
    return list(found)


def _short(key: str) -> str:
    """A key as an index can hold it: of a long one its digest."""
    if len(key) <= MAXIMUM_NAME_LENGTH and "\x00" not in key:
        return key
    return f"sha256:{digest_of(key).hex()}"


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAXIMUM_NAME_LENGTH and "\x00" not in value


def _value(path: str | None, event: DecodedEvent) -> Any:
    if path is None:
        return MISSING
    try:
        return resolve(parse_path(path), event)
    except PathError:
        return MISSING


def _time(value: Any) -> datetime | None:
    """A moment from seconds, milliseconds (1e12 and more) or ISO 8601 text; None for anything else."""
    try:
        moment = _moment(value)
    except (ValueError, OverflowError, OSError):
        return None
    # At the ends of the calendar another time zone has no date: Postgres would take it, and Python not read
    # it.
    return moment if moment is not None and MINYEAR < moment.year < MAXYEAR else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        moment = datetime.fromisoformat(value)
        # In UTC: Postgres takes no offset of 16 hours and more.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        number = float(value)
        return datetime.fromtimestamp(number / 1000 if number >= 1e12 else number, UTC)
    return None


def _encrypted(headers: dict[str, str], box: SecretBox) -> bytes | None:
    return box.encrypt(orjson.dumps(headers)) if headers else None
