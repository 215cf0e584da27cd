"""Calls in Knock's shapes made with a source key: each becomes events of that source.

With an environment's own key (`sk_...`) the same paths are the directory (`app/api/directory`). The bearer's
kind decides before routing, so that neither knows the other. The answer has Knock's shape and comes after the
commit; the actions run afterwards against the environment's destination. Which calls there are:
`app/api/reverse_etl/knock_calls.py`.
"""

from collections.abc import Callable, Coroutine, Sequence
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
from app.api.receive import keep, limit_rate
from app.api.request import DirectoryRoute
from app.api.reverse_etl.knock_calls import CALLS, ID, Arguments, Call, invalid, operation
from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.core.raw_json import Part
from app.directory.recipients import Json
from app.events.assessment import assess_source_call
from app.events.reception import ReceivedEvent, events_of_request
from app.logs.bulk_calls import progress
from app.models.directory import USERS
from app.models.status import ReceivedThrough
from app.models.types import new_id
from app.runtime.resources import Runtime
from app.sources.keys import SOURCE_KEY_PREFIX
from app.sources.live import Endpoint


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
    events = events_of_request(
        endpoint,
        [Part(exact_json.dumps(body), body) for body in bodies],
        dict(request.headers),
        request.app.state.runtime.box,
        assess_source_call(),
        through=ReceivedThrough.SOURCE_KEY,
        batch_id=batch_id,
    )
    await keep(request, events)
    return events


async def _perform(call: Call, request: Request) -> Response:
    endpoint = calling_source(request)
    path, checked = _path(request.path_params), await _checked(call, request)
    arguments = Arguments(
        path=path,
        body=await _body(request),
        checked=checked,
        request=request,
        operation_id=new_id(),
    )
    bodies = [{"type": call.event_type, **each} for each in call.events(arguments)]
    events = await accept_calls(
        request, endpoint, bodies, batch_id=arguments.operation_id if call.bulk is not None else None
    )
    if call.bulk is not None:
        return operation(call.bulk, arguments, events)
    if call.answer is not None:
        return call.answer(arguments, events)
    return Response(status_code=204)


def _path(parameters: dict[str, str]) -> dict[str, str]:
    for name, value in parameters.items():
        try:
            ID.validate_python(value)
        except ValidationError as error:
            raise invalid([FieldError(name, error.errors()[0]["msg"])]) from None
    if parameters.get("collection") == USERS:
        raise invalid([FieldError("collection", "users are not objects; they are at /v1/users")])
    return dict(parameters)


async def _body(request: Request) -> Json:
    """The body as sent, once it is checked; for a DELETE without one, what stands in its query."""
    if await request.body():
        body = await request.json()
        return body if isinstance(body, dict) else {}
    members = request.query_params.get("members")
    return {"members": exact_json.loads(members)} if members and members.startswith("[") else {}


async def _checked(call: Call, request: Request) -> Any:
    """The body in the model of the call.

    Raises:
        RequestError: 422, naming every field that is wrong.
    """
    if call.model is None:
        return None
    try:
        if call.method == "DELETE" and not await request.body() and "members" in call.model.model_fields:
            return in_query(call.model, "members", request.query_params.get("members"))
        return call.model.model_validate(await request.json() if await request.body() else {})
    except ValidationError as error:
        raise invalid(
            [
                FieldError(".".join(str(part) for part in each["loc"]) or "body", each["msg"])
                for each in error.errors()
            ]
        ) from None


router = APIRouter(route_class=DirectoryRoute)


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
