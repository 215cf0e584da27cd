"""Mappings one by one, by id: people who edit different ones do not meet, and `If-Match` guards the same one.
Doorbell's own."""

from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import ConfiguredDep, IfMatch, ReadAccess, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Entries, MappingResponse, WrappedRequest, example, mapping_response
from app.logs.unfound_paths import unfound_paths
from app.models.source import Mapping
from app.runtime.resources import save
from app.sources.changes import MappingChange
from app.sources.mappings import add_mapping, change_mapping, delete_mapping, get_mapping, list_mappings
from app.sources.versions import mapping_version

router = APIRouter(
    prefix="/sources/{key}/mappings",
    tags=["Mappings"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)


class WrappedMappingRequest(WrappedRequest):
    """A mapping under the key `mapping`."""

    model_config = example(
        mapping={
            "event_type": "invoice.paid",
            "action_type": "workflows_trigger",
            "action_parameters": {"key": "invoice-paid", "recipients": "body.data.object.customer"},
        }
    )

    mapping: MappingChange


class WrappedMappingResponse(BaseModel):
    """A mapping under the key `mapping`."""

    mapping: MappingResponse
    warnings: list[str] = Field([], description="Paths that had no value in any stored event of the type.")


async def _saved(
    session: SessionDep, runtime: RuntimeDep, configured: ConfiguredDep, mapping: Mapping
) -> WrappedMappingResponse:
    """The answer to a change, with what looks wrong about it."""
    warnings = await unfound_paths(
        session, runtime.box, configured.environment, configured.source_key, [mapping]
    )
    return WrappedMappingResponse(mapping=mapping_response(mapping), warnings=warnings)


@router.get("", summary="List mappings")
async def list_source_mappings(
    access: ReadAccess, session: SessionDep, configured: ConfiguredDep
) -> Entries[MappingResponse]:
    """The mappings of the source in an environment, oldest first."""
    found = await list_mappings(session, configured)
    return Entries[MappingResponse](entries=[mapping_response(each) for each in found])


@router.post("", summary="Add a mapping", status_code=201)
async def add_source_mapping(
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    body: WrappedMappingRequest,
    response: Response,
) -> WrappedMappingResponse:
    """Events that arrive from now on run this action too. `ETag` is its version."""
    mapping = await add_mapping(session, access, configured, body.mapping)
    await save(session, runtime)
    response.headers["etag"] = mapping_version(mapping)
    return await _saved(session, runtime, configured, mapping)


@router.get("/{id}", summary="Get a mapping")
async def read_source_mapping(
    id: UUID, access: ReadAccess, session: SessionDep, configured: ConfiguredDep, response: Response
) -> WrappedMappingResponse:
    """The mapping. `ETag` is its version."""
    mapping = await get_mapping(session, configured, id)
    response.headers["etag"] = mapping_version(mapping)
    return WrappedMappingResponse(mapping=mapping_response(mapping))


@router.put("/{id}", summary="Change a mapping", responses={412: RESPONSES[412]})
async def change_source_mapping(
    id: UUID,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    body: WrappedMappingRequest,
    response: Response,
    if_match: IfMatch = None,
) -> WrappedMappingResponse:
    """The mapping is what the body says, whole."""
    mapping = await change_mapping(session, access, configured, id, body.mapping, if_match)
    await save(session, runtime)
    response.headers["etag"] = mapping_version(mapping)
    return await _saved(session, runtime, configured, mapping)


@router.delete("/{id}", summary="Delete a mapping", status_code=204, responses={412: RESPONSES[412]})
async def delete_source_mapping(
    id: UUID,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    if_match: IfMatch = None,
) -> None:
    """Events that arrive from now on do not run this action."""
    await delete_mapping(session, access, configured, id, if_match)
    await save(session, runtime)
