"""The variables that scripts read: a default, and values of some environments in its place."""

from typing import Any

from fastapi import APIRouter, Response

from app.account.variables import FoundVariable, find_variable, get_variable, list_variables
from app.api.dashboard.forms import Form, field_messages, parse_body, read_form
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute, page_request
from app.api.dashboard.session import AccountWriteVisit, ReadVisit
from app.api.management.variables import (
    WrappedVariableRequest,
    check_key,
    remove_variable,
    variable_response,
    write_variable,
)
from app.core.errors import RequestError
from app.core.secrets import REDACTED

router = APIRouter(prefix="/settings/variables", route_class=PageRoute)


@router.get("")
async def show(visit: ReadVisit) -> Response:
    """The variables, as the environment on view sees them."""
    found = await list_variables(visit.session, visit.runtime.box, page_request(visit.request), type=None)
    shown = [(each, variable_response(each, visit.access)) for each in found.items]
    return visit.page("settings/variables.html", found=found, shown=shown)


@router.get("/edit")
async def ask(visit: AccountWriteVisit, key: str = "") -> Response:
    """The dialog that sets one: a new one, or this."""
    found = await get_variable(visit.session, visit.runtime.box, key) if key else None
    return visit.part("settings/variable_dialog.html", **_context(visit, found))


@router.post("")
async def write(visit: AccountWriteVisit) -> Response:
    """Set a variable. A secret value that was left empty stays as it is."""
    form = await read_form(visit.request)
    key = form.text("key")
    found = await find_variable(visit.session, visit.runtime.box, key)
    try:
        if found and not form.is_on("existing"):
            raise RequestError(422, "invalid_params", f"There is a variable {key} already: change that one")
        await check_key(key)
        body = parse_body(WrappedVariableRequest, {"variable": _fields(visit, form, found)})
        await write_variable(key, visit.access, visit.session, visit.runtime, body)
    except RequestError as error:
        context = _context(visit, found if form.is_on("existing") else None)
        errors = field_messages(error, within="variable")
        return visit.part(
            "settings/variable_form.html", error.status, **context | {"form": form, "errors": errors}
        )
    return visit.go(visit.url("/settings/variables"), toast=f"{key} is set: scripts read it from now on")


@router.post("/delete")
async def delete(visit: AccountWriteVisit) -> Response:
    """Delete a variable."""
    key = (await read_form(visit.request)).text("key")
    await remove_variable(key, visit.access, visit.session, visit.runtime)
    return visit.go(visit.url("/settings/variables"), toast=f"{key} is deleted")


def _fields(visit: Visit, form: Form, found: FoundVariable | None) -> dict[str, Any]:
    """The variable as the form wants it. What is secret is not sent to browsers: empty there is kept, not
    emptied."""
    kind = "secret" if found and found.variable.type == "secret" else form.text("type")
    is_kept = found is not None and found.variable.type == "secret"
    fields: dict[str, Any] = {"type": kind, "description": form.optional("description")}
    if form.raw("value") or not is_kept:
        fields["value"] = form.raw("value") or None
    present = found.environment_values if found and is_kept else {}
    values = {each.slug: form.raw(f"in_{each.slug}") or present.get(each.slug) for each in visit.environments}
    removed = set(form.all("remove"))
    return {
        **fields,
        "environment_values": {slug: None if slug in removed else each for slug, each in values.items()},
    }


def _context(visit: Visit, found: FoundVariable | None) -> dict[str, Any]:
    shown = None if found is None else variable_response(found, visit.access)
    return {"found": shown, "form": None, "errors": {}, "redacted": REDACTED}
