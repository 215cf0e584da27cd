"""Audiences and their members."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.api.directory import answers, schemas
from app.api.directory.access import CallerDep, KeyRoute
from app.api.directory.answers import Answer
from app.api.directory.parameters import PageDep, in_query
from app.api.directory.requests import AudienceMembersRequest, Id
from app.directory.audiences import add_members, list_members, remove_members

router = APIRouter(
    prefix="/v1/audiences",
    tags=["Audiences"],
    route_class=KeyRoute,
    responses=schemas.MISSING,
)

Key = Annotated[Id, Path(description="The audience's key.")]


@router.get(
    "/{key}/members",
    summary="List members",
    responses=schemas.answers(schemas.DirectoryPage[schemas.AudienceMemberResponse], "A page of members."),
)
async def list_audience_members(key: Key, caller: CallerDep, page: PageDep) -> Answer:
    """The audience's members by id; a user who is a member within several tenants is listed for each."""
    async with caller.statement() as connection:
        members = await list_members(connection, caller.environment, key, page)
    return answers.page(members, answers.audience_member)


@router.post("/{key}/members", summary="Add members", status_code=204)
async def add_audience_members(
    key: Key,
    body: AudienceMembersRequest,
    caller: CallerDep,
    create_audience: Annotated[bool, Query(description="Create the audience if there is none.")] = False,
) -> Response:
    """Identify up to 1,000 users and make them members, each within its tenant or within none."""
    async with caller.transaction() as connection:
        await add_members(connection, caller.environment, key, body.memberships(), create=create_audience)
    return Response(status_code=204)


@router.delete("/{key}/members", summary="Remove members", status_code=204)
async def remove_audience_members(
    key: Key,
    caller: CallerDep,
    body: AudienceMembersRequest | None = None,
    members: Annotated[
        str | None, Query(description="For clients whose DELETE has no body: the list of members as JSON.")
    ] = None,
) -> Response:
    """Remove up to 1,000 members. Those that are not members are passed over."""
    removed = body if body is not None else in_query(AudienceMembersRequest, "members", members)
    async with caller.transaction() as connection:
        await remove_members(connection, caller.environment, key, removed.memberships())
    return Response(status_code=204)
