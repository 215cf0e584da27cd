"""Sources: listed, read, created, changed."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response
from pydantic import BeforeValidator, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.account.environments import list_environments
from app.account.tokens import Access
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import (
    Annotate,
    DefaultedEnvironmentDep,
    EnvironmentFilterDep,
    EnvironmentQuery,
    IfMatch,
    OptionalPageDep,
    ReadAccess,
    WriteAccess,
    separated,
)
from app.api.management.request import ManagementRoute
from app.api.management.schemas import (
    EntriesPage,
    SourceResponse,
    SourceSummary,
    WrappedSourceResponse,
    page_of,
    source_response,
    source_summary,
)
from app.logs.unfound_paths import unfound_paths
from app.runtime.resources import save
from app.sources import store as catalog
from app.sources.changes import WrappedSourceChange
from app.sources.edits import edit_source, remove_source
from app.sources.store import get_source
from app.sources.versions import source_version

router = APIRouter(prefix="/sources", tags=["Sources"], route_class=ManagementRoute)


class _DocumentedSource:
    """Any body, documented as a change: `app.sources.changes` validates it, to name all errors together."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(WrappedSourceChange.__pydantic_core_schema__)


SourceBody = Annotated[Any, Body(), _DocumentedSource()]
Include = Annotated[
    list[Literal["environment_settings"]],
    BeforeValidator(separated),
    Query(description="What to show beside each source."),
]


@router.get(
    "", summary="List sources", response_model_exclude_unset=True, response_model=EntriesPage[SourceSummary]
)
async def list_sources(
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    page: OptionalPageDep,
    environment: EnvironmentFilterDep = None,
    include: Include = [],  # noqa: B006
    annotate: Annotate = None,
) -> EntriesPage[SourceSummary]:
    """The sources by key: all of them, or a page with `limit`, `after` or `before`. `environment` limits the
    settings that `include=environment_settings` shows."""
    known = [environment] if environment else [each.slug for each in await list_environments(session)]
    shown = [slug for slug in known if access.permits(slug)]
    return page_of(
        await catalog.page_of_sources(session, page),
        SourceSummary,
        lambda each: source_summary(each, runtime.settings, shown if include else None),
    )


@router.get("/{key}", summary="Get a source", responses={404: RESPONSES[404]})
async def read_source(
    key: str,
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    environment: DefaultedEnvironmentDep,
    response: Response,
    annotate: Annotate = None,
) -> SourceResponse:
    """The source with its settings and mappings in every environment. `ETag` is its version."""
    source = await get_source(session, key)
    response.headers["etag"] = source_version(source)
    return source_response(source, runtime.settings, access)


@router.put(
    "/{key}",
    summary="Create or change a source",
    responses={status: RESPONSES[status] for status in (400, 412, 413)},
)
async def save_source(
    key: str,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    environment: EnvironmentQuery,
    body: SourceBody,
    response: Response,
    if_match: IfMatch = None,
    annotate: Annotate = None,
) -> WrappedSourceResponse:
    """A new source starts in every environment with the settings and default mappings of
    `preconfigured_provider`. Of a source that is there, the fields that are given are changed, and
    `mappings`, when given, is the whole list."""
    source = await edit_source(
        session, access, key, environment, body, if_match, scripts=runtime.scripts, box=runtime.box
    )
    await save(session, runtime)
    response.headers["etag"] = source_version(source)
    return WrappedSourceResponse(
        source=source_response(source, runtime.settings, access),
        warnings=await _warnings(session, runtime, access, source),
    )


@router.delete(
    "/{key}",
    summary="Delete a source",
    status_code=204,
    responses={status: RESPONSES[status] for status in (404, 412)},
)
async def delete_source(
    key: str, access: WriteAccess, session: SessionDep, runtime: RuntimeDep, if_match: IfMatch = None
) -> None:
    """Delete the source in all environments, with its mappings, secrets and keys. Its URLs then answer 404.
    Actions that were mapped still run; events that were not mapped yet end without actions. The log stays
    for its retention, under `/v1/logs`. Doorbell's own."""
    await remove_source(session, access, key, if_match)
    await save(session, runtime)


async def _warnings(
    session: SessionDep, runtime: RuntimeDep, access: Access, source: catalog.ConfiguredSource
) -> list[str]:
    """What looks wrong about a source that was saved, in the environments that the caller may see."""
    return [
        f"{environment}: {warning}"
        for environment, configured in source.environments.items()
        if access.permits(environment)
        for warning in await unfound_paths(
            session, runtime.box, environment, source.source.key, configured.mappings
        )
    ]
