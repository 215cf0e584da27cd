"""Environments made, changed and removed. Doorbell's own."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.account.audit import environment_snapshot, note_change
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import AdminAccess
from app.api.management.environments import EnvironmentPath
from app.api.management.request import ManagementRoute
from app.api.management.schemas import EnvironmentResponse, WrappedRequest, environment_response, example
from app.runtime.resources import save
from app.sources.environments import change_environment, create_environment, delete_environment

router = APIRouter(prefix="/environments", tags=["Environments"], route_class=ManagementRoute)

Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"\S")]
Color = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]


class EnvironmentRequest(BaseModel):
    """An environment as it shall be. Fields that are not given stay as they are."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field("", description="Its name for people.", examples=["Staging"])
    order: int = Field(0, ge=0, le=1_000_000, description="Its place; the lowest number is the first.")
    label_color: Color | None = Field(None, description="The color of its label.", examples=["#1f7a4d"])
    hide_pii_data: bool = Field(False, description="Whether personal data is hidden.")
    is_production: bool = Field(False, description="Whether it is production, where nothing is rehearsed.")


class NewEnvironmentRequest(EnvironmentRequest):
    """An environment to make."""

    slug: str = Field(description="Its name in URLs and workflow ids, which never changes.")


class WrappedEnvironmentRequest(WrappedRequest):
    """An environment under the key `environment`."""

    model_config = example(environment={"name": "Staging", "order": 1, "is_production": False})

    environment: EnvironmentRequest


class WrappedNewEnvironmentRequest(WrappedRequest):
    """An environment to make, under the key `environment`."""

    model_config = example(environment={"slug": "staging", "name": "Staging", "order": 1})

    environment: NewEnvironmentRequest


class WrappedEnvironmentResponse(BaseModel):
    """An environment under the key `environment`."""

    environment: EnvironmentResponse


@router.post("", summary="Create an environment", status_code=201)
async def make_environment(
    access: AdminAccess, session: SessionDep, runtime: RuntimeDep, body: WrappedNewEnvironmentRequest
) -> WrappedEnvironmentResponse:
    """Every source is configured in it with its provider's defaults. Its events are processed once a worker
    serves it: `python worker.py --environment SLUG`."""
    fields = body.environment.model_dump(exclude_unset=True, exclude={"slug"})
    environment = await create_environment(session, body.environment.slug, fields)
    resource = ("environment", environment.slug)
    note_change(
        session,
        access,
        "environment.created",
        resource,
        environment=environment.slug,
        after=environment_snapshot(environment),
    )
    await save(session, runtime)
    return WrappedEnvironmentResponse(environment=environment_response(environment))


@router.put("/{environment_slug}", summary="Change an environment", responses={404: RESPONSES[404]})
async def save_environment(
    access: AdminAccess,
    environment: EnvironmentPath,
    session: SessionDep,
    runtime: RuntimeDep,
    body: WrappedEnvironmentRequest,
) -> WrappedEnvironmentResponse:
    """Rename it, reorder it, or say whether it is production."""
    before = environment_snapshot(environment)
    await change_environment(session, environment, body.environment.model_dump(exclude_unset=True))
    note_change(
        session,
        access,
        "environment.updated",
        ("environment", environment.slug),
        environment=environment.slug,
        before=before,
        after=environment_snapshot(environment),
    )
    await save(session, runtime)
    return WrappedEnvironmentResponse(environment=environment_response(environment))


@router.delete(
    "/{environment_slug}",
    summary="Delete an environment",
    status_code=204,
    responses={404: RESPONSES[404], 409: RESPONSES[409]},
)
async def remove_environment(
    access: AdminAccess, environment: EnvironmentPath, session: SessionDep, runtime: RuntimeDep
) -> None:
    """Its endpoints receive nothing from now on; its log stays for its retention. Not possible for
    `development` and `production`, nor while events wait in it."""
    before = environment_snapshot(environment)
    await delete_environment(session, environment)
    note_change(
        session,
        access,
        "environment.deleted",
        ("environment", environment.slug),
        environment=environment.slug,
        before=before,
    )
    await save(session, runtime)
