"""Calls in Knock's shapes made with a source key: each becomes events of that source.

With an environment's own key (`sk_...`) the same paths are the directory (`app/api/directory`). The bearer's
kind decides before routing, so that neither knows the other. The answer has Knock's shape and comes after the
commit; the actions run afterwards against the environment's destination. Which calls there are:
`app/api/reverse_etl/knock_calls.py`.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import ValidationError
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import errors
from app.api.directory import answers
from app.api.directory.answers import Answer
from app.api.directory.parameters import in_query
from app.api.directory.triggers import digest_of_request
from app.api.receive import keep, limit_rate
from app.api.request import DirectoryRoute
from app.api.reverse_etl.knock_calls import CALLS, ID, Arguments, Call, invalid, operation
from app.core import exact_json
from app.core.errors import FieldError, Rejected, RequestError
from app.core.raw_json import Part
from app.directory.idempotency import MAXIMUM_KEY_LENGTH, claim_key, release_key
from app.directory.recipients import Json
from app.events.assessment import assess_source_call
from app.events.reception import ReceivedEvent, events_of_request
from app.logs.bulk_calls import WITHOUT_ITEMS, progress
from app.models.directory import USERS
from app.models.status import EventStatus, ReceivedThrough
from app.models.types import digest_of, new_id
from app.runtime.resources import Runtime
from app.sources.keys import SOURCE_KEY_PREFIX
from app.sources.live import Endpoint

MEMBERS = "members"


class SourceKeys:
    """Sends requests with a source key to the application that makes events of them, all others on."""

    def __init__(self, app: ASGIApp, calls: ASGIApp) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        made_with_source_key = scope["type"] == "http" and any(
            name == b"authorization" and _bearer(value).startswith(SOURCE_KEY_PREFIX)
            for name, value in scope["headers"]
        )
        await (self._calls if made_with_source_key else self._app)(scope, receive, send)


def _bearer(authorization: bytes) -> str:
    kind, _, credentials = authorization.decode("latin-1").partition(" ")
    return credentials.strip() if kind.lower() == "bearer" else ""


def create_source_calls_app(state: State, *routers: APIRouter) -> FastAPI:
    """The application for requests with a source key. It shares the state of the public one."""
    app = FastAPI(openapi_url=None)
    app.state = state
    for each in (router, *routers, refusals):
        app.include_router(each)
    errors.install(app)
    return app


def calling_source(request: Request) -> Endpoint:
    """The source and environment of the key in a request.

    Raises:
        RequestError: 401, the key opens nothing.
    """
    runtime: Runtime = request.app.state.runtime
    key = _bearer(request.headers["authorization"].encode("latin-1"))
    endpoint = runtime.configuration.by_source_key(key)
    if endpoint is None:
        raise RequestError(401, "api_key_invalid", "The source key is unknown or was revoked")
    return endpoint


async def accept_calls(
    request: Request, endpoint: Endpoint, bodies: Sequence[Json], batch_id: UUID | None = None
) -> list[ReceivedEvent]:
    """The events of a source that these bodies are, durable.

    Raises:
        Rejected: 429, the source calls more often than it may; 503, the database does not keep up.
    """
    limit_rate(request, endpoint)
    events = _events(request, endpoint, bodies, batch_id)
    await keep(request, events)
    return events


def _events(
    request: Request, endpoint: Endpoint, bodies: Sequence[Json], batch_id: UUID | None
) -> list[ReceivedEvent]:
    return events_of_request(
        endpoint,
        [Part(exact_json.dumps(body), body) for body in bodies],
        dict(request.headers),
        request.app.state.runtime.box,
        assess_source_call(),
        through=ReceivedThrough.SOURCE_KEY,
        batch_id=batch_id,
    )


async def _perform(call: Call, request: Request) -> Response:
    endpoint = calling_source(request)
    path, checked = _path(request.path_params), await _checked(call, request)
    arguments = Arguments(
        path=path,
        body=await _body(call, request),
        checked=checked,
        request=request,
        operation_id=new_id(),
    )
    bodies = [{"type": call.event_type, **each} for each in call.events(arguments)]
    async with _idempotent(call, request, endpoint) as headers:
        if call.bulk is None:
            events = await accept_calls(request, endpoint, bodies)
        else:
            events = await _accept_bulk(call, request, endpoint, bodies, arguments.operation_id)
    if call.bulk is not None:
        return operation(call.bulk, arguments, events)
    if call.answer is not None:
        answered = call.answer(arguments, events)
        answered.headers.update(headers)
        return answered
    return Response(status_code=204)


async def _accept_bulk(
    call: Call, request: Request, endpoint: Endpoint, bodies: Sequence[Json], operation_id: UUID
) -> list[ReceivedEvent]:
    """The events of a bulk call. One without items has an entry in the log, by which its progress is
    known."""
    if bodies:
        return await accept_calls(request, endpoint, bodies, operation_id)
    limit_rate(request, endpoint)
    [entry] = _events(request, endpoint, [{"type": call.event_type}], operation_id)
    await keep(request, [replace(entry, status=EventStatus.IGNORED, error=WITHOUT_ITEMS)])
    return []


@asynccontextmanager
async def _idempotent(call: Call, request: Request, endpoint: Endpoint) -> AsyncIterator[dict[str, str]]:
    """The headers of the answer to a call with an Idempotency-Key, which a call that fails leaves free.

    The key stands for one call of the source. That a repeat runs nothing is up to its event, which has the
    key too. A key that is too long is none, as of every source's event.

    Raises:
        RequestError: 400, the key was used with another call.
    """
    key = request.headers.get("idempotency-key") if call.event_type == "workflows:trigger" else None
    if not key or len(key) > MAXIMUM_KEY_LENGTH:
        yield {}
        return
    engine = request.app.state.runtime.engine
    claimed = digest_of("source key", endpoint.source_key, key).hex()
    async with engine.begin() as connection:
        kept = await claim_key(
            connection,
            endpoint.environment,
            claimed,
            request_digest=digest_of_request(request.url.path, await request.json()),
            request_id=request.state.request_id,
            response={},
        )
    if kept is not None:
        yield {"idempotent-replayed": "true", "original-x-request-id": kept.request_id}
        return
    try:
        yield {}
    except Rejected:
        async with engine.begin() as connection:
            await release_key(connection, endpoint.environment, claimed, request.state.request_id)
        raise


def _path(parameters: dict[str, str]) -> dict[str, str]:
    for name, value in parameters.items():
        try:
            ID.validate_python(value)
        except ValidationError as error:
            raise invalid([FieldError(name, error.errors()[0]["msg"])]) from None
    if parameters.get("collection") == USERS:
        raise invalid([FieldError("collection", "users are not objects; they are at /v1/users")])
    return dict(parameters)


async def _body(call: Call, request: Request) -> Json:
    """The body as sent, once it is checked; for a DELETE without one, what stands in its query."""
    if await _is_in_query(call, request):
        return {MEMBERS: exact_json.loads(request.query_params[MEMBERS])}
    body = await _sent(request)
    return body if isinstance(body, dict) else {}


async def _sent(request: Request) -> Any:
    return await request.json() if await request.body() else None


async def _is_in_query(call: Call, request: Request) -> bool:
    """Whether the body of the call stands in its query, as clients send it whose DELETE has none."""
    takes_members = call.model is not None and MEMBERS in call.model.model_fields
    return call.method == "DELETE" and takes_members and await _sent(request) is None


async def _checked(call: Call, request: Request) -> Any:
    """The body in the model of the call.

    Raises:
        RequestError: 422, naming every field that is wrong.
    """
    if call.model is None:
        return None
    try:
        if await _is_in_query(call, request):
            return in_query(call.model, MEMBERS, request.query_params.get(MEMBERS))
        return call.model.model_validate(await _sent(request))
    except ValidationError as error:
        raise invalid(
            [
                FieldError(".".join(str(part) for part in each["loc"]) or "body", each["msg"])
                for each in error.errors()
            ]
        ) from None


class SourceKeyRoute(DirectoryRoute):
    """A route for source keys: its body is read once the key is known."""

    async def admit(self, request: Request) -> None:
        calling_source(request)


router = APIRouter(route_class=SourceKeyRoute)


def _handler(call: Call) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def handle(request: Request) -> Response:
        return await _perform(call, request)

    return handle


for _call in CALLS:
    router.add_api_route(_call.path, _handler(_call), methods=[_call.method])


@router.get("/v1/bulk_operations/{id}")
async def get_bulk_operation(id: UUID, request: Request) -> Response:
    """How far the events of a bulk call are."""
    endpoint = calling_source(request)
    names = {call.event_type: call.bulk for call in CALLS if call.bulk is not None}
    found = await progress(request.app.state.runtime.engine, endpoint, id, names)
    if found is None:
        raise answers.missing("bulk operation")
    return Answer(answers.bulk_operation(found, str(request.base_url)))


refusals = APIRouter()


@refusals.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def refuse(path: str, request: Request) -> Response:
    """Whatever else there is, a source key does not open it."""
    calling_source(request)
    raise RequestError(
        403,
        "incorrect_token_type",
        f"{request.method} /{path} cannot be called with a source key: the directory takes a key of the "
        "environment, the Management API a service token",
    )
