"""The edge for the libraries of customer data platforms: Segment's tracking API, in the dialects of its
relatives.

A source's endpoint token is the write key. A batch becomes single events, accepted all or none
(`app/events/reception.py`, `app/events/inbox.py`); the answer comes after the commit.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from app.api.errors import RESPONSES, error_response
from app.api.receive import RETRY_AFTER, keep, limit_rate, note_refusal, read_body, unavailable
from app.core import exact_json
from app.core.errors import Rejected
from app.core.raw_json import Part, loads_loosely
from app.events.assessment import Assessment, assess_tracking, refusal
from app.events.reception import ReceivedEvent, events_of_request, refused_request
from app.events.tracking import events_of
from app.models.status import ReceivedThrough
from app.models.types import now
from app.providers.base import Tracking
from app.providers.registry import providers
from app.providers.verification import Delivery
from app.runtime.resources import Runtime
from app.scripting.turns import Busy
from app.sources.live import Endpoint

router = APIRouter(tags=["Tracking"])

# What a library's path says of the event: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
# Segment's browser library shortens it: https://github.com/segmentio/analytics-next, packages/browser
TYPES = {
    "identify": "i",
    "track": "t",
    "page": "p",
    "screen": "s",
    "group": "g",
    "alias": "a",
    "batch": "b",
    "import": "import",
}
_TYPE_OF = {name: kind for kind, short in TYPES.items() for name in (kind, short)}
PATHS = (
    *(f"/v1/{name}" for name in _TYPE_OF),
    *(f"/api/s/{kind}" for kind in TYPES),
    *(f"/api/s/s2s/{kind}" for kind in TYPES),
    # RudderStack's browser library with useBeacon, which cannot set headers.
    *(f"/beacon/v1/{kind}" for kind in TYPES),
)
LARGEST_BATCH = max(each.tracking.maximum_batch for each in providers().values() if each.tracking)
# Of a request whose headers name no source: a library that puts its key into the body sends a page's events.
LARGEST_UNKNOWN = 512 * 1024
ALLOWED_HEADERS = "authorization, content-type, x-write-key, x-retry-count, anonymousid, sentat"


async def track(request: Request) -> Response:
    """Events of a source, sent by a library of Segment, RudderStack or Jitsu.

    The write key is the last part of the source's URL: as user of Basic authorization, in the header
    X-Write-Key, or as `writeKey` in the body or in the query. The body is JSON whatever the Content-Type
    says, and may be gzipped. Answers 200 once all of the events are durable; their actions run afterwards.
    """
    try:
        await _accept(request)
    except Rejected as rejected:
        headers = {} if rejected.retry_after is None else {"retry-after": str(rejected.retry_after)}
        answer = error_response(rejected.status, rejected.code, rejected.message, headers=headers)
    except ClientDisconnect:
        return Response(status_code=400)
    else:
        answer = JSONResponse({"success": True})
    answer.headers.update(_cors(request))
    return answer


async def preflight(request: Request) -> Response:
    """What browsers ask before they let a page of another origin send an event.

    Also a public page to a Doorbell in a private network: the write key lets in, wherever the page is from.
    """
    private = request.headers.get("access-control-request-private-network", "").lower() == "true"
    return Response(
        status_code=204,
        headers={
            **_cors(request),
            **({"access-control-allow-private-network": "true"} if private else {}),
            "access-control-allow-methods": "POST, OPTIONS",
            "access-control-allow-headers": request.headers.get(
                "access-control-request-headers", ALLOWED_HEADERS
            ),
            "access-control-max-age": "86400",
        },
    )


for _path in PATHS:
    _shown = _path in (
        "/v1/identify",
        "/v1/track",
        "/v1/page",
        "/v1/screen",
        "/v1/group",
        "/v1/alias",
        "/v1/batch",
    )
    router.add_api_route(
        _path,
        track,
        methods=["POST"],
        include_in_schema=_shown,
        summary=f"Send {_TYPE_OF[_path.rsplit('/', 1)[1]]} events",
        responses={
            200: {"content": {"application/json": {"example": {"success": True}}}},
            **{status: RESPONSES[status] for status in (400, 401, 429, 503)},
        },
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
        },
    )
    router.add_api_route(f"{_path}/", track, methods=["POST"], include_in_schema=False)
    for _each in (_path, f"{_path}/"):
        router.add_api_route(_each, preflight, methods=["OPTIONS"], include_in_schema=False)


def _cors(request: Request) -> dict[str, str]:
    """Any page may send: what lets it in is the write key, and nothing here reads cookies."""
    origin = request.headers.get("origin")
    if origin is None:
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "Retry-After",
        "vary": "Origin",
    }


async def _accept(request: Request) -> None:
    """Make the events of a request durable.

    Raises:
        Rejected: they are not; with the answer.
    """
    runtime: Runtime = request.app.state.runtime
    known = _find(runtime, _keys_beside_the_body(request))
    if known is None and not _may_name_its_key(request.headers):
        raise _unknown(runtime)
    body = await _read(request, LARGEST_BATCH if known else LARGEST_UNKNOWN)
    decoded = _decode(body)
    found = known or _find(runtime, _body_keys(decoded))
    if found is None:
        raise _unknown(runtime)
    endpoint, limits = found
    limit_rate(request, endpoint)
    delivery = Delivery(body, dict(request.headers), now())
    assessment: Assessment | None = None
    try:
        _check_size(body, limits)
        kind = _TYPE_OF[request.url.path.rstrip("/").rsplit("/", 1)[1]]
        events, unfit = _events_of(decoded, kind, limits)
        assessment = await assess_tracking(
            endpoint, delivery, runtime.scripts, [each.body for each in events if each.problem is None]
        )
        _check_verified(endpoint, assessment)
        if unfit is not None:
            raise unfit
    except Busy as error:
        raise unavailable(error) from error
    except Rejected as rejected:
        await note_refusal(request, endpoint, _refused(runtime, endpoint, delivery, rejected, assessment))
        raise
    accepted = events_of_request(
        endpoint, events, delivery.headers, runtime.box, assessment, through=ReceivedThrough.TRACKING
    )
    await keep(request, accepted)
    request.app.state.secret_uses.note(assessment.verdict.secret_id, delivery.received_at)


def _events_of(decoded: Any, kind: str, limits: Tracking) -> tuple[list[Part], Rejected | None]:
    """The events of a request, or what is wrong with it: who is not verified does not learn that."""
    try:
        return events_of(decoded, kind, limits), None
    except Rejected as rejected:
        return [], rejected


def _refused(
    runtime: Runtime,
    endpoint: Endpoint,
    delivery: Delivery,
    rejected: Rejected,
    assessment: Assessment | None,
) -> ReceivedEvent:
    return refused_request(
        endpoint,
        delivery.body,
        delivery.headers,
        rejected,
        runtime.box,
        through=ReceivedThrough.TRACKING,
        assessment=assessment,
    )


async def _read(request: Request, limit: int) -> bytes:
    try:
        return await read_body(request, limit)
    except Rejected as rejected:
        # Segment's status for what is too large; its libraries try others again.
        raise Rejected(400, rejected.code, rejected.message) from None


def _decode(body: bytes) -> Any:
    """The body as JSON, None when it is none: who sent it is told apart first."""
    try:
        return exact_json.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return loads_loosely(body)
    except ValueError:
        return None


def _find(runtime: Runtime, keys: Iterable[str]) -> tuple[Endpoint, Tracking] | None:
    """The source that one of these write keys belongs to, and the limits of its libraries."""
    for key in keys:
        endpoint = runtime.configuration.by_token(key)
        if endpoint is not None and endpoint.provider.tracking is not None:
            return endpoint, endpoint.provider.tracking
    return None


def _unknown(runtime: Runtime) -> Rejected:
    if not runtime.configuration.loaded:
        return Rejected(503, "service_unavailable", "the database is not available", retry_after=RETRY_AFTER)
    return Rejected(
        401,
        "invalid_write_key",
        "no source has this write key: it is the last part of the URL of a Segment, RudderStack, Jitsu or "
        "Freshpaint source",
    )


def _may_name_its_key(headers: Any) -> bool:
    """Whether the write key may be in the body: libraries send it there when no header has one."""
    return "x-write-key" not in headers


def _keys_beside_the_body(request: Request) -> Iterator[str]:
    """Every write key in the headers and the query, the surest first. Jitsu's are `id:secret`."""
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        with suppress(ValueError, binascii.Error):
            yield base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[0]
    for key in (request.headers.get("x-write-key"), request.query_params.get("writeKey")):
        if key is not None:
            yield from (key, *key.split(":"))


def _body_keys(body: Any) -> Iterator[str]:
    """Every write key in a body. Jitsu's are masked there."""
    key = body.get("writeKey") if isinstance(body, dict) else None
    if isinstance(key, str):
        yield from (key, *key.split(":"))


def _check_size(body: bytes, limits: Tracking) -> None:
    if len(body) > limits.maximum_batch:
        raise Rejected(
            400, "body_too_large", f"the body has {len(body)} bytes, allowed are {limits.maximum_batch}"
        )


def _check_verified(endpoint: Endpoint, assessment: Assessment) -> None:
    """Refuse an unverified request where the source enforces verification. A body that no script could read
    is refused for what it is."""
    if not assessment.malformed and refusal(endpoint, assessment):
        raise Rejected(
            401,
            "verification_enforced",
            f"this source enforces verification, and this request is not verified: {assessment.told}. "
            "Create another source for libraries, without a signing secret, or turn enforce_verification off",
        )
