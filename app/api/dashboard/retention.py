"""How long things are kept, and the erasures of users."""

from typing import Any

from fastapi import APIRouter, Response

from app.account.tokens import Scope
from app.api.dashboard.forms import field_messages, parse_body, read_form
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute, page_request
from app.api.dashboard.session import AccountAdminVisit, AccountReadVisit
from app.api.management.retention import WrappedRetentionRequest, write_retention
from app.core.errors import RequestError
from app.retention.erasure import list_erasures, progress_of
from app.retention.periods import MAXIMUM_DAYS, RetentionKind, get_retention

router = APIRouter(prefix="/settings/retention", route_class=PageRoute)
_KINDS = (
    (
        RetentionKind.PAYLOADS,
        "Payloads",
        "What senders sent: bodies and headers. At most as long as the logs.",
    ),
    (
        RetentionKind.LOGS,
        "Logs",
        "The event log and the action log. At least the longest idempotency window of a source.",
    ),
    (RetentionKind.WORKFLOW_RUNS, "Workflow runs", "Runs of the embedded directory, with their steps."),
    (RetentionKind.MESSAGES, "Messages", "Messages of those runs. At most as long as the runs."),
    (RetentionKind.BULK_OPERATIONS, "Bulk operations", "Bulk operations of the embedded directory."),
)


@router.get("")
async def show(visit: AccountReadVisit) -> Response:
    """The days, and the erasures of the environment on view for who may see them."""
    return await _page(visit)


@router.post("")
async def change(visit: AccountAdminVisit) -> Response:
    """Set the days; an empty field returns to its default."""
    form = await read_form(visit.request)
    typed = {kind.value: form.number(kind.value) for kind in RetentionKind}
    try:
        body = parse_body(WrappedRetentionRequest, {"retention": typed})
        await write_retention(visit.access, visit.session, visit.runtime, body)
    except RequestError as error:
        return await _page(
            visit, error.status, values=typed, errors=field_messages(error, within="retention")
        )
    return visit.go(visit.url("/settings/retention"), toast="Saved: what is past it goes within the hour")


async def _page(visit: Visit, status: int = 200, **context: Any) -> Response:
    plan = await get_retention(visit.session, visit.runtime.settings)
    erasures = None
    if visit.may(Scope.ADMIN):
        erasures = await list_erasures(visit.session, visit.environment.slug, page_request(visit.request))
    own = {kind.value: days if days != plan.defaults[kind] else None for kind, days in plan.days.items()}
    shown: dict[str, Any] = {
        "plan": plan,
        "kinds": _KINDS,
        "values": own,
        "errors": {},
        "erasures": erasures,
        "progress_of": progress_of,
        "maximum": MAXIMUM_DAYS,
    }
    return visit.page("settings/retention.html", status, **(shown | context))
