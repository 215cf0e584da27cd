"""The embedded directory's workflow runs with their steps, and the messages that they made."""

from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from app.api.dashboard.directory import at_knock, path_of
from app.api.dashboard.pages import SECURITY_HEADERS, Visit
from app.api.dashboard.request import PageRoute, page_request
from app.api.dashboard.session import ReadVisit, WriteVisit
from app.api.directory.answers import message_content
from app.core.errors import RequestError
from app.database.pages import PageRequest
from app.directory.definitions import get_version
from app.directory.lists import list_runs
from app.directory.messages import MessageFilter, StoredMessage, get_message, list_messages
from app.directory.recipients import Reference
from app.directory.workflow_runs import RecipientRun, cancel_run, get_run, get_steps, list_siblings, sends_end
from app.models.status import RunStatus
from app.models.types import now
from app.runtime.temporal_ui import run_url

router = APIRouter(prefix="/directory", route_class=PageRoute)
SIBLINGS = 25
MESSAGE_STATES = ("queued", "sent", "delivered", "undelivered", "not_sent")
# Emails carry their styles with them.
_OF_PREVIEWS = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri "
    "'none'; frame-ancestors 'self'"
)
_UNFINISHED = frozenset({RunStatus.QUEUED, RunStatus.PROCESSING, RunStatus.PAUSED})


@router.get("/workflow-runs")
async def show_runs(visit: ReadVisit) -> Response:
    """The runs, newest first."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    query = visit.request.query_params
    found = await list_runs(
        await visit.session.connection(),
        visit.environment.slug,
        page_request(visit.request),
        workflow=query.get("workflow") or None,
        statuses=[query["status"]] if query.get("status") else [],
        recipient=_recipient(query.get("user", "")),
    )
    return visit.page(
        "directory/runs.html", found=found, query=query, states=list(RunStatus), path_of=path_of
    )


@router.get("/workflow-runs/{identifier}")
async def show_run(identifier: UUID, visit: ReadVisit) -> Response:
    """A run: its steps, its messages, and the runs of the same trigger's other recipients."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    connection = await visit.session.connection()
    run = await _run(visit, identifier)
    wanted = MessageFilter(run_id=run.id)
    messages = await list_messages(connection, visit.environment.slug, PageRequest(100), wanted)
    return visit.page(
        "directory/run.html",
        run=run,
        definition=await get_version(connection, visit.environment.slug, run.workflow_run_id),
        steps=await get_steps(connection, run.id),
        messages={each.id: each for each in messages.items},
        siblings=await list_siblings(connection, visit.environment.slug, run, SIBLINGS),
        temporal_url=run_url(visit.runtime.settings, run.workflow_id, run.temporal_run_id),
        may_cancel=run.status in _UNFINISHED,
        moment=now(),
        path_of=path_of,
    )


@router.post("/workflow-runs/{identifier}/cancel")
async def cancel(identifier: UUID, visit: WriteVisit) -> Response:
    """Cancel a run: it sends nothing more."""
    run = await _run(visit, identifier)
    connection = await visit.session.connection()
    is_cancelled, is_followed = await cancel_run(connection, visit.environment.slug, run.id)
    await visit.session.commit()
    if is_followed:
        await sends_end(await visit.session.connection(), [run.id])
    said = "The run is cancelled" if is_cancelled else "The run was over already"
    return visit.go(visit.url(f"/directory/workflow-runs/{run.id}"), toast=said)


@router.get("/messages")
async def show_messages(visit: ReadVisit) -> Response:
    """The messages, newest first."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    query = visit.request.query_params
    wanted = MessageFilter(
        workflow=query.get("workflow") or None,
        statuses=[query["status"]] if query.get("status") else [],
        recipient=_recipient(query.get("user", "")),
    )
    found = await list_messages(
        await visit.session.connection(), visit.environment.slug, page_request(visit.request), wanted
    )
    return visit.page(
        "directory/messages.html", found=found, query=query, states=MESSAGE_STATES, path_of=path_of
    )


@router.get("/messages/{identifier}")
async def show_message(identifier: UUID, visit: ReadVisit) -> Response:
    """A message: what was sent, and what became of it."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    message = await _message(visit, identifier)
    steps = await get_steps(await visit.session.connection(), message.run_id)
    content = message_content(message)["data"]
    page = visit.page(
        "directory/message.html",
        message=message,
        content={name: each for name, each in content.items() if name != "__typename"},
        step=next((each for each in steps if each.message_id == message.id), None),
        path_of=path_of,
    )
    policy = SECURITY_HEADERS["content-security-policy"]
    page.headers["content-security-policy"] = f"{policy}; frame-src 'self'"
    return page


@router.get("/messages/{identifier}/preview")
async def preview(identifier: UUID, visit: ReadVisit) -> Response:
    """An email as it looks, for the frame on its page: without scripts, an origin, or anything from
    outside."""
    message = await _message(visit, identifier)
    html = message.content.get("html_body", "")
    return HTMLResponse(
        html, headers={"content-security-policy": _OF_PREVIEWS, "x-frame-options": "SAMEORIGIN"}
    )


async def _message(visit: Visit, identifier: UUID) -> StoredMessage:
    message = await get_message(await visit.session.connection(), visit.environment.slug, identifier)
    if message is None:
        raise RequestError(404, "resource_missing", f"There is no message {identifier}")
    return message


async def _run(visit: Visit, identifier: UUID) -> RecipientRun:
    run = await get_run(await visit.session.connection(), visit.environment.slug, identifier)
    if run is None:
        raise RequestError(404, "resource_missing", f"There is no workflow run {identifier}")
    return run


def _recipient(user_id: str) -> Reference | None:
    return Reference.to_user(user_id.strip()) if user_id.strip() else None
