"""Tests of mappings on a payload, an event of the log or a sample: nothing is saved, logged or run.
Doorbell's own."""

from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.actions.paths import MISSING
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import ConfiguredDep, WriteAccess
from app.api.management.environment_limits import check_entry
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Json, example
from app.core.changes import Text
from app.models.status import ActionStatus
from app.replays.mapping_trials import MappingTest, TestedOn, TriedMapping, TriedParameter, try_mappings

router = APIRouter(
    prefix="/sources/{key}/mappings",
    tags=["Mappings"],
    route_class=ManagementRoute,
    responses={status: RESPONSES[status] for status in (404, 409, 503)},
)


class MappingTestRequest(BaseModel):
    """Which mappings to test, and on what."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "event_type": "invoice.paid",
                "payload": {"body": {"type": "invoice.paid", "data": {"object": {"customer": "cus_123"}}}},
            }
        },
    )

    event_type: Text = Field(description="The event type whose mappings are tested.")
    payload: Json | None = Field(
        None,
        description="`body` and `headers` of an event; without `body`, it is the body itself. Without a "
        "payload, the event of `log_id` is taken.",
    )
    log_id: UUID | None = Field(
        None,
        description="An entry of the source's log, of any environment. Without it, the latest event of the "
        "type that was received, else the provider's example.",
    )


class ParameterTestResponse(BaseModel):
    """A parameter of an action, evaluated."""

    name: str
    required: bool = Field(description="Whether the action needs it.")
    template: Any = Field(description="What the mapping sets it to: a path, a constant, or made of both.")
    has_value: bool = Field(description="Whether it has a value; without one and no error, it is left out.")
    value: Any = Field(description="Its value, as it would be sent.")
    error: str | None = Field(description="Why it has none.")


class TestedMappingResponse(BaseModel):
    """A mapping, and what would come of it."""

    mapping_id: UUID
    action_type: str
    active: bool = Field(description="Whether it runs: inactive mappings are tested too.")
    conditions: Json | None = Field(description="Its conditions; null: it always runs.")
    met: bool = Field(description="Whether its conditions are met; if not, `error` says which and why.")
    status: Literal["runs", "skipped", "failed"] = Field(
        description="What a worker would do: run the action, or skip or fail it for `error`."
    )
    payload: Json | None = Field(description="What would be sent.")
    error: str | None = Field(description="The first thing that is wrong; `parameters` shows all.")
    parameters: list[ParameterTestResponse] = Field(
        description="Those that the mapping sets or the action needs."
    )


class MappingTestResponse(BaseModel):
    """The mappings of an event type, evaluated on an event."""

    model_config = example(
        event_type="invoice.paid",
        origin="received",
        log_id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        identified_as="invoice.paid",
        error=None,
        preprocess=None,
        mappings=[
            {
                "mapping_id": "01a20df1-1111-72f9-a988-19f172a42afd",
                "action_type": "workflows_trigger",
                "active": True,
                "conditions": None,
                "met": True,
                "status": "runs",
                "payload": {"key": "invoice-paid", "recipients": ["cus_123"]},
                "error": None,
                "parameters": [
                    {
                        "name": "key",
                        "required": True,
                        "template": "invoice-paid",
                        "has_value": True,
                        "value": "invoice-paid",
                        "error": None,
                    },
                    {
                        "name": "recipients",
                        "required": False,
                        "template": "body.data.object.customer",
                        "has_value": True,
                        "value": ["cus_123"],
                        "error": None,
                    },
                ],
            }
        ],
    )

    event_type: str = Field(description="The event type whose mappings were tested.")
    origin: TestedOn = Field(
        description=(
            "`payload`: that of the request. `received`: an event of the log. `example`: the provider's."
        )
    )
    log_id: UUID | None = Field(description="The entry of the log, if it is one.")
    identified_as: str | None = Field(
        description=(
            "The event type of the event itself: when it is another, a worker would run other mappings."
        )
    )
    error: str | None = Field(description="What is wrong with the event itself.")
    preprocess: Json | None = Field(description="What preprocessing computed, by the configuration of now.")
    mappings: list[TestedMappingResponse] = Field(description="In the order in which they run.")


def _parameter(tried: TriedParameter) -> ParameterTestResponse:
    has_value = tried.value is not MISSING
    return ParameterTestResponse(
        name=tried.name,
        required=tried.required,
        template=tried.template,
        has_value=has_value,
        value=tried.value if has_value else None,
        error=tried.error,
    )


def _mapping(tried: TriedMapping) -> TestedMappingResponse:
    return TestedMappingResponse(
        mapping_id=tried.mapping.id,
        action_type=tried.mapping.action_type,
        active=tried.active,
        conditions=tried.mapping.conditions,
        met=tried.met,
        status="runs" if tried.status is ActionStatus.PENDING else tried.status.value,
        payload=tried.payload,
        error=tried.error,
        parameters=[_parameter(each) for each in tried.parameters],
    )


def _response(event_type: str, tested: MappingTest) -> MappingTestResponse:
    return MappingTestResponse(
        event_type=event_type,
        origin=tested.origin,
        log_id=tested.log_id,
        identified_as=tested.event.event_type,
        error=tested.event.error,
        preprocess=tested.event.preprocess_output,
        mappings=[_mapping(each) for each in tested.mappings],
    )


@router.post("/test", summary="Test mappings")
async def test_mappings(
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    body: MappingTestRequest,
) -> MappingTestResponse:
    """Evaluate the mappings of an event type, each parameter with its value or what is wrong with it, exactly
    as a worker does. No action runs."""
    await check_entry(session, access, body.log_id)
    tested = await try_mappings(
        session, runtime, configured, body.event_type, log_id=body.log_id, payload=body.payload
    )
    return _response(body.event_type, tested)
