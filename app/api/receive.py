"""The edge: where services ring. Reads the delivery, lets `app/events/reception.py` judge it, and answers.

A 2xx is sent after the event's commit (`app/events/inbox.py`) and never before.
"""

import logging
import math
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.requests import ClientDisconnect

from app.api.errors import RESPONSES
from app.core import exact_json
from app.core.errors import Rejected
from app.database.batching import QueueFull, is_about_content
from app.events.reception import ReceivedEvent, Refusal, receive_events, refused_request
from app.events.scripted_answers import scripted_answer
from app.models.status import EventStatus, ReceivedThrough
from app.models.types import now
from app.providers.base import Provider
from app.providers.handshakes import Probe, answer_of
from app.runtime.resources import Runtime
from app.scripting.turns import Busy
from app.sources.live import Endpoint

logger = logging.getLogger(__name__)


class PlainRoute(APIRoute):
    """A route whose function takes its path's parameters and the request, and answers by itself: nothing for
    FastAPI to resolve, which costs as much as judging the delivery."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            answer: Response = await self.endpoint(**request.path_params, request=request)
            return answer

        return handle


router = APIRouter(tags=["Ingestion"], route_class=PlainRoute)

RETRY_AFTER = 5
_RATE_LIMITED = "more events than this source's rate_limit_per_second allows; none of this one was kept"
# What gzip adds at most to what it cannot make smaller, with room to spare.
GZIP_OVERHEAD = 64 * 1024
# Why an event is not in the log: too many wait, Postgres is out, or it holds what cannot be written.
NOT_KEPT = (QueueFull, DBAPIError, PoolTimeout, OSError, ValueError, TypeError)
# Refused deliveries that are logged, for each source and environment, in a minute.
REFUSALS_PER_MINUTE = 120


# A redirect would lose the event with senders that follow none.
@router.post("/integrations/receive/{token}/", include_in_schema=False)
@router.post(
    "/integrations/receive/{token}",
    summary="Receive an event",
    responses={
        200: {
            "content": {
                "application/json": {
                    "example": {"success": True, "id": "01a20df1-e8fc-72f9-a988-19f172a42afd"}
                }
            }
        },
        204: {"description": "Accepted, for sources of the kind HTTP."},
        **{status: RESPONSES[status] for status in (400, 401, 404, 413, 429, 503)},
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    },
)
async def receive(token: str, request: Request) -> Response:
    """One event for the source and environment that the token belongs to, as its service sends it, or a batch
    of them from a service that sends batches.

    Answers 200 once the event is durable (204 for sources of the kind HTTP); its actions run afterwards. The
    body is JSON whatever the Content-Type says, and may be gzipped.
    """
    runtime: Runtime = request.app.state.runtime
    endpoint = runtime.configuration.by_token(token)
    if endpoint is None:
        raise _unknown(runtime)
    limit_rate(request, endpoint)
    try:
        body = await read_body(request, runtime.settings.max_body_bytes)
    except ClientDisconnect:
        return Response(status_code=400)
    except Rejected as rejected:
        unread = refused_request(
            endpoint, b"", dict(request.headers), rejected, runtime.box, through=ReceivedThrough.WEBHOOK
        )
        await note_refusal(request, endpoint, unread)
        raise
    events = await take_in(request, endpoint, body, dict(request.headers))
    return _answer(endpoint, request, events) or _accepted(endpoint.provider, events)


@router.api_route("/integrations/receive/{token}/", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/integrations/receive/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def probe(token: str, request: Request) -> Response:
    """What services ask a URL before they send to it, where the source's provider declares the handshake."""
    runtime: Runtime = request.app.state.runtime
    endpoint = runtime.configuration.by_token(token)
    if endpoint is None:
        raise _unknown(runtime)
    limit_rate(request, endpoint)
    asked = Probe("HEAD" if request.method == "HEAD" else "GET", request.query_params)
    text = answer_of(endpoint.provider.handshakes, asked, _usable_secrets(endpoint))
    if text is None:
        message = (
            f"{request.method} is none of the handshakes that a source of {endpoint.provider.name} answers: "
            "send events by POST"
        )
        raise Rejected(405, "method_not_allowed", message)
    return PlainTextResponse(text)


def _answer(endpoint: Endpoint, request: Request, events: list[ReceivedEvent]) -> Response | None:
    """What the sender of a verified event wants to hear, by the source's script or as a handshake of its
    provider."""
    if len(events) != 1:
        return None
    if endpoint.script is not None and (said := scripted_answer(events[0].preprocess_output)):
        return Response(said.body, said.status, headers=said.headers)
    if not endpoint.provider.handshakes:
        return None
    asked = Probe("POST", request.query_params, exact_json.loads(events[0].body))
    text = answer_of(endpoint.provider.handshakes, asked, _usable_secrets(endpoint))
    return None if text is None else PlainTextResponse(text)


def _usable_secrets(endpoint: Endpoint) -> list[str]:
    moment = now()
    return [each.value for each in endpoint.secrets if each.value and each.valid_at(moment)]


async def take_in(
    request: Request, endpoint: Endpoint, body: bytes, headers: dict[str, str]
) -> list[ReceivedEvent]:
    """Judge a delivery and store its events; they are durable when this returns.

    Raises:
        Rejected: it is refused, which is logged, or cannot be stored now.
    """
    runtime: Runtime = request.app.state.runtime
    try:
        received = await receive_events(endpoint, body, headers, runtime.box, runtime.scripts)
    except Busy as error:
        raise unavailable(error) from error
    if isinstance(received, Refusal):
        await note_refusal(request, endpoint, received.event)
        raise received.rejected
    await keep(request, received)
    if received:
        request.app.state.secret_uses.note(received[0].signing_secret_id, received[0].received_at)
    return received


def _accepted(provider: Provider, events: list[ReceivedEvent]) -> Response:
    """The answer, with the ids of all events when they came as a batch, and what was rejected of it."""
    if provider.success_status == 204:
        return Response(status_code=204)
    ids = [str(each.id) for each in events if each.status is not EventStatus.REJECTED]
    if len(ids) == 1 and events[0].batch_id is None:
        return Response(b'{"success":true,"id":"%s"}' % ids[0].encode(), media_type="application/json")
    answer: dict[str, Any] = {"success": True, "id": ids[0] if ids else None, "ids": ids}
    rejected = [
        {"position": position, "id": str(each.id), "message": each.error}
        for position, each in enumerate(events)
        if each.status is EventStatus.REJECTED
    ]
    if rejected:
        answer["rejected"] = rejected
    return Response(orjson.dumps(answer), media_type="application/json")


def limit_rate(request: Request, endpoint: Endpoint) -> None:
    """Count a request of a source.

    Raises:
        Rejected: 429, it has made as many as it may.
    """
    request.state.endpoint = endpoint
    if wait := request.app.state.rate_limits.spend(endpoint):
        raise Rejected(429, "rate_limited", _RATE_LIMITED, retry_after=math.ceil(wait))


async def read_body(request: Request, limit: int) -> bytes:
    """The body, inflated when gzipped, refused as soon as it passes the limit."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise Rejected(
            400, "invalid_encoding", f"content-encoding {encoding!r} is not supported: send gzip or none"
        )
    inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    chunks = bytearray()
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        try:
            chunks += inflate.decompress(chunk, limit + 1 - len(chunks)) if inflate else chunk
        except zlib.error as error:
            raise Rejected(400, "invalid_encoding", f"the body is not gzip: {error}") from error
        # What was sent counts too: compressed data can go on for ever and come to nothing.
        if len(chunks) > limit or received > limit + GZIP_OVERHEAD:
            raise Rejected(413, "body_too_large", f"the body is larger than {limit} bytes")
        if inflate and inflate.unused_data:
            raise Rejected(400, "invalid_encoding", "the body goes on after the end of its gzipped data")
    if inflate and not inflate.eof:
        raise Rejected(400, "invalid_encoding", "the gzipped body ends too early")
    return bytes(chunks)


def _unknown(runtime: Runtime) -> Rejected:
    if not runtime.configuration.loaded:
        return Rejected(503, "service_unavailable", "the database is not available", retry_after=RETRY_AFTER)
    return Rejected(
        404, "endpoint_missing", "no source has this URL: check the token, or whether it was rotated"
    )


async def keep(request: Request, events: Sequence[ReceivedEvent]) -> None:
    """Make the events of a request durable, all or none.

    Raises:
        Rejected: 400, one of them holds a value that Postgres cannot store; 503, Postgres does not write now,
            whatever the reason.
    """
    try:
        await request.app.state.inbox.accept_all(events)
    except NOT_KEPT as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> Rejected:
    if is_about_content(error):
        logger.error("event_not_storable", extra={"error": type(error).__name__})
        return Rejected(400, "invalid_event", "the event holds a value that cannot be stored")
    logger.warning("event_not_accepted", extra={"error": type(error).__name__})
    busy = isinstance(error, QueueFull | Busy)
    message = "too many events are waiting" if busy else "the database is not available"
    return Rejected(503, "service_unavailable", message, retry_after=RETRY_AFTER)


class RefusalBudget:
    """How many refused deliveries of a source still go into the log in this minute, which `clock` tells, in
    seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minute = 0
        self._spent: defaultdict[tuple[str, str], int] = defaultdict(int)

    def spend(self, key: tuple[str, str]) -> bool:
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute, self._spent = minute, defaultdict(int)
        self._spent[key] += 1
        return self._spent[key] <= REFUSALS_PER_MINUTE


async def note_refusal(request: Request, endpoint: Endpoint, event: ReceivedEvent) -> None:
    """Put a refused delivery into the logs, a bounded number of them; the refusal does not depend on it."""
    if not request.app.state.refusal_budget.spend((endpoint.environment, endpoint.source_key)):
        return
    logger.info(
        "event_rejected",
        extra={
            "event_id": str(event.id),
            "environment": event.environment,
            "source": event.source_key,
            "verification": event.verification_status,
        },
    )
    try:
        await request.app.state.inbox.accept(event)
    except NOT_KEPT as error:
        logger.warning("refusal_not_logged", extra={"error": type(error).__name__})
