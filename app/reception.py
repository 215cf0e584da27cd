"""Stage 1 of an event, without HTTP: from the bytes received to a row of the event log.

Verifies the bytes, decodes them, and identifies event type, idempotency key and time. The result is accepted
by `app/inbox.py`; a refused delivery becomes a row too, with its reason.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from app.config import Endpoint
from app.errors import Rejected
from app.mapping import MISSING, DecodedEvent, PathError, parse_path, resolve
from app.models.status import EventStatus
from app.models.types import new_id, now
from app.secrets import SecretBox
from app.verification import Delivery, verify

MAXIMUM_NAME_LENGTH = 255
# A refused body is kept for debugging, not for processing.
MAXIMUM_REJECTED_BODY = 16 * 1024
CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})


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
    occurred_at: datetime | None = None
    preprocess_output: dict[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Refusal:
    """A delivery that is not accepted: what to answer, and what to log."""

    rejected: Rejected
    event: ReceivedEvent


def receive_event(
    endpoint: Endpoint, body: bytes, headers: dict[str, str], box: SecretBox
) -> ReceivedEvent | Refusal:
    """The event in a delivery, or why there is none. Never raises for what a sender can send."""
    received_at = now()
    verdict = verify(endpoint.provider.scheme, Delivery(body, headers, received_at), endpoint.secrets)
    sensitive = sensitive_header_names(endpoint)
    event = ReceivedEvent(
        id=new_id(),
        environment=endpoint.environment,
        source_key=endpoint.source_key,
        status=EventStatus.RECEIVED,
        verification_status=verdict.status(enforced=endpoint.enforce_verification),
        verification_reason=None if verdict.verified else verdict.reason,
        received_at=received_at,
        body=body,
        headers={name: value for name, value in headers.items() if name not in sensitive},
        sensitive_headers=_encrypted({name: headers[name] for name in sensitive if name in headers}, box),
    )
    if endpoint.enforce_verification and not verdict.verified:
        return _refuse(
            event, 401, "verification_failed", f"the event could not be verified: {verdict.reason}"
        )
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _refuse(event, 400, "invalid_json", f"the body is not JSON: {error}")
    if not isinstance(decoded, dict):
        return _refuse(
            event, 400, "invalid_json", "the body is JSON but not an object: send one event as {...}"
        )
    return _identify(event, endpoint, decoded, headers)


def sensitive_header_names(endpoint: Endpoint) -> frozenset[str]:
    """Headers that carry credentials: encrypted at rest and never shown."""
    scheme = endpoint.provider.scheme
    return CREDENTIAL_HEADERS | frozenset(scheme.secret_headers if scheme else ())


def _refuse(event: ReceivedEvent, status: int, code: str, message: str) -> Refusal:
    kept = replace(event, status=EventStatus.REJECTED, error=message, body=event.body[:MAXIMUM_REJECTED_BODY])
    return Refusal(Rejected(status, code, message), kept)


def _identify(
    event: ReceivedEvent, endpoint: Endpoint, body: dict[str, Any], headers: dict[str, str]
) -> ReceivedEvent:
    preprocess, problem = _preprocess(endpoint, body, headers)
    decoded = DecodedEvent(body, headers, preprocess)
    event_type, unidentified = _event_type(endpoint.event_type_path, decoded)
    unmapped = event_type is None or event_type not in endpoint.mappings
    return replace(
        event,
        status=EventStatus.IGNORED if unmapped and not endpoint.start_unmapped else EventStatus.RECEIVED,
        event_type=event_type,
        idempotency_key=_idempotency_key(endpoint.idempotency_key_path, decoded),
        occurred_at=_time(_value(endpoint.timestamp_path, decoded)),
        preprocess_output=preprocess,
        error="; ".join(filter(None, (unidentified, problem))) or None,
    )


def _preprocess(
    endpoint: Endpoint, body: dict[str, Any], headers: dict[str, str]
) -> tuple[dict[str, Any] | None, str | None]:
    """The provider's computed values, and why there are none: a body of unknown shape is still an event."""
    if endpoint.provider.preprocess is None:
        return None, None
    try:
        return endpoint.provider.preprocess(body, headers), None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return (
            None,
            f"preprocess: the body is not of the shape that {endpoint.provider.name} sends ({error!r})",
        )


def _event_type(path: str | None, event: DecodedEvent) -> tuple[str | None, str | None]:
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
        if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            number = float(value)
            return datetime.fromtimestamp(number / 1000 if number >= 1e12 else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _encrypted(headers: dict[str, str], box: SecretBox) -> bytes | None:
    return box.encrypt(orjson.dumps(headers)) if headers else None
