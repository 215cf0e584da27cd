"""The ingestion endpoint of a source in an environment, and its rotation. Doorbell's own."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel.ext.asyncio.session import AsyncSession

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import ConfiguredDep, ReadAccess, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Timestamp, WrappedRequest, endpoint_url, example
from app.core.settings import Settings
from app.models.source import SourceEnvironment
from app.runtime.resources import save
from app.sources.edits import end_rotation, rotate
from app.sources.endpoints import MAXIMUM_OVERLAP_SECONDS, list_replaced

router = APIRouter(
    prefix="/sources/{key}/endpoint",
    tags=["Endpoints"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)


class ReplacedEndpoint(BaseModel):
    """A URL that was replaced and still receives events."""

    url: str
    expires_at: Timestamp = Field(description="Until when it does.")


class EndpointResponse(BaseModel):
    """Where the source's events arrive."""

    url: str = Field(description="The URL that receives events.")
    replaced: list[ReplacedEndpoint] = Field(description="URLs from before a rotation that still do.")


class WrappedEndpointResponse(BaseModel):
    """An endpoint under the key `endpoint`."""

    model_config = example(
        endpoint={
            "url": "https://doorbell.example.com/integrations/receive/Zk3v9s1x0q7Jm2b5T8r4Wc6yPq1d0fGh",
            "replaced": [
                {
                    "url": "https://doorbell.example.com/integrations/receive/a8R2f0q7Jm2b5T8r4Wc6yPq1d0fGhZk3",
                    "expires_at": "2026-01-02T00:00:00Z",
                }
            ],
        }
    )

    endpoint: EndpointResponse


class RotationRequest(BaseModel):
    """How to rotate."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: int = Field(
        24 * 3600,
        ge=0,
        le=MAXIMUM_OVERLAP_SECONDS,
        description="How long the present URL, and those before it, still receive events.",
    )


class WrappedRotationRequest(WrappedRequest):
    """How to rotate, under the key `rotation`."""

    model_config = example(rotation={"overlap_seconds": 86400})

    rotation: RotationRequest = RotationRequest()


async def _response(
    session: AsyncSession, settings: Settings, configured: SourceEnvironment
) -> WrappedEndpointResponse:
    replaced = [
        ReplacedEndpoint(url=endpoint_url(settings, each.token), expires_at=each.expires_at)
        for each in await list_replaced(session, configured)
    ]
    url = endpoint_url(settings, configured.endpoint_token)
    return WrappedEndpointResponse(endpoint=EndpointResponse(url=url, replaced=replaced))


@router.get("", summary="Get the endpoint")
async def read_endpoint(
    access: ReadAccess, session: SessionDep, runtime: RuntimeDep, configured: ConfiguredDep
) -> WrappedEndpointResponse:
    """Where the source's events arrive in an environment."""
    return await _response(session, runtime.settings, configured)


@router.post("/rotate", summary="Rotate the endpoint")
async def rotate_source_endpoint(
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    body: WrappedRotationRequest | None = None,
) -> WrappedEndpointResponse:
    """The endpoint gets a new URL; the present one goes on for the overlap, so that no event is lost."""
    overlap = (body or WrappedRotationRequest()).rotation.overlap_seconds
    await rotate(session, access, configured, overlap)
    await save(session, runtime)
    return await _response(session, runtime.settings, configured)


@router.delete("/replaced", summary="End the overlap", status_code=204)
async def end_endpoint_overlap(
    access: WriteAccess, session: SessionDep, runtime: RuntimeDep, configured: ConfiguredDep
) -> None:
    """URLs from before a rotation receive nothing from now on."""
    await end_rotation(session, access, configured)
    await save(session, runtime)
