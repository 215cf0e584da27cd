"""Workflows: trigger and cancel, and the runs that came of it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.directory import answers
from app.api.directory.access import Caller, CallerDep, KeyRoute
from app.api.directory.answers import Answer
from app.api.directory.parameters import PageDep, reference
from app.api.directory.requests import (
    CancelWorkflowRequest,
    Id,
    RunStatus,
    TriggerWorkflowRequest,
    reference_of,
)
from app.api.directory.triggers import digest_of_request, trigger_of
from app.core.settings import Settings
from app.directory.idempotency import claim_key
from app.directory.lists import list_runs
from app.directory.recipients import set_recipients
from app.directory.workflow_runs import (
    RecipientRun,
    cancel_runs,
    get_run,
    get_steps,
    record_trigger,
    sends_end,
)
from app.models.status import StepStatus
from app.models.types import Moment, new_id
from app.runtime.resources import Runtime

router = APIRouter(prefix="/v1", tags=["Workflows"], route_class=KeyRoute)

StepType = Literal["delay", "http_fetch", "channel"]


async def _settings(request: Request) -> Settings | None:
    """The settings of an API process. The directory within a worker has none, and shows no links."""
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    return runtime.settings if runtime else None


SettingsDep = Annotated[Settings | None, Depends(_settings)]


@router.post("/workflows/{key}/trigger", summary="Trigger a workflow")
async def trigger_workflow(
    key: Id,
    body: TriggerWorkflowRequest,
    request: Request,
    caller: CallerDep,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Answer:
    """Run a workflow for up to 1,000 recipients, and for all who subscribe to the objects among them. Those
    given with properties are identified first.

    A request repeated with its Idempotency-Key within 24 hours gets the first answer again and runs nothing.
    """
    trigger = trigger_of(key, body)
    answer = {"workflow_run_id": str(workflow_run_id := new_id())}
    async with caller.transaction() as connection:
        if idempotency_key:
            kept = await claim_key(
                connection,
                caller.environment,
                idempotency_key,
                request_digest=digest_of_request(request.url.path, await request.json()),
                request_id=request.state.request_id,
                response=answer,
            )
            if kept is not None:
                return _again(kept.response, kept.request_id)
        await set_recipients(connection, caller.environment, body.profiles())
        await record_trigger(connection, caller.environment, workflow_run_id, trigger)
    return Answer(answer)


def _again(response: dict[str, object], original_request_id: str) -> Answer:
    return Answer(
        response, headers={"idempotent-replayed": "true", "original-x-request-id": original_request_id}
    )


@router.post("/workflows/{key}/cancel", summary="Cancel a workflow", status_code=204)
async def cancel_workflow(key: str, body: CancelWorkflowRequest, caller: CallerDep) -> Response:
    """Cancel the runs of a workflow that were triggered with this cancellation key and are not done, those of
    subscribers too.

    Once this is answered they send nothing more: what was being sent just then is waited for.
    """
    recipients = None if body.recipients is None else [reference_of(each) for each in body.recipients]
    async with caller.transaction() as connection:
        runs = await cancel_runs(connection, caller.environment, key, body.cancellation_key, recipients)
    if runs:
        async with caller.statement() as connection:
            await sends_end(connection, runs)
    return Response(status_code=204)


@router.get("/workflow_recipient_runs", summary="List workflow runs")
async def list_workflow_recipient_runs(
    caller: CallerDep,
    settings: SettingsDep,
    page: PageDep,
    workflow: str | None = None,
    status: Annotated[list[RunStatus], Query()] = [],  # noqa: B006
    tenant: str | None = None,
    has_errors: bool | None = None,
    recipient: Annotated[str | None, Query(description="A user's id, or `{id, collection}`.")] = None,
    starting_at: Moment | None = None,
    ending_at: Moment | None = None,
) -> Answer:
    """One entry for each recipient of each trigger, the newest first."""
    only = reference(recipient, "recipient") if recipient else None
    async with caller.statement() as connection:
        runs = await list_runs(
            connection,
            caller.environment,
            page,
            workflow=workflow,
            statuses=status,
            tenant=tenant,
            has_errors=has_errors,
            recipient=only,
            starting_at=starting_at,
            ending_at=ending_at,
        )
    return answers.page(runs, lambda run: answers.recipient_run(run, settings), "items")


@router.get("/workflow_recipient_runs/{id}", summary="Get a workflow run")
async def get_workflow_recipient_run(id: str, caller: CallerDep, settings: SettingsDep) -> Answer:
    """One recipient's run, with the events that it went through, and its steps (Doorbell's own)."""
    async with caller.statement() as connection:
        run = await _run(connection, caller, id)
        steps = await get_steps(connection, run.id)
    shown = {
        "events": [answers.run_event(run, each) for each in steps],
        "steps": [answers.run_step(each) for each in steps],
    }
    return Answer(answers.recipient_run(run, settings) | shown)


@router.get("/workflow_recipient_runs/{id}/steps", summary="List the steps of a workflow run")
async def list_workflow_run_steps(
    id: str,
    caller: CallerDep,
    status: Annotated[list[StepStatus], Query()] = [],  # noqa: B006
    type: Annotated[list[StepType], Query()] = [],  # noqa: B006
) -> Answer:
    """The steps that the run has come to, in their order. Doorbell's own."""
    async with caller.statement() as connection:
        run = await _run(connection, caller, id)
        steps = await get_steps(connection, run.id)
    shown = [
        answers.run_step(each)
        for each in steps
        if (not status or each.status in status) and (not type or each.type in type)
    ]
    return Answer({"items": shown})


async def _run(connection: AsyncConnection, caller: Caller, id: str) -> RecipientRun:
    what = "workflow recipient run"
    run = await get_run(connection, caller.environment, answers.identifier(id, what))
    if run is None:
        raise answers.missing(what)
    return run
