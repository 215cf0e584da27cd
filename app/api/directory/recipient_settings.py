"""Preferences and channel data of users and objects, as identifying sets them: read, set and removed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.directory import answers, schemas
from app.api.directory.access import Caller, CallerDep, KeyRoute
from app.api.directory.answers import Answer
from app.api.directory.requests import ChannelDataRequest, Id, PreferenceSetRequest
from app.directory.recipient_settings import RecipientSettings, get_settings, unset
from app.directory.recipients import TENANT_PREFERENCE_SET, Profile, Reference, set_recipient

router = APIRouter(prefix="/v1", tags=["Preferences and channel data"], route_class=KeyRoute)

_SET = schemas.answers(schemas.PreferenceSet, "The preference set.", missing=True)
_SETS = schemas.answers(list[schemas.PreferenceSet], "The preference sets.", missing=True)
_DATA = schemas.answers(schemas.ChannelDataResponse, "The channel data.", missing=True)
TenantQuery = Annotated[str | None, Query(description="Accepted for tools made for Knock; without effect.")]


async def _user(user_id: Id) -> Reference:
    return Reference.to_user(user_id)


async def _object(collection: Id, object_id: Id) -> Reference:
    return Reference(collection, object_id)


async def _set_id(id: Id) -> str:
    if id == TENANT_PREFERENCE_SET:
        raise answers.missing("preference set")
    return id


UserDep = Annotated[Reference, Depends(_user)]
ObjectDep = Annotated[Reference, Depends(_object)]
SetIdDep = Annotated[str, Depends(_set_id)]


async def _settings(connection: AsyncConnection, caller: Caller, recipient: Reference) -> RecipientSettings:
    found = await get_settings(connection, caller.environment, recipient)
    if found is None:
        raise answers.missing("recipient")
    return found


async def _list_preferences(caller: Caller, recipient: Reference) -> Answer:
    async with caller.statement() as connection:
        found = await _settings(connection, caller, recipient)
    return Answer([answers.preference_set(name, each) for name, each in sorted(found.preferences.items())])


async def _get_preferences(caller: Caller, recipient: Reference, id: str) -> Answer:
    async with caller.statement() as connection:
        found = await _settings(connection, caller, recipient)
    return Answer(answers.preference_set(id, found.preferences.get(id)))


async def _set_preferences(
    caller: Caller, recipient: Reference, id: str, body: PreferenceSetRequest
) -> Answer:
    async with caller.statement() as connection:
        profile = Profile(recipient, preferences={id: body.stored()})
        saved = await set_recipient(connection, caller.environment, profile)
    return Answer(answers.preference_set(id, saved.preferences[id]))


async def _get_channel_data(caller: Caller, recipient: Reference, channel_id: str) -> Answer:
    async with caller.statement() as connection:
        found = await _settings(connection, caller, recipient)
    if channel_id not in found.channel_data:
        raise answers.missing("channel data")
    return Answer(answers.channel_data(channel_id, found.channel_data[channel_id]))


async def _set_channel_data(
    caller: Caller, recipient: Reference, channel_id: str, body: ChannelDataRequest
) -> Answer:
    async with caller.statement() as connection:
        profile = Profile(recipient, channel_data={channel_id: body.data})
        await set_recipient(connection, caller.environment, profile)
    return Answer(answers.channel_data(channel_id, body.data))


@router.get("/users/{user_id}/preferences", summary="List a user's preference sets", responses=_SETS)
async def list_user_preferences(user: UserDep, caller: CallerDep) -> Answer:
    """The preference sets that the user has, by id."""
    return await _list_preferences(caller, user)


@router.get("/users/{user_id}/preferences/{id}", summary="Get a user's preference set", responses=_SET)
async def get_user_preferences(
    user: UserDep, id: SetIdDep, caller: CallerDep, tenant: TenantQuery = None
) -> Answer:
    """The preference set; one that the user does not have is empty."""
    return await _get_preferences(caller, user, id)


@router.put("/users/{user_id}/preferences/{id}", summary="Set a user's preference set", responses=_SET)
async def set_user_preferences(
    user: UserDep, id: SetIdDep, body: PreferenceSetRequest, caller: CallerDep
) -> Answer:
    """Replace the preference set, or merge into it. A user that does not exist is created."""
    return await _set_preferences(caller, user, id, body)


@router.delete("/users/{user_id}/preferences/{id}", summary="Unset a user's preference set", status_code=204)
async def unset_user_preferences(user: UserDep, id: SetIdDep, caller: CallerDep) -> Response:
    """Remove the preference set, if the user has it."""
    async with caller.statement() as connection:
        await unset(connection, caller.environment, user, "preferences", id)
    return Response(status_code=204)


@router.get(
    "/users/{user_id}/channel_data/{channel_id}", summary="Get a user's channel data", responses=_DATA
)
async def get_user_channel_data(user: UserDep, channel_id: Id, caller: CallerDep) -> Answer:
    """What the user has for the channel."""
    return await _get_channel_data(caller, user, channel_id)


@router.put(
    "/users/{user_id}/channel_data/{channel_id}", summary="Set a user's channel data", responses=_DATA
)
async def set_user_channel_data(
    user: UserDep, channel_id: Id, body: ChannelDataRequest, caller: CallerDep
) -> Answer:
    """Replace what the user has for the channel. A user that does not exist is created."""
    return await _set_channel_data(caller, user, channel_id, body)


@router.delete(
    "/users/{user_id}/channel_data/{channel_id}", summary="Unset a user's channel data", status_code=204
)
async def unset_user_channel_data(user: UserDep, channel_id: Id, caller: CallerDep) -> Response:
    """Remove what the user has for the channel."""
    async with caller.statement() as connection:
        await unset(connection, caller.environment, user, "channel_data", channel_id)
    return Response(status_code=204)


@router.get(
    "/objects/{collection}/{object_id}/preferences",
    summary="List an object's preference sets",
    responses=_SETS,
)
async def list_object_preferences(object_: ObjectDep, caller: CallerDep) -> Answer:
    """The preference sets that the object has, by id."""
    return await _list_preferences(caller, object_)


@router.get(
    "/objects/{collection}/{object_id}/preferences/{id}",
    summary="Get an object's preference set",
    responses=_SET,
)
async def get_object_preferences(
    object_: ObjectDep, id: SetIdDep, caller: CallerDep, tenant: TenantQuery = None
) -> Answer:
    """The preference set; one that the object does not have is empty."""
    return await _get_preferences(caller, object_, id)


@router.put(
    "/objects/{collection}/{object_id}/preferences/{id}",
    summary="Set an object's preference set",
    responses=_SET,
)
async def set_object_preferences(
    object_: ObjectDep, id: SetIdDep, body: PreferenceSetRequest, caller: CallerDep
) -> Answer:
    """Replace the preference set, or merge into it. An object that does not exist is created."""
    return await _set_preferences(caller, object_, id, body)


@router.delete(
    "/objects/{collection}/{object_id}/preferences/{id}",
    summary="Unset an object's preference set",
    status_code=204,
)
async def unset_object_preferences(object_: ObjectDep, id: SetIdDep, caller: CallerDep) -> Response:
    """Remove the preference set, if the object has it."""
    async with caller.statement() as connection:
        await unset(connection, caller.environment, object_, "preferences", id)
    return Response(status_code=204)


@router.get(
    "/objects/{collection}/{object_id}/channel_data/{channel_id}",
    summary="Get an object's channel data",
    responses=_DATA,
)
async def get_object_channel_data(object_: ObjectDep, channel_id: Id, caller: CallerDep) -> Answer:
    """What the object has for the channel."""
    return await _get_channel_data(caller, object_, channel_id)


@router.put(
    "/objects/{collection}/{object_id}/channel_data/{channel_id}",
    summary="Set an object's channel data",
    responses=_DATA,
)
async def set_object_channel_data(
    object_: ObjectDep, channel_id: Id, body: ChannelDataRequest, caller: CallerDep
) -> Answer:
    """Replace what the object has for the channel. An object that does not exist is created."""
    return await _set_channel_data(caller, object_, channel_id, body)


@router.delete(
    "/objects/{collection}/{object_id}/channel_data/{channel_id}",
    summary="Unset an object's channel data",
    status_code=204,
)
async def unset_object_channel_data(object_: ObjectDep, channel_id: Id, caller: CallerDep) -> Response:
    """Remove what the object has for the channel."""
    async with caller.statement() as connection:
        await unset(connection, caller.environment, object_, "channel_data", channel_id)
    return Response(status_code=204)
