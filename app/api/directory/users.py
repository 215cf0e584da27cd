"""Users."""

from fastapi import APIRouter, Response

from app.api.directory import answers
from app.api.directory.access import CallerDep
from app.api.directory.answers import Answer
from app.api.directory.parameters import Include, PageDep
from app.api.directory.request import DirectoryRoute
from app.api.directory.requests import Id, IdentifyUserRequest
from app.directory.lists import list_recipients
from app.directory.recipients import Reference, delete_recipients, get_recipient, set_recipient
from app.models.directory import USERS

router = APIRouter(prefix="/v1/users", tags=["Users"], route_class=DirectoryRoute)


@router.put("/{user_id}", summary="Identify a user")
async def identify_user(user_id: Id, body: IdentifyUserRequest, caller: CallerDep) -> Answer:
    """Create the user, or merge these properties into what it has."""
    async with caller.statement() as connection:
        user = await set_recipient(connection, caller.environment, body.profile(Reference.to_user(user_id)))
    return Answer(answers.user(user))


@router.get("/{user_id}", summary="Get a user")
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


@router.get("", summary="List users")
async def list_users(caller: CallerDep, page: PageDep, include: Include = []) -> Answer:  # noqa: B006
    """The environment's users by id."""
    async with caller.statement() as connection:
        users = await list_recipients(connection, caller.environment, USERS, page)
    return answers.page(users, lambda each: answers.user(each, preferences="preferences" in include))
