"""Stage 1 of an event, without HTTP: from the bytes received to a row of the event log.

Verifies the bytes, decodes them, and identifies event type, idempotency key and time. A delivery of many
events becomes as many rows. The result is accepted by `app/events/inbox.py`; a refused delivery becomes a row
too, with its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from app.actions.paths import MISSING, DecodedEvent, Path, PathError, parse_path, resolve
from app.core import exact_json
from app.core.errors import Rejected
from app.core.identifiers import identifier_of, may_be_rounded
from app.core.moments import moment_of
from app.core.raw_json import Part, is_too_deep, loads_loosely, part_of, too_deep
from app.core.secrets import SecretBox
from app.events.assessment import Assessment, assess, hidden_values, refusal, status_of
from app.events.bodies import as_json
from app.events.library_calls import by_our_clock, exclusion
from app.models.status import EventStatus, Origin, ReceivedThrough, ReplayMappings, VerificationStatus
from app.models.types import digest_of, new_id, now
from app.providers.base import ORDERING_KEYS_PATH, OrderingKeys, Provider, Split
from app.providers.verification import Delivery, FirstEventHmac, StandardWebhook, Verdict, verify
from app.runtime import tracing
from app.scripting.numbers import rounded_in_javascript
from app.scripting.pool import MINIMUM_MASKED_LENGTH, ScriptRun, Scripts
from app.sources.live import Endpoint

MAXIMUM_NAME_LENGTH = 255
# Of one event: as many as a call has recipients.
MAXIMUM_ORDERING_KEYS = 1000
# A refused body is kept for debugging, not for processing.
MAXIMUM_REJECTED_BODY = 16 * 1024
# Segment's largest batch.
MAXIMUM_EVENTS = 4000
SCRIPT_FAILED = "the source's script failed"
UNREAD = "the request was refused before its signature was checked"
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
    takes_key: bool = False


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
        Busy: the source has a script, and too many wait already.
    """
    received_at = now()
    delivery = Delivery(body, headers, received_at)
    # A script judges the events, so it needs to know them; else who is not verified is not read.
    content = _read(endpoint, body, headers) if endpoint.script else None
    assessment = await assess(endpoint, delivery, scripts, content.bodies if content else ())
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
        return _refuse(event, rejected)
    content = content or _read(endpoint, body, headers)
    if content.problem is not None:
        return _refuse(event, content.problem)
    if content.parts is not None:
        return _fan_out(event, endpoint, delivery, content.parts, assessment)
    if content.converted is not None:
        event = replace(event, body=content.converted, received_through=ReceivedThrough.BATCH)
    return [_identify(event, endpoint, content.decoded, headers, assessment.run)]


@dataclass(frozen=True)
class Content:
    """What a delivery holds: one event, or `parts`, or nothing that can be taken. `converted` is the event as
    JSON where it was sent otherwise."""

    decoded: dict[str, Any] = field(default_factory=dict)
    parts: list[Part] | None = None
    problem: Rejected | None = None
    converted: bytes | None = None

    @property
    def bodies(self) -> list[bytes]:
        """The events of a delivery of several that can be taken."""
        return [each.body for each in self.parts or () if each.problem is None]


def _read(endpoint: Endpoint, sent: bytes, headers: dict[str, str]) -> Content:
    """Decode a delivery."""
    split, body = endpoint.provider.split, as_json(sent, headers)
    try:
        decoded = exact_json.loads(body)
    except orjson.JSONDecodeError as error:
        rejected = Rejected(400, "invalid_json", f"the body is not JSON: {error}")
        return _loosely_read(split, body, rejected) if split else Content(problem=rejected)
    try:
        bodies = split(body, decoded) if split else None
    except ValueError as error:
        return Content(problem=Rejected(400, "invalid_batch", f"the batch cannot be read: {error}"))
    if bodies is not None:
        return _parts(bodies)
    if is_too_deep(body, decoded):
        return Content(problem=Rejected(400, "json_too_deep", too_deep("the body")))
    if not isinstance(decoded, dict):
        message = "the body is JSON but not an object: send one event as {...}"
        return Content(problem=Rejected(400, "invalid_json", message))
    return Content(decoded, converted=None if body is sent else body)


def _loosely_read(split: Split, body: bytes, rejected: Rejected) -> Content:
    """A batch of which a part is not JSON: the other parts are events all the same."""
    try:
        bodies = split(body, loads_loosely(body))
    except ValueError:
        return Content(problem=rejected)
    return Content(problem=rejected) if bodies is None else _parts(bodies)


def _parts(bodies: Sequence[bytes]) -> Content:
    if len(bodies) > MAXIMUM_EVENTS:
        message = f"the batch has {len(bodies)} events, allowed are {MAXIMUM_EVENTS}"
        return Content(problem=Rejected(413, "batch_too_large", message))
    parts = [part_of(body, f"event {position} of the batch") for position, body in enumerate(bodies)]
    return Content(parts=parts, problem=none_taken(parts) if parts else None)


def none_taken(parts: Sequence[Part]) -> Rejected | None:
    """Why a request is refused as a whole: none of its events can be taken."""
    return None if any(each.problem is None for each in parts) else parts[0].problem


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
    return _refuse(event, Rejected(400, "invalid_batch", message))


def events_of_request(
    endpoint: Endpoint,
    parts: Sequence[Part],
    headers: dict[str, str],
    box: SecretBox,
    assessment: Assessment,
    *,
    through: ReceivedThrough,
    batch_id: UUID | None = None,
) -> list[ReceivedEvent]:
    """The events of a request that is no delivery to the ingestion URL, after it has passed the gate."""
    batch_id = batch_id or (new_id() if len(parts) > 1 else None)
    verdict = assessment.verdict
    row = _row(endpoint, b"", headers, box, status_of(endpoint, verdict), verdict.reason, through)
    request = replace(row, signing_secret_id=verdict.secret_id, batch_id=batch_id)
    return _events(request, endpoint, headers, parts, assessment)


def _events(
    request: ReceivedEvent,
    endpoint: Endpoint,
    headers: dict[str, str],
    parts: Sequence[Part],
    assessment: Assessment,
) -> list[ReceivedEvent]:
    """A row for each part of a request: an event, or what is wrong with the part."""
    events, taken = [], 0
    for part in parts:
        event = replace(request, id=new_id(), body=part.body)
        if part.problem is not None:
            events.append(_rejected(event, part.problem))
            continue
        event = _identify(event, endpoint, part.decoded, headers, assessment.run_of(taken))
        is_of_library = event.received_through is ReceivedThrough.TRACKING
        events.append(_of_library(event, endpoint, part.decoded) if is_of_library else event)
        taken += 1
    return events


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

    A script saw the request as it came, which is not stored, or no script did: what came of it is in
    `preprocess_output`.
    """
    status, reason = verification
    row = _row(endpoint, body, headers, box, VerificationStatus(status), reason, through)
    was_run = endpoint.script is not None and through is not ReceivedThrough.SOURCE_KEY
    run = ScriptRun(output=preprocess_output or {}) if was_run else None
    decoded = exact_json.loads(body)
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
    verdict = assessment.verdict if assessment else Verdict(None, UNREAD)
    status = status_of(endpoint, verdict)
    return replace(
        _row(endpoint, body, headers, box, status, verdict.reason, through),
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
    parts: Sequence[Part],
    assessment: Assessment,
) -> list[ReceivedEvent]:
    """An event for each part of a delivery. The delivery's verdict is that of all: none is stored as it was
    signed."""
    request = replace(event, received_through=ReceivedThrough.BATCH, batch_id=new_id())
    events = _events(request, endpoint, delivery.headers, parts, assessment)
    unsigned = _unsigned_reason(event, endpoint, delivery)
    if unsigned is None:
        return events
    return [*events[:1], *(replace(each, verification_reason=unsigned) for each in events[1:])]


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


def _refuse(event: ReceivedEvent, rejected: Rejected) -> Refusal:
    return Refusal(rejected, _rejected(event, rejected))


def _rejected(event: ReceivedEvent, why: Rejected) -> ReceivedEvent:
    body = event.body[:MAXIMUM_REJECTED_BODY]
    return replace(event, status=EventStatus.REJECTED, error=why.message, body=body)


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
    key, keyless = _idempotency_key(_key_path(endpoint, headers), decoded, endpoint.provider)
    moment, timeless = _occurred_at(endpoint.timestamp_path, decoded, endpoint.provider)
    notes = [] if run is None else [_script_problem(run), rounded_in_javascript(event.body, body)]
    unmapped = event_type is None or event_type not in endpoint.mappings
    return replace(
        event,
        status=EventStatus.IGNORED if unmapped and not endpoint.start_unmapped else EventStatus.RECEIVED,
        event_type=event_type,
        idempotency_key=key,
        ordering_keys=ordering_keys,
        occurred_at=moment,
        preprocess_output=preprocess,
        error="; ".join(filter(None, (unidentified, keyless, unordered, timeless, problem, *notes))) or None,
    )


def _script_problem(run: ScriptRun) -> str | None:
    """Why there is nothing of the script."""
    return None if run.error is None else f"{SCRIPT_FAILED}: {run.error}"


def _of_library(event: ReceivedEvent, endpoint: Endpoint, body: dict[str, Any]) -> ReceivedEvent:
    """An event that a library sent: its time by our clock, and nothing to run if its sender excludes us."""
    if event.occurred_at is not None and endpoint.timestamp_path == endpoint.provider.timestamp_path:
        sent, received = moment_of(body.get("sentAt")), moment_of(body.get("receivedAt"))
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
        exact_json.dumps(output)
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


def _key_path(endpoint: Endpoint, headers: dict[str, str]) -> str | None:
    """Where the idempotency key is. Where that is the id of a signed message, it is the header that the
    signature covers: the same service sends `webhook-id` or `svix-id`."""
    path, scheme = endpoint.idempotency_key_path, endpoint.provider.scheme
    if path is None or not isinstance(scheme, StandardWebhook):
        return path
    parsed = _parsed(path)
    is_id = (
        parsed
        and parsed.root == "headers"
        and [each.name for each in parsed.keys] in ([name] for name in scheme.id_headers)
    )
    signed = scheme.id_header(headers) if is_id else None
    return f"headers.{signed}" if signed else path


def _idempotency_key(
    path: str | None, event: DecodedEvent, provider: Provider
) -> tuple[str | None, str | None]:
    """The key, or why there is none though its path is set: the event is processed without. The reason does
    not repeat the value."""
    if path is None:
        return None, None
    value = _value(path, event)
    key = None if value is MISSING else identifier_of(value)
    if key is not None and _is_name(key):
        return key, None
    if value in (MISSING, None) and path in provider.optional_paths:
        return None, None
    return None, f"idempotency key: {path} {_unfit_key(value, key)}"


def _unfit_key(value: Any, key: str | None) -> str:
    if value is MISSING:
        return "has no value in this event"
    if value is None:
        return "is null in this event"
    if value == "":
        return "is empty in this event"
    if key is None:
        rounded = "is a number too large to keep its digits; send it as a string"
        return rounded if may_be_rounded(value) else "is not a string or a whole number"
    if len(key) > MAXIMUM_NAME_LENGTH:
        return f"is longer than {MAXIMUM_NAME_LENGTH} characters"
    return "holds the character U+0000"


def _occurred_at(
    path: str | None, event: DecodedEvent, provider: Provider
) -> tuple[datetime | None, str | None]:
    """The time that the event names, or why there is none though its path is set."""
    if path is None:
        return None, None
    value = _value(path, event)
    moment = None if value is MISSING else moment_of(value)
    if moment is not None or (value in (MISSING, None) and path in provider.optional_paths):
        return moment, None
    if value is MISSING or value is None:
        return None, f"time: {path} {'has no value' if value is MISSING else 'is null'} in this event"
    return None, f"time: {path} is not a time in seconds, in milliseconds or in ISO 8601"


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
    parsed = None if path is None else _parsed(path)
    return MISSING if parsed is None else resolve(parsed, event)


def _parsed(path: str) -> Path | None:
    try:
        return parse_path(path)
    except PathError:
        return None


def _encrypted(headers: dict[str, str], box: SecretBox) -> bytes | None:
    return box.encrypt(exact_json.dumps(headers)) if headers else None
