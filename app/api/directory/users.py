"""Users."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.directory import answers, schemas
from app.api.directory.access import CallerDep, KeyRoute
from app.api.directory.answers import Answer
from app.api.directory.parameters import Include, PageDep, references
from app.api.directory.requests import (
    BulkDeleteUsersRequest,
    BulkIdentifyUsersRequest,
    Id,
    IdentifyUserRequest,
    MergeUserRequest,
)
from app.directory.bulk_operations import Name, ask_to_delete, ask_to_set
from app.directory.lists import list_recipients
from app.directory.recipients import Reference, delete_recipients, get_recipient, set_recipient
from app.directory.subscriptions import list_subscriptions
from app.directory.user_merge import merge_users
from app.models.directory import USERS

router = APIRouter(prefix="/v1/users", tags=["Users"], route_class=KeyRoute)


@router.put("/{user_id}", summary="Identify a user", responses=schemas.answers(schemas.User, "The user."))
async def identify_user(user_id: Id, body: IdentifyUserRequest, caller: CallerDep) -> Answer:
    """Create the user, or merge these properties into what it has."""
    async with caller.statement() as connection:
        user = await set_recipient(connection, caller.environment, body.profile(Reference.to_user(user_id)))
    return Answer(answers.user(user))


@router.get(
    "/{user_id}", summary="Get a user", responses=schemas.answers(schemas.User, "The user.", missing=True)
)
async def get_user(user_id: str, caller: CallerDep) -> Answer:
    """The user with its properties."""
    async with caller.statement() as connection:
        user = await get_recipient(connection, caller.environment, Reference.to_user(user_id))
    if user is None:
        raise answers.missing("user")
    return Answer(answers.user(user))


@router.delete("/{user_id}", summary="Delete a user", status_code=204)
async def delete_user(user_id: str, caller: CallerDep) -> Response:
    """Delete the user, if there is one, with its subscriptions and memberships."""
    async with caller.statement() as connection:
        await delete_recipients(connection, caller.environment, USERS, [user_id])
    return Response(status_code=204)


@router.get(
    "",
    summary="List users",
    responses=schemas.answers(schemas.DirectoryPage[schemas.User], "A page of users."),
)
async def list_users(caller: CallerDep, page: PageDep, include: Include = []) -> Answer:  # noqa: B006
    """The environment's users by id."""
    async with caller.statement() as connection:
        users = await list_recipients(connection, caller.environment, USERS, page)
    return answers.page(users, lambda each: answers.user(each, preferences="preferences" in include))


@router.get(
    "/{user_id}/subscriptions",
    summary="List a user's subscriptions",
    responses=schemas.answers(
        schemas.DirectoryPage[schemas.SubscriptionResponse], "A page of subscriptions.", missing=True
    ),
)
async def list_user_subscriptions(
    user_id: str,
    caller: CallerDep,
    page: PageDep,
    include: Include = [],  # noqa: B006
    objects: Annotated[list[str], Query(description="Only these objects: `{id, collection}` each.")] = [],  # noqa: B006
) -> Answer:
    """What the user is subscribed to, the newest first."""
    only = references(objects, "objects")
    user = Reference.to_user(user_id)
    async with caller.statement() as connection:
        found = await list_subscriptions(connection, caller.environment, user, page, objects=only)
        if not found.items and await get_recipient(connection, caller.environment, user) is None:
            raise answers.missing("user")
    return answers.page(found, lambda each: answers.subscription(each, preferences="preferences" in include))


@router.post(
    "/{user_id}/merge",
    summary="Merge users",
    responses=schemas.answers(schemas.User, "The remaining user.", missing=True),
)
async def merge_user(user_id: str, body: MergeUserRequest, caller: CallerDep) -> Answer:
    """Merge another user into this one and delete it. Where both have a value, this user's remains."""
    async with caller.transaction() as connection:
        user = await merge_users(connection, caller.environment, user_id, body.from_user_id)
    if user is None:
        raise answers.missing("user")
    return Answer(answers.user(user))


@router.post(
    "/bulk/identify",
    summary="Identify users in bulk",
    responses=schemas.answers(
        schemas.BulkOperationResponse, "The operation, which goes on in the background."
    ),
)
async def identify_users(body: BulkIdentifyUsersRequest, caller: CallerDep, request: Request) -> Answer:
    """Create or update up to 1,000 users."""
    profiles = [each.profile(each.reference) for each in body.users]
    async with caller.transaction() as connection:
        operation = await ask_to_set(connection, caller.environment, Name.IDENTIFY_USERS, USERS, profiles)
    return Answer(answers.bulk_operation(operation, str(request.base_url)))


@router.post(
    "/bulk/delete",
    summary="Delete users in bulk",
    responses=schemas.answers(
        schemas.BulkOperationResponse, "The operation, which goes on in the background."
    ),
)
async def delete_users(body: BulkDeleteUsersRequest, caller: CallerDep, request: Request) -> Answer:
    """Delete up to 1,000 users."""
    async with caller.transaction() as connection:
        operation = await ask_to_delete(
            connection, caller.environment, Name.DELETE_USERS, USERS, body.user_ids
        )
    return Answer(answers.bulk_operation(operation, str(request.base_url)))
