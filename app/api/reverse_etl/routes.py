"""The protocols of Census and Hightouch: with an environment's key against its destination, with a source key
as events of the source (`app/api/reverse_etl/source_calls.py`)."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from app.api.directory.access import CallerDep
from app.api.errors import RESPONSES
from app.api.request import DirectoryRequest
from app.api.reverse_etl import census, hightouch
from app.api.reverse_etl.audiences import AsEvents, AtDestination, Audiences
from app.api.reverse_etl.json_rpc import Method, answer
from app.api.reverse_etl.source_calls import accept_calls, calling_source
from app.core import exact_json

router = APIRouter(prefix="/v1/integrations", tags=["Integrations"])


async def at_destination(request: Request, caller: CallerDep) -> Audiences:
    """Changes go to the environment's destination."""
    return AtDestination(request.app.state.destinations, caller.environment)


async def as_events(request: Request) -> Audiences:
    """Changes become events of the source that the key belongs to."""
    endpoint = calling_source(request)

    async def accept(bodies: list[dict[str, Any]]) -> None:
        await accept_calls(request, endpoint, bodies)

    return AsEvents(accept)


AudiencesDep = Annotated[Audiences, Depends(at_destination)]


async def _answer(
    request: Request, audiences: Audiences, methods: Callable[[Audiences], dict[str, Method]]
) -> Response:
    body = await DirectoryRequest(request.scope, request.receive).body()
    answered = await answer(body, methods(audiences))
    if answered is None:
        return Response(status_code=204)
    return Response(exact_json.dumps(answered), media_type="application/json")


def _documented(method: str, result: dict[str, Any]) -> dict[str, Any]:
    """How the route shows in the API's own documentation."""
    example = {"jsonrpc": "2.0", "id": "1", "method": method, "params": {}}
    schema = {
        "type": "object",
        "required": ["id", "method", "jsonrpc"],
        "properties": {
            "id": {"type": "string"},
            "jsonrpc": {"type": "string"},
            "method": {"type": "string"},
            "params": {"type": "object"},
        },
    }
    answered = {"example": {"jsonrpc": "2.0", "id": "1", "result": result}}
    return {
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schema, "example": example}},
            }
        },
        "responses": {
            200: {"content": {"application/json": answered}},
            **{status: RESPONSES[status] for status in (401, 413, 503)},
        },
    }


@router.post(
    "/census/custom-destination",
    summary="Process a Census RPC request",
    **_documented("test_connection", {"success": True}),
)
async def census_custom_destination(request: Request, audiences: AudiencesDep) -> Response:
    """Census's Custom Destination API, with audiences as its one object. Errors of a call are in the
    answer."""
    return await _answer(request, audiences, census.methods)


@router.post(
    "/hightouch/embedded-destination",
    summary="Process a Hightouch RPC request",
    **_documented("list_objects", {"objects": hightouch.OBJECTS}),
)
async def hightouch_embedded_destination(request: Request, audiences: AudiencesDep) -> Response:
    """Hightouch's Embedded Destination, with audiences as its one object. Errors of a call are in the
    answer."""
    return await _answer(request, audiences, hightouch.methods)
