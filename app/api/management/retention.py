"""How long things are kept. Doorbell's own."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.account.audit import note_change
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.management.dependencies import AdminAccess, ReadAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Timestamp, WrappedRequest, example
from app.retention.periods import MAXIMUM_DAYS, RetentionKind, RetentionPlan, get_retention, set_retention

router = APIRouter(prefix="/retention", tags=["Retention"], route_class=ManagementRoute)

Days = Annotated[int, Field(ge=1, le=MAXIMUM_DAYS)]

_DAYS = {
    "payload_days": 7,
    "log_days": 30,
    "workflow_run_days": 90,
    "message_days": 90,
    "bulk_operation_days": 90,
}


class RetentionDays(BaseModel):
    """Days that each kind is kept, in all environments."""

    payload_days: int = Field(description="What senders sent: bodies and headers.")
    log_days: int = Field(description="The event log and the action log.")
    workflow_run_days: int = Field(description="Workflow runs of the directory, with their steps.")
    message_days: int = Field(description="Messages of those runs.")
    bulk_operation_days: int = Field(description="Bulk operations of the directory.")


class RetentionResponse(RetentionDays):
    """How long things are kept."""

    model_config = example(**_DAYS, defaults={**_DAYS, "payload_days": 30}, updated_at="2026-01-15T12:00:00Z")

    defaults: RetentionDays = Field(description="What holds for a kind that is not set: `DOORBELL_*_DAYS`.")
    updated_at: Timestamp | None = Field(description="When it was last set; null when it never was.")


class RetentionRequest(BaseModel):
    """How long things shall be kept. Fields that are not given stay as they are; null returns one to its
    default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payload_days: Days | None = Field(None, description="At most `log_days`.")
    log_days: Days | None = Field(
        None, description="At least the longest idempotency window of a source, in days."
    )
    workflow_run_days: Days | None = None
    message_days: Days | None = Field(None, description="At most `workflow_run_days`.")
    bulk_operation_days: Days | None = None


class WrappedRetentionRequest(WrappedRequest):
    """How long things shall be kept, under the key `retention`."""

    model_config = example(retention={"payload_days": 7})

    retention: RetentionRequest


class WrappedRetentionResponse(BaseModel):
    """How long things are kept, under the key `retention`."""

    retention: RetentionResponse


def _response(plan: RetentionPlan) -> RetentionResponse:
    return RetentionResponse(
        **_fields(plan.days), defaults=RetentionDays(**_fields(plan.defaults)), updated_at=plan.updated_at
    )


def _fields(days: Mapping[RetentionKind, int]) -> dict[str, int]:
    return {kind.value: each for kind, each in days.items()}


@router.get("", summary="Get retention")
async def read_retention(access: ReadAccess, session: SessionDep, runtime: RuntimeDep) -> RetentionResponse:
    """How long each kind of thing is kept, in all environments: their logs share partitions."""
    return _response(await get_retention(session, runtime.settings))


@router.put("", summary="Change retention")
async def write_retention(
    access: AdminAccess, session: SessionDep, runtime: RuntimeDep, body: WrappedRetentionRequest
) -> WrappedRetentionResponse:
    """What is past it goes within the hour. Events without a final status stay, whatever their age."""
    before = await get_retention(session, runtime.settings)
    change = {
        RetentionKind(name): days for name, days in body.retention.model_dump(exclude_unset=True).items()
    }
    after = await set_retention(session, runtime.settings, change)
    note_change(
        session,
        access,
        "retention.updated",
        ("retention", "account"),
        before=dict(_fields(before.days)),
        after=dict(_fields(after.days)),
    )
    await session.commit()
    return WrappedRetentionResponse(retention=_response(after))
