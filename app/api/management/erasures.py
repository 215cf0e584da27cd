"""The right of erasure: users whose data is deleted on request. Doorbell's own."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.account.audit import note_change
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import AdminAccess, EnvironmentDep, EnvironmentFilterDep, PageDep
from app.api.management.request import ManagementRoute
from app.api.management.schemas import EntriesPage, Timestamp, WrappedRequest, example, page_of
from app.core.errors import FieldError
from app.core.validation import invalid_fields
from app.models.erasure import Erasure
from app.models.types import Moment
from app.retention.erasure import ErasureRequest, ask_to_erase, get_erasure, list_erasures, progress_of

router = APIRouter(prefix="/erasures", tags=["Erasures"], route_class=ManagementRoute)

MAXIMUM_TEXTS = 20
Text = Annotated[str, StringConstraints(min_length=3, max_length=255)]

_COUNTS = {
    "event_payloads": 12,
    "actions": 24,
    "events": 12,
    "messages": 3,
    "workflow_recipient_runs": 3,
    "workflow_runs": 2,
    "directory_subscriptions": 1,
    "directory_audience_members": 0,
    "directory_recipients": 1,
    "bulk_operations": 0,
    "applied_changes": 1,
    "unfinished_events": 0,
    "unfinished_runs": 0,
}
_ERASURE = {
    "id": "01a20df1-e8fc-72f9-a988-19f172a42afd",
    "environment": "production",
    "user_id": "ada",
    "dry_run": False,
    "status": "completed",
    "progress": 1.0,
    "phase": "done",
    "counts": _COUNTS,
    "starting_at": None,
    "ending_at": None,
    "requested_by": "privacy",
    "inserted_at": "2026-01-15T12:00:00Z",
    "updated_at": "2026-01-15T12:00:04Z",
    "finished_at": "2026-01-15T12:00:04Z",
}


class NewErasure(BaseModel):
    """Whose data is deleted."""

    model_config = ConfigDict(extra="forbid")

    user_id: Annotated[str, StringConstraints(min_length=1, max_length=1000)] = Field(
        description="The user's id, as actions name it."
    )
    dry_run: bool = Field(False, description="Only count what would be deleted.")
    search: list[Text] = Field(
        [],
        max_length=MAXIMUM_TEXTS,
        description="Erase also each event whose body, headers or preprocess output hold one of these texts: "
        "the id or an address in payloads that no action used. Case-sensitive. Forgotten when it is over.",
    )
    starting_at: Moment | None = Field(None, description="`search` only looks at or after this time.")
    ending_at: Moment | None = Field(None, description="`search` only looks at or before this time.")


class WrappedNewErasure(WrappedRequest):
    """An erasure to make, under the key `erasure`."""

    model_config = example(erasure={"user_id": "ada", "search": ["ada@example.com"], "dry_run": True})

    erasure: NewErasure


class ErasureResponse(BaseModel):
    """An erasure, and how far it is."""

    model_config = example(**_ERASURE)

    id: UUID
    environment: str
    user_id: str
    dry_run: bool
    status: str = Field(description="`queued`, `processing`, `completed` or `failed`.")
    progress: float = Field(description="How much of the log's time has been looked through, from 0 to 1.")
    phase: str = Field(description="`actions`, `payloads`, `late_events`, `directory` or `done`.")
    counts: dict[str, int] = Field(
        description="Rows deleted so far by table, or that would be. Of `events`, `actions` and "
        "`bulk_operations`: rows that stay without what was sent. `unfinished_events` and `unfinished_runs` "
        "were in mid-work for an hour: erase again when they are over."
    )
    starting_at: Timestamp | None
    ending_at: Timestamp | None
    requested_by: str = Field(description="The service token's name.")
    inserted_at: Timestamp
    updated_at: Timestamp
    finished_at: Timestamp | None


class WrappedErasureResponse(BaseModel):
    """An erasure under the key `erasure`."""

    erasure: ErasureResponse


def _response(erasure: Erasure) -> ErasureResponse:
    hidden = {"search", "cursor", "begins_at", "ends_at", "late"}
    return ErasureResponse(**erasure.model_dump(exclude=hidden), progress=progress_of(erasure))


@router.post("", summary="Erase a user", status_code=202)
async def erase_user(
    access: AdminAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    environment: EnvironmentDep,
    body: WrappedNewErasure,
) -> WrappedErasureResponse:
    """Delete what is stored of a user in an environment, in batches, by a worker of the environment.

    Log entries stay, marked by `erased_at`, without anything that was sent. What arrives later is not looked
    at.
    """
    wanted = body.erasure
    request = ErasureRequest(
        wanted.user_id, wanted.dry_run, wanted.search, wanted.starting_at, wanted.ending_at
    )
    if request.starting_at and request.ending_at and request.ending_at < request.starting_at:
        raise invalid_fields([FieldError("erasure.ending_at", "is before starting_at")])
    erasure = await ask_to_erase(session, runtime.box, environment, request, access.name)
    # Of the request, neither the texts nor their number: the log of changes is kept for ever.
    action = "user.erasure_counted" if request.dry_run else "user.erasure_requested"
    note_change(
        session,
        access,
        action,
        ("user", request.user_id),
        environment=environment,
        after={"erasure_id": str(erasure.id)},
    )
    await session.commit()
    return WrappedErasureResponse(erasure=_response(erasure))


@router.get("", summary="List erasures")
async def list_all_erasures(
    access: AdminAccess, session: SessionDep, page: PageDep, environment: EnvironmentFilterDep = None
) -> EntriesPage[ErasureResponse]:
    """All erasures, newest first."""
    return page_of(await list_erasures(session, environment, page), ErasureResponse, _response)


@router.get("/{id}", summary="Get an erasure", responses={404: RESPONSES[404]})
async def read_erasure(id: UUID, access: AdminAccess, session: SessionDep) -> ErasureResponse:
    """How far an erasure is, and what it deleted."""
    return _response(await get_erasure(session, id))
