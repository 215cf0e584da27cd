"""Messages: listed, read, marked."""

from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.api.directory import answers, schemas
from app.api.directory.access import CallerDep, KeyRoute
from app.api.directory.answers import Answer
from app.api.directory.parameters import PageDep
from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.directory.messages import (
    Mark,
    MessageFilter,
    StoredMessage,
    get_message,
    list_messages,
    mark_message,
)
from app.directory.recipients import Reference
from app.models.types import Moment

router = APIRouter(prefix="/v1", tags=["Messages"], route_class=KeyRoute)

_A_PAGE = schemas.answers(schemas.MessagesPage, "A page of messages.")
_A_MESSAGE = schemas.answers(schemas.MessageResponse, "The message.", missing=True)

MAXIMUM_IDS = 50

Status = Literal["queued", "sent", "delivered", "delivery_attempted", "undelivered", "not_sent", "bounced"]
Engagement = Literal[
    "seen", "unseen", "read", "unread", "archived", "unarchived", "link_clicked", "interacted"
]
# A message can be seen and unseen again; what was done with it stays done.
Undoable = Literal["seen", "read", "archived"]


class _InsertedAt(BaseModel):
    gt: Moment | None = None
    gte: Moment | None = None
    lt: Moment | None = None
    lte: Moment | None = None


_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_INSERTED_AT: TypeAdapter[_InsertedAt] = TypeAdapter(_InsertedAt)


async def _filter(
    source: Annotated[str | None, Query(description="Only those of this workflow.")] = None,
    channel_id: Annotated[str | None, Query(description="Only those of this channel.")] = None,
    tenant: str | None = None,
    workflow_run_id: UUID | None = None,
    workflow_recipient_run_id: UUID | None = None,
    message_ids: Annotated[list[UUID], Query(max_length=MAXIMUM_IDS)] = [],  # noqa: B006
    status: Annotated[list[Status], Query()] = [],  # noqa: B006
    engagement_status: Annotated[list[Engagement], Query()] = [],  # noqa: B006
    workflow_categories: Annotated[list[str], Query()] = [],  # noqa: B006
    trigger_data: Annotated[
        str | None, Query(description="JSON that the message's data must contain.")
    ] = None,
    inserted_at: Annotated[
        str | None, Query(description="`inserted_at[gte]=...`, with gt, gte, lt, lte.")
    ] = None,
) -> MessageFilter:
    times = _parsed(inserted_at, _INSERTED_AT, "inserted_at") or _InsertedAt()
    return MessageFilter(
        workflow=source,
        channel=channel_id,
        tenant=tenant,
        workflow_run_id=workflow_run_id,
        run_id=workflow_recipient_run_id,
        ids=message_ids or None,
        statuses=status,
        engagement=engagement_status,
        categories=workflow_categories,
        trigger_data=_parsed(trigger_data, _OBJECT, "trigger_data"),
        after=times.gt,
        at_or_after=times.gte,
        before=times.lt,
        at_or_before=times.lte,
    )


def _parsed(text: str | None, adapter: TypeAdapter[Any], field: str) -> Any:
    if text is None:
        return None
    try:
        return adapter.validate_python(exact_json.loads(text))
    except (orjson.JSONDecodeError, ValidationError):
        error = FieldError(field, "cannot be read")
        raise RequestError(422, "invalid_params", f"{field} {error.message}", errors=[error]) from None


FilterDep = Annotated[MessageFilter, Depends(_filter)]


async def _page(caller: CallerDep, page: PageDep, wanted: MessageFilter) -> Answer:
    async with caller.statement() as connection:
        found = await list_messages(connection, caller.environment, page, wanted)
    return answers.page(found, answers.message, "items")


@router.get("/messages", summary="List messages", responses=_A_PAGE)
async def list_all_messages(caller: CallerDep, page: PageDep, wanted: FilterDep) -> Answer:
    """The messages that workflows made, the newest first."""
    return await _page(caller, page, wanted)


@router.get("/users/{user_id}/messages", summary="List a user's messages", responses=_A_PAGE)
async def list_user_messages(user_id: str, caller: CallerDep, page: PageDep, wanted: FilterDep) -> Answer:
    """The messages that workflows made for the user, the newest first."""
    return await _page(caller, page, _for(wanted, Reference.to_user(user_id)))


@router.get("/objects/{collection}/{id}/messages", summary="List an object's messages", responses=_A_PAGE)
async def list_object_messages(
    collection: str, id: str, caller: CallerDep, page: PageDep, wanted: FilterDep
) -> Answer:
    """The messages that workflows made for the object, the newest first."""
    return await _page(caller, page, _for(wanted, Reference(collection, id)))


def _for(wanted: MessageFilter, recipient: Reference) -> MessageFilter:
    return MessageFilter(**{**vars(wanted), "recipient": recipient})


async def _id(id: str) -> UUID:
    return answers.identifier(id, "message")


IdDep = Annotated[UUID, Depends(_id)]


def _found(message: StoredMessage | None) -> StoredMessage:
    if message is None:
        raise answers.missing("message")
    return message


@router.get("/messages/{id}", summary="Get a message", responses=_A_MESSAGE)
async def read_message(message_id: IdDep, caller: CallerDep) -> Answer:
    """The message, without what it says: that is its content."""
    async with caller.statement() as connection:
        return Answer(answers.message(_found(await get_message(connection, caller.environment, message_id))))


@router.get(
    "/messages/{id}/content",
    summary="Get a message's content",
    responses=schemas.answers(schemas.MessageContents, "The content.", missing=True),
)
async def read_message_content(message_id: IdDep, caller: CallerDep) -> Answer:
    """What the message says, as it was rendered."""
    async with caller.statement() as connection:
        found = _found(await get_message(connection, caller.environment, message_id))
    return Answer(answers.message_content(found))


@router.put("/messages/{id}/{mark}", summary="Mark a message", responses=_A_MESSAGE)
async def set_mark(message_id: IdDep, mark: Mark, caller: CallerDep) -> Answer:
    """Mark the message as seen, read, interacted with or archived. Read implies seen, interacted both."""
    async with caller.transaction() as connection:
        found = await mark_message(connection, caller.environment, message_id, mark)
    return Answer(answers.message(_found(found)))


@router.delete("/messages/{id}/{mark}", summary="Remove a mark", responses=_A_MESSAGE)
async def remove_mark(message_id: IdDep, mark: Undoable, caller: CallerDep) -> Answer:
    """Mark the message as unseen, unread or unarchived."""
    async with caller.transaction() as connection:
        found = await mark_message(connection, caller.environment, message_id, mark, undo=True)
    return Answer(answers.message(_found(found)))
