"""The embedded directory's workflows: listed, read as steps, and edited as the JSON that the API takes."""

from typing import Any

import orjson
from fastapi import APIRouter, Response

from app.api.dashboard.directory import at_knock
from app.api.dashboard.forms import field_messages, read_form
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute, page_request
from app.api.dashboard.session import ReadVisit, WriteVisit
from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.directory.definitions import StoredWorkflow, get_workflow, list_workflows
from app.directory.edits import discard_workflow, write_workflow

router = APIRouter(prefix="/directory/workflows", route_class=PageRoute)
_EXAMPLE = {
    "name": "Payment received",
    "steps": [
        {
            "ref": "email_1",
            "type": "channel",
            "channel_type": "email",
            "template": {
                "subject": "Thank you, {{ recipient.name }}",
                "html_body": "<p>We have received {{ data.amount }}.</p>",
            },
        }
    ],
}


@router.get("")
async def show(visit: ReadVisit) -> Response:
    """The workflows by key."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    found = await list_workflows(visit.session, visit.environment.slug, page_request(visit.request))
    return visit.page("directory/workflows.html", found=found)


@router.get("/new")
async def ask_for_new(visit: WriteVisit) -> Response:
    """The editor with an example in it."""
    return _editor(visit, None, key="", definition=_written(_EXAMPLE))


@router.get("/{key}")
async def open_workflow(key: str, visit: ReadVisit) -> Response:
    """A workflow: its steps, and the editor."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    stored = await get_workflow(visit.session, visit.environment.slug, key)
    return _editor(visit, stored, key=key, definition=_written(stored.definition))


@router.post("")
async def write(visit: WriteVisit) -> Response:
    """Create or replace a workflow."""
    form = await read_form(visit.request)
    key, definition = form.text("key"), form.raw("definition")
    slug = visit.environment.slug
    try:
        body = {"workflow": _read(definition)}
        await write_workflow(
            visit.session, visit.access, visit.runtime.box, visit.runtime.templates, slug, key, body
        )
    except RequestError as error:
        errors = field_messages(error, within="workflow", names={"_key": "key"})
        return visit.part(
            "directory/workflow_form.html",
            error.status,
            is_new=form.is_on("new"),
            key=key,
            definition=definition,
            errors=errors,
        )
    await visit.session.commit()
    toast = "Saved: it counts from the next trigger on"
    return visit.go(visit.url(f"/directory/workflows/{key}"), toast=toast)


@router.post("/{key}/delete")
async def delete(key: str, visit: WriteVisit) -> Response:
    """Delete a workflow."""
    await discard_workflow(visit.session, visit.access, visit.environment.slug, key)
    await visit.session.commit()
    return visit.go(visit.url("/directory/workflows"), toast=f"{key} is deleted")


def _editor(visit: Visit, stored: StoredWorkflow | None, **context: Any) -> Response:
    return visit.page("directory/workflow.html", stored=stored, is_new=stored is None, errors={}, **context)


def _written(definition: Any) -> str:
    return exact_json.dumps(definition, option=orjson.OPT_INDENT_2).decode()


def _read(definition: str) -> Any:
    try:
        return exact_json.loads(definition)
    except orjson.JSONDecodeError as error:
        raise invalid_fields([FieldError("definition", f"is not JSON: {error}")]) from None
