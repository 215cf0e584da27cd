"""Objects, their collections, and who is subscribed to them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator

from app.api.directory import answers, schemas
from app.api.directory.access import CallerDep, KeyRoute
from app.api.directory.answers import Answer
from app.api.directory.parameters import Include, PageDep, references
from app.api.directory.requests import (
    BulkDeleteObjectsRequest,
    BulkDeleteSubscriptionsRequest,
    BulkSetObjectsRequest,
    BulkUpsertSubscriptionsRequest,
    DeleteSubscriptionsRequest,
    Id,
    SetObjectRequest,
    UpsertSubscriptionsRequest,
)
from app.directory.bulk_operations import (
    Name,
    ask_to_delete,
    ask_to_set,
    ask_to_subscribe,
    ask_to_unsubscribe,
)
from app.directory.lists import list_recipients
from app.directory.recipients import Reference, delete_recipients, get_recipient, set_recipient
from app.directory.subscriptions import (
    add_subscriptions,
    list_subscribers,
    list_subscriptions,
    remove_subscriptions,
)
from app.models.directory import USERS

router = APIRouter(prefix="/v1/objects", tags=["Objects"], route_class=KeyRoute)


def _not_of_users(collection: str) -> str:
    if collection == USERS:
        raise ValueError("users are not objects; they are at /v1/users")
    return collection


Collection = Annotated[
    Id, AfterValidator(_not_of_users), Path(description="The collection that the object belongs to.")
]
ObjectId = Annotated[Id, Path(description="The object's id, unique in its collection.")]
_A_SUBSCRIPTIONS_PAGE = schemas.answers(
    schemas.DirectoryPage[schemas.SubscriptionResponse], "A page of subscriptions.", missing=True
)
_AN_OPERATION = schemas.answers(
    schemas.BulkOperationResponse, "The operation, which goes on in the background."
)


@router.get(
    "/{collection}",
    summary="List objects of a collection",
    responses=schemas.answers(schemas.DirectoryPage[schemas.Object], "A page of objects."),
)
async def list_objects(
    collection: Collection,
    caller: CallerDep,
    page: PageDep,
    include: Include = [],  # noqa: B006
) -> Answer:
    """The collection's objects by id."""
    async with caller.statement() as connection:
        objects = await list_recipients(connection, caller.environment, collection, page)
    return answers.page(objects, lambda each: answers.object_(each, preferences="preferences" in include))


@router.put(
    "/{collection}/{id}", summary="Set an object", responses=schemas.answers(schemas.Object, "The object.")
)
async def set_object(
    collection: Collection, id: ObjectId, body: SetObjectRequest, caller: CallerDep
) -> Answer:
    """Create the object, or merge these properties into what it has."""
    async with caller.statement() as connection:
        found = await set_recipient(connection, caller.environment, body.profile(Reference(collection, id)))
    return Answer(answers.object_(found))


@router.get(
    "/{collection}/{id}",
    summary="Get an object",
    responses=schemas.answers(schemas.Object, "The object.", missing=True),
)
async def get_object(collection: Collection, id: ObjectId, caller: CallerDep) -> Answer:
    """The object with its properties."""
    async with caller.statement() as connection:
        found = await get_recipient(connection, caller.environment, Reference(collection, id))
    if found is None:
        raise answers.missing("object")
    return Answer(answers.object_(found))


@router.delete("/{collection}/{id}", summary="Delete an object", status_code=204)
async def delete_object(collection: Collection, id: ObjectId, caller: CallerDep) -> Response:
    """Delete the object, if there is one, with the subscriptions to it and of it."""
    async with caller.statement() as connection:
        await delete_recipients(connection, caller.environment, collection, [id])
    return Response(status_code=204)


@router.get(
    "/{collection}/{object_id}/subscriptions",
    summary="List an object's subscriptions",
    responses=_A_SUBSCRIPTIONS_PAGE,
)
async def list_object_subscriptions(
    collection: Collection,
    object_id: ObjectId,
    caller: CallerDep,
    page: PageDep,
    mode: Annotated[
        Literal["object", "recipient"],
        Query(description="`object`: who is subscribed to it. `recipient`: what it is subscribed to."),
    ] = "object",
    include: Include = [],  # noqa: B006
    recipients: Annotated[
        list[str], Query(description="Only these recipients, in mode `object`: ids, or `{id, collection}`.")
    ] = [],  # noqa: B006
    objects: Annotated[
        list[str], Query(description="Only these objects, in mode `recipient`: `{id, collection}` each.")
    ] = [],  # noqa: B006
) -> Answer:
    """The subscriptions to the object, or those that the object has, the newest first."""
    this = Reference(collection, object_id)
    only_recipients, only_objects = references(recipients, "recipients"), references(objects, "objects")
    async with caller.statement() as connection:
        if mode == "object":
            found = await list_subscribers(
                connection, caller.environment, this, page, recipients=only_recipients
            )
        else:
            found = await list_subscriptions(connection, caller.environment, this, page, objects=only_objects)
        if not found.items and await get_recipient(connection, caller.environment, this) is None:
            raise answers.missing("object")
    return answers.page(found, lambda each: answers.subscription(each, preferences="preferences" in include))


@router.post(
    "/{collection}/{object_id}/subscriptions",
    summary="Add subscriptions",
    responses=schemas.answers(list[schemas.SubscriptionResponse], "The subscriptions.", missing=True),
)
async def add_object_subscriptions(
    collection: Collection, object_id: ObjectId, body: UpsertSubscriptionsRequest, caller: CallerDep
) -> Answer:
    """Subscribe up to 100 recipients to the object, or update their subscriptions."""
    async with caller.transaction() as connection:
        subscriptions = await add_subscriptions(
            connection, caller.environment, body.subscribers(Reference(collection, object_id))
        )
    return Answer([answers.subscription(each) for each in subscriptions])


@router.delete(
    "/{collection}/{object_id}/subscriptions",
    summary="Delete subscriptions",
    responses=schemas.answers(list[schemas.SubscriptionResponse], "The subscriptions that were deleted."),
)
async def delete_object_subscriptions(
    collection: Collection, object_id: ObjectId, body: DeleteSubscriptionsRequest, caller: CallerDep
) -> Answer:
    """Delete up to 100 recipients' subscriptions to the object. Those that are not there are passed over."""
    async with caller.transaction() as connection:
        subscriptions = await remove_subscriptions(
            connection, caller.environment, Reference(collection, object_id), body.references()
        )
    return Answer([answers.subscription(each) for each in subscriptions])


@router.post("/{collection}/bulk/set", summary="Set objects in bulk", responses=_AN_OPERATION)
async def set_objects(
    collection: Collection, body: BulkSetObjectsRequest, caller: CallerDep, request: Request
) -> Answer:
    """Create or update up to 1,000 objects of the collection."""
    profiles = [each.profile(Reference(collection, each.id)) for each in body.objects]
    async with caller.transaction() as connection:
        operation = await ask_to_set(connection, caller.environment, Name.SET_OBJECTS, collection, profiles)
    return Answer(answers.bulk_operation(operation, str(request.base_url)))


@router.post("/{collection}/bulk/delete", summary="Delete objects in bulk", responses=_AN_OPERATION)
async def delete_objects(
    collection: Collection, body: BulkDeleteObjectsRequest, caller: CallerDep, request: Request
) -> Answer:
    """Delete up to 1,000 objects of the collection."""
    async with caller.transaction() as connection:
        operation = await ask_to_delete(
            connection, caller.environment, Name.DELETE_OBJECTS, collection, body.object_ids
        )
    return Answer(answers.bulk_operation(operation, str(request.base_url)))


@router.post(
    "/{collection}/bulk/subscriptions/add", summary="Add subscriptions in bulk", responses=_AN_OPERATION
)
async def add_subscriptions_in_bulk(
    collection: Collection, body: BulkUpsertSubscriptionsRequest, caller: CallerDep, request: Request
) -> Answer:
    """Subscribe recipients to up to 1,000 objects of the collection, up to 100 to each."""
    objects = [each.subscribers(Reference(collection, each.id)) for each in body.subscriptions]
    async with caller.transaction() as connection:
        operation = await ask_to_subscribe(connection, caller.environment, collection, objects)
    return Answer(answers.bulk_operation(operation, str(request.base_url)))


@router.post(
    "/{collection}/bulk/subscriptions/delete",
    summary="Delete subscriptions in bulk",
    responses=_AN_OPERATION,
)
async def delete_subscriptions_in_bulk(
    collection: Collection, body: BulkDeleteSubscriptionsRequest, caller: CallerDep, request: Request
) -> Answer:
    """Delete recipients' subscriptions to up to 1,000 objects of the collection."""
    objects = [(each.id, each.references()) for each in body.subscriptions]
    async with caller.transaction() as connection:
        operation = await ask_to_unsubscribe(connection, caller.environment, collection, objects)
    return Answer(answers.bulk_operation(operation, str(request.base_url)))
