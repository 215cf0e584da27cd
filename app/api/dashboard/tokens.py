"""The service tokens: issued and shown once, with a scope and for some environments or all, and revoked."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from app.account.tokens import list_tokens
from app.api.dashboard.forms import field_messages, parse_body, read_form
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import AccountAdminVisit
from app.api.management.service_tokens import (
    WrappedTokenRequest,
    issue_service_token,
    revoke_service_token,
)
from app.core.errors import RequestError

router = APIRouter(prefix="/settings/tokens", route_class=PageRoute)
_NEW: dict[str, Any] = {"name": "", "scope": "write", "environments": None}


@router.get("")
async def show(visit: AccountAdminVisit) -> Response:
    """The tokens, newest first."""
    return await _page(visit)


@router.post("")
async def issue(visit: AccountAdminVisit) -> Response:
    """Issue a token; its page shows it this once."""
    form = await read_form(visit.request)
    is_limited = form.text("reach") == "some"
    fields = {
        "name": form.text("name"),
        "scope": form.text("scope"),
        "environments": form.all("environments") if is_limited else None,
    }
    try:
        body = parse_body(WrappedTokenRequest, {"service_token": fields})
        issued = await issue_service_token(visit.access, visit.session, body)
    except RequestError as error:
        errors = field_messages(error, within="service_token")
        return await _page(visit, error.status, form=fields, errors=errors)
    return await _page(visit, issued=issued.service_token)


@router.post("/{identifier}/revoke")
async def revoke(identifier: UUID, visit: AccountAdminVisit) -> Response:
    """Let a token open nothing from now on."""
    await revoke_service_token(identifier, visit.access, visit.session)
    return visit.go(visit.url("/settings/tokens"), toast="The token is revoked")


async def _page(visit: Visit, status: int = 200, **context: Any) -> Response:
    tokens = await list_tokens(visit.session)
    shown: dict[str, Any] = {"tokens": tokens, "form": _NEW, "errors": {}, "issued": None}
    return visit.page("settings/tokens.html", status, **(shown | context))
