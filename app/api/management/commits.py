"""Commits, as an account without pending changes answers about them: in Doorbell every change takes effect at
once."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.account.environments import list_environments, unknown_environment
from app.api.dependencies import SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import EnvironmentDep, PageDep, ReadAccess, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import EntriesPage, Json, PageInfo, example
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields

router = APIRouter(prefix="/commits", tags=["Commits"], route_class=ManagementRoute)

ResourceTypes = Annotated[
    list[Literal["audience", "email_layout", "guide", "message_type", "partial", "translation", "workflow"]],
    Query(description="Accepted for tools made for Knock; without effect."),
]
ResourceId = Annotated[str | None, Query(description="Accepted for tools made for Knock; without effect.")]
CommitMessage = Annotated[str | None, Query(description="Accepted for tools made for Knock; without effect.")]
Target = Annotated[str, Query(description="The environment slug.", examples=["production"])]


class Commit(BaseModel):
    """A commit, of which there are none."""

    model_config = example(
        id="01a2263a-e821-727f-9f91-f04afa16073e",
        author={"name": "Ada Example", "email": "ada@example.com"},
        created_at="2026-01-15T12:00:00Z",
        environment="development",
        resource={"type": "workflow", "identifier": "welcome"},
        commit_message=None,
    )

    id: str
    author: Json
    created_at: str
    environment: str
    resource: Json
    commit_message: str | None = None


class CommitResult(BaseModel):
    """The result of a commit or a promotion."""

    model_config = example(result="success", message="There is nothing to commit.")

    result: Literal["success"]
    message: str = Field(description="What was done (Doorbell's own field).")


@router.get("", summary="List commits")
async def list_commits(
    access: ReadAccess,
    environment: EnvironmentDep,
    page: PageDep,
    promoted: Annotated[
        bool | None, Query(description="Accepted for tools made for Knock; without effect.")
    ] = None,
    resource_type: ResourceTypes = [],  # noqa: B006
    resource_id: ResourceId = None,
) -> EntriesPage[Commit]:
    """Always empty: changes take effect at once."""
    info = PageInfo(after=None, before=None, page_size=page.size)
    return EntriesPage[Commit](entries=[], page_info=info)


@router.put("", summary="Commit all changes")
async def commit_all(
    access: WriteAccess,
    environment: EnvironmentDep,
    commit_message: CommitMessage = None,
    resource_type: ResourceTypes = [],  # noqa: B006
    resource_id: ResourceId = None,
) -> CommitResult:
    """Nothing is pending, so nothing is done."""
    message = f"There is nothing to commit in {environment!r}: every change took effect when it was made."
    return CommitResult(result="success", message=message)


@router.put("/promote", summary="Promote all commits")
async def promote_all(
    access: WriteAccess,
    session: SessionDep,
    to_environment: Target,
    resource_type: ResourceTypes = [],  # noqa: B006
    resource_id: ResourceId = None,
) -> CommitResult:
    """No commit waits for its promotion, so nothing is done. Sources are promoted one by one."""
    environments = await list_environments(session)
    if to_environment not in {each.slug for each in environments}:
        unknown = unknown_environment(to_environment, environments)
        raise invalid_fields([FieldError("to_environment", unknown)])
    access.require(to_environment)
    message = (
        f"There is no commit to promote to {to_environment!r}. To promote a source, use POST "
        "/v1/sources/{key}/promote."
    )
    return CommitResult(result="success", message=message)


@router.get("/{id}", summary="Get a commit", responses={404: RESPONSES[404]})
async def read_commit(id: str, access: ReadAccess) -> Commit:
    """Always 404: there are no commits."""
    raise _missing(id)


@router.put("/{id}/promote", summary="Promote a commit", responses={404: RESPONSES[404]})
async def promote_commit(id: str, access: WriteAccess) -> Commit:
    """Always 404: there are no commits."""
    raise _missing(id)


def _missing(id: str) -> RequestError:
    message = f"There is no commit {id!r}: in Doorbell every change takes effect at once"
    return RequestError(404, "resource_missing", message)
