"""The calls of Knock's API that become events when a source key makes them
(`app/api/reverse_etl/source_calls.py`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID, uuid5

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from app.api.directory import answers
from app.api.directory.answers import Answer
from app.api.directory.requests import (
    MAXIMUM_BULK_ITEMS,
    AudienceMembersRequest,
    BulkDeleteObjectsRequest,
    BulkDeleteSubscriptionsRequest,
    BulkDeleteUsersRequest,
    BulkIdentifyUsersRequest,
    BulkSetObjectsRequest,
    BulkSetTenantsRequest,
    BulkUpsertSubscriptionsRequest,
    CancelWorkflowRequest,
    DeleteSubscriptionsRequest,
    Id,
    IdentifyUserRequest,
    SetObjectRequest,
    SetTenantRequest,
    TriggerWorkflowRequest,
    UpsertSubscriptionsRequest,
    profile_of,
    reference_of,
)
from app.core.errors import FieldError, RequestError
from app.directory.bulk_operations import BulkProgress, Name
from app.directory.recipients import Json, Profile, Recipient, Reference
from app.directory.subscriptions import Subscription
from app.events.reception import ReceivedEvent
from app.models.types import now, time_of

ID: TypeAdapter[str] = TypeAdapter(Id)
_IDS: TypeAdapter[list[str]] = TypeAdapter(
    Annotated[list[Id], Field(min_length=1, max_length=MAXIMUM_BULK_ITEMS)]
)


@dataclass(frozen=True)
class Arguments:
    """A call as it was made: the names in its path, its body as sent, and the body as checked."""

    path: dict[str, str]
    body: Json
    checked: Any
    request: Request
    operation_id: UUID


@dataclass(frozen=True)
class Call:
    """One call of Knock's API: what is checked, which events it becomes, what is answered (204 if nothing
    else).

    `bulk`: the operation that its events are together.
    """

    method: str
    path: str
    event_type: str
    model: type[BaseModel] | None
    events: Callable[[Arguments], list[Json]]
    answer: Callable[[Arguments, Sequence[ReceivedEvent]], Response] | None = None
    bulk: Name | None = None


def invalid(found: list[FieldError]) -> RequestError:
    """422, naming the fields."""
    first = found[0]
    return RequestError(422, "invalid_params", f"{first.field}: {first.message}", errors=found)


def _recipient(profile: Profile) -> Recipient:
    """A recipient as it stands in an answer: with what this call says of it."""
    return Recipient(profile.reference, profile.properties, profile.preferences, now())


def _user(arguments: Arguments, events: Sequence[ReceivedEvent]) -> Response:
    profile = arguments.checked.profile(Reference.to_user(arguments.path["user_id"]))
    return Answer(answers.user(_recipient(profile)))


def _object(arguments: Arguments, events: Sequence[ReceivedEvent]) -> Response:
    reference = Reference(arguments.path["collection"], arguments.path["object_id"])
    return Answer(answers.object_(_recipient(arguments.checked.profile(reference))))


def _tenant(arguments: Arguments, events: Sequence[ReceivedEvent]) -> Response:
    profile = arguments.checked.profile(Reference.to_tenant(arguments.path["tenant_id"]))
    return Answer(answers.tenant(_recipient(profile)))


def _subscriptions(arguments: Arguments, events: Sequence[ReceivedEvent]) -> Response:
    """The subscriptions that are asked for, or asked to go."""
    reference = Reference(arguments.path["collection"], arguments.path["object_id"])
    moment = now()
    profiles = (
        [profile_of(each) for each in arguments.checked.recipients]
        if isinstance(arguments.checked, UpsertSubscriptionsRequest)
        else [Profile(reference_of(each)) for each in arguments.checked.recipients]
    )
    return Answer(
        [
            answers.subscription(
                Subscription(
                    object=Recipient(reference, {}, {}, moment),
                    recipient=_recipient(each),
                    properties=arguments.body.get("properties") or {},
                    inserted_at=moment,
                    updated_at=moment,
                )
            )
            for each in profiles
        ]
    )


def _run(arguments: Arguments, events: Sequence[ReceivedEvent]) -> Response:
    """The run's id: the event's, or one that follows from the Idempotency-Key, so that a repeat has the
    same."""
    event = events[0]
    key = event.idempotency_key
    run_id = event.id if key is None else uuid5(_runs_of(event), key)
    return Answer({"workflow_run_id": str(run_id)})


def _runs_of(event: ReceivedEvent) -> UUID:
    return uuid5(UUID(int=0), orjson.dumps([event.environment, event.source_key]).decode())


def operation(name: Name, arguments: Arguments, events: Sequence[ReceivedEvent]) -> Response:
    """The bulk operation that the events of a call are together, none of them processed yet."""
    moment = time_of(arguments.operation_id)
    queued = BulkProgress(
        id=arguments.operation_id,
        name=name,
        status="queued",
        estimated_total_rows=len(events),
        processed_rows=0,
        success_count=0,
        error_count=0,
        error_items=[],
        inserted_at=moment,
        updated_at=moment,
        started_at=None,
        completed_at=None,
        failed_at=None,
    )
    return Answer(answers.bulk_operation(queued, str(arguments.request.base_url)))


def _each(list_name: str, id_name: str, rest_name: str | None) -> Callable[[Arguments], list[Json]]:
    """An event for each item of a bulk call: its id, and the rest of it, beside the names of the path.

    Without `rest_name` the items are ids, or subscriptions.
    """

    def events(arguments: Arguments) -> list[Json]:
        found = []
        for item in arguments.body[list_name]:
            fields = item if isinstance(item, dict) else {"id": item}
            event = {**arguments.path, id_name: fields["id"]}
            if rest_name:
                event[rest_name] = {name: value for name, value in fields.items() if name != "id"}
            else:
                event |= {name: fields[name] for name in ("recipients", "properties") if name in fields}
            found.append(event)
        return found

    return events


def _query_flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("true", "1")


def _known(arguments: Arguments) -> Json:
    """The fields of the body that the call has."""
    names = type(arguments.checked).model_fields
    return {name: value for name, value in arguments.body.items() if name in names}


def _trigger(arguments: Arguments) -> list[Json]:
    key = arguments.request.headers.get("idempotency-key")
    event = {"workflow": arguments.path["key"], **_known(arguments)}
    return [{**event, "idempotency_key": key} if key else event]


def _tenants_to_delete(arguments: Arguments) -> list[Json]:
    try:
        ids = _IDS.validate_python(arguments.request.query_params.getlist("tenant_ids"))
    except ValidationError as error:
        raise invalid([FieldError("tenant_ids", error.errors()[0]["msg"])]) from None
    return [{"tenant_id": each} for each in ids]


_OBJECT_PATH = "/v1/objects/{collection}/{object_id}"
_SUBSCRIPTIONS_PATH = f"{_OBJECT_PATH}/subscriptions"

CALLS = (
    Call(
        "PUT",
        "/v1/users/{user_id}",
        "users:identify",
        IdentifyUserRequest,
        lambda call: [{**call.path, "user": call.body}],
        _user,
    ),
    Call("DELETE", "/v1/users/{user_id}", "users:delete", None, lambda call: [call.path]),
    Call(
        "POST",
        "/v1/users/bulk/identify",
        "users:identify",
        BulkIdentifyUsersRequest,
        _each("users", "user_id", "user"),
        bulk=Name.IDENTIFY_USERS,
    ),
    Call(
        "POST",
        "/v1/users/bulk/delete",
        "users:delete",
        BulkDeleteUsersRequest,
        _each("user_ids", "user_id", None),
        bulk=Name.DELETE_USERS,
    ),
    Call(
        "PUT",
        _OBJECT_PATH,
        "objects:set",
        SetObjectRequest,
        lambda call: [{**call.path, "object": call.body}],
        _object,
    ),
    Call("DELETE", _OBJECT_PATH, "objects:delete", None, lambda call: [call.path]),
    Call(
        "POST",
        "/v1/objects/{collection}/bulk/set",
        "objects:set",
        BulkSetObjectsRequest,
        _each("objects", "object_id", "object"),
        bulk=Name.SET_OBJECTS,
    ),
    Call(
        "POST",
        "/v1/objects/{collection}/bulk/delete",
        "objects:delete",
        BulkDeleteObjectsRequest,
        _each("object_ids", "object_id", None),
        bulk=Name.DELETE_OBJECTS,
    ),
    Call(
        "POST",
        _SUBSCRIPTIONS_PATH,
        "objects:subscribe",
        UpsertSubscriptionsRequest,
        lambda call: [{**call.path, **_known(call)}],
        _subscriptions,
    ),
    Call(
        "DELETE",
        _SUBSCRIPTIONS_PATH,
        "objects:unsubscribe",
        DeleteSubscriptionsRequest,
        lambda call: [{**call.path, **_known(call)}],
        _subscriptions,
    ),
    Call(
        "POST",
        "/v1/objects/{collection}/bulk/subscriptions/add",
        "objects:subscribe",
        BulkUpsertSubscriptionsRequest,
        _each("subscriptions", "object_id", None),
        bulk=Name.ADD_SUBSCRIPTIONS,
    ),
    Call(
        "POST",
        "/v1/objects/{collection}/bulk/subscriptions/delete",
        "objects:unsubscribe",
        BulkDeleteSubscriptionsRequest,
        _each("subscriptions", "object_id", None),
        bulk=Name.DELETE_SUBSCRIPTIONS,
    ),
    Call(
        "PUT",
        "/v1/tenants/{tenant_id}",
        "tenants:set",
        SetTenantRequest,
        lambda call: [{**call.path, "tenant": call.body}],
        _tenant,
    ),
    Call("DELETE", "/v1/tenants/{tenant_id}", "tenants:delete", None, lambda call: [call.path]),
    Call(
        "POST",
        "/v1/tenants/bulk/set",
        "tenants:set",
        BulkSetTenantsRequest,
        _each("tenants", "tenant_id", "tenant"),
        bulk=Name.SET_TENANTS,
    ),
    Call(
        "POST",
        "/v1/tenants/bulk/delete",
        "tenants:delete",
        None,
        _tenants_to_delete,
        bulk=Name.DELETE_TENANTS,
    ),
    Call(
        "POST",
        "/v1/audiences/{key}/members",
        "audiences:add",
        AudienceMembersRequest,
        lambda call: [
            {
                "audience": call.path["key"],
                "members": call.body["members"],
                "create_audience": _query_flag(call.request, "create_audience"),
            }
        ],
    ),
    Call(
        "DELETE",
        "/v1/audiences/{key}/members",
        "audiences:remove",
        AudienceMembersRequest,
        lambda call: [{"audience": call.path["key"], "members": call.body["members"]}],
    ),
    Call("POST", "/v1/workflows/{key}/trigger", "workflows:trigger", TriggerWorkflowRequest, _trigger, _run),
    Call(
        "POST",
        "/v1/workflows/{key}/cancel",
        "workflows:cancel",
        CancelWorkflowRequest,
        lambda call: [{"workflow": call.path["key"], **_known(call)}],
    ),
)
