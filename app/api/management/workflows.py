"""Workflow definitions of an environment: listed, read, saved, deleted. What runs them is the embedded
directory."""

from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import Annotate, EnvironmentDep, PageDep, ReadAccess, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import EntriesPage, Json, Timestamp, example, page_of
from app.directory.definition import WrappedWorkflow
from app.directory.definitions import StoredWorkflow, get_workflow, list_workflows
from app.directory.edits import discard_workflow, write_workflow

router = APIRouter(prefix="/workflows", tags=["Workflow definitions"], route_class=ManagementRoute)


class _DocumentedWorkflow:
    """Any body, documented as a workflow: `app.directory.definitions` validates it, to name all errors
    together."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(WrappedWorkflow.__pydantic_core_schema__)


WorkflowBody = Annotated[Any, Body(), _DocumentedWorkflow()]


class WorkflowResponse(BaseModel):
    """A workflow as it is now. `has_signing_secret` and `version_id` are Doorbell's own."""

    model_config = example(
        key="order-shipped",
        environment="development",
        name="Order shipped",
        description=None,
        categories=["orders"],
        steps=[
            {
                "ref": "wait",
                "type": "delay",
                "settings": {"delay_for": {"unit": "minutes", "value": 5}},
            }
        ],
        conditions=None,
        settings=None,
        trigger_frequency="every_trigger",
        active=True,
        valid=True,
        sha="4f2c8d10",
        version_id="01a20df1-e8fc-72f9-a988-19f172a42afd",
        has_signing_secret=False,
        created_at="2026-01-01T00:00:00Z",
        updated_at="2026-01-01T00:00:00Z",
        deleted_at=None,
    )

    key: str
    environment: str
    name: str
    description: str | None
    categories: list[str]
    steps: list[Json]
    conditions: Json | None
    settings: Json | None
    trigger_frequency: str
    active: bool
    valid: bool
    sha: str
    version_id: str
    has_signing_secret: bool
    created_at: Timestamp
    updated_at: Timestamp
    deleted_at: None = None


class WrappedWorkflowResponse(BaseModel):
    """A workflow under the key `workflow`."""

    workflow: WorkflowResponse


def _response(stored: StoredWorkflow) -> WorkflowResponse:
    given = stored.definition
    return WorkflowResponse(
        key=stored.key,
        environment=stored.environment,
        name=given["name"],
        description=given.get("description"),
        categories=given["categories"],
        steps=given["steps"],
        conditions=given.get("conditions"),
        settings=given.get("settings"),
        trigger_frequency=given["trigger_frequency"],
        active=True,
        valid=True,
        sha=stored.sha,
        version_id=str(stored.version_id),
        has_signing_secret=stored.has_signing_secret,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


@router.get("", summary="List workflows")
async def list_all_workflows(
    access: ReadAccess, session: SessionDep, environment: EnvironmentDep, page: PageDep
) -> EntriesPage[WorkflowResponse]:
    """The workflows of the environment by key."""
    return page_of(await list_workflows(session, environment, page), WorkflowResponse, _response)


@router.get("/{workflow_key}", summary="Get a workflow", responses={404: RESPONSES[404]})
async def read_workflow(
    workflow_key: str,
    access: ReadAccess,
    session: SessionDep,
    environment: EnvironmentDep,
    annotate: Annotate = None,
) -> WorkflowResponse:
    """The workflow as runs that are triggered now follow it."""
    return _response(await get_workflow(session, environment, workflow_key))


@router.put(
    "/{workflow_key}",
    summary="Create or replace a workflow",
    responses={400: RESPONSES[400], 413: RESPONSES[413]},
)
async def put_workflow(
    workflow_key: str,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    environment: EnvironmentDep,
    body: WorkflowBody,
    annotate: Annotate = None,
) -> WrappedWorkflowResponse:
    """It counts from the next trigger on; runs under way follow what it was when they were triggered."""
    stored = await write_workflow(
        session, access, runtime.box, runtime.templates, environment, workflow_key, body
    )
    await session.commit()
    return WrappedWorkflowResponse(workflow=_response(stored))


@router.delete(
    "/{workflow_key}", summary="Delete a workflow", status_code=204, responses={404: RESPONSES[404]}
)
async def remove_workflow(
    workflow_key: str, access: WriteAccess, session: SessionDep, environment: EnvironmentDep
) -> None:
    """Triggers of the key record runs that complete at once again; runs under way go on to their end."""
    await discard_workflow(session, access, environment, workflow_key)
    await session.commit()
