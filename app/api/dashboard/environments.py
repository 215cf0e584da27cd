"""The environments: made, named, ordered, where their actions run, and the keys of their directories.

Every change is made by the operation of the Management API, whose audit entry it gets.
"""

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from app.account.audit import environment_snapshot, note_change
from app.account.environments import get_environment, list_environments
from app.account.tokens import list_keys
from app.api.dashboard.forms import field_messages, parse_body, read_form
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import AccountAdminVisit
from app.api.management.environment_changes import (
    WrappedEnvironmentRequest,
    WrappedNewEnvironmentRequest,
    make_environment,
    remove_environment,
    save_environment,
)
from app.api.management.environments import (
    WrappedDestinationRequest,
    WrappedKeyRequest,
    issue_environment_key,
    revoke_environment_key,
    save_destination,
)
from app.core.errors import RequestError
from app.runtime.resources import save
from app.sources.environments import change_environment

router = APIRouter(prefix="/settings/environments", route_class=PageRoute)
KNOCK = "https://api.knock.app"
_NEW = {"slug": "", "name": "", "is_production": False}


@router.get("")
async def show(visit: AccountAdminVisit) -> Response:
    """The environments in their order."""
    return visit.page("settings/environments.html")


@router.get("/new")
async def ask_for_new(visit: AccountAdminVisit) -> Response:
    """The dialog that makes one."""
    return visit.part("settings/environment_new.html", form=_NEW, errors={})


@router.post("")
async def make(visit: AccountAdminVisit) -> Response:
    """Make an environment; its page comes next."""
    form = await read_form(visit.request)
    fields = {
        "slug": form.text("slug"),
        "name": form.text("name"),
        "is_production": form.is_on("is_production"),
    }
    try:
        body = parse_body(WrappedNewEnvironmentRequest, {"environment": fields})
        await make_environment(visit.access, visit.session, visit.runtime, body)
    except RequestError as error:
        errors = field_messages(error, within="environment")
        return visit.part("settings/environment_form.html", error.status, form=fields, errors=errors)
    made = fields["slug"]
    return visit.go(visit.url(f"/settings/environments/{made}"), toast=f"{fields['name']} is there")


@router.get("/{slug}")
async def open_environment(slug: str, visit: AccountAdminVisit) -> Response:
    """An environment's page."""
    return await _page(visit, slug)


@router.post("/{slug}")
async def change(slug: str, visit: AccountAdminVisit) -> Response:
    """Rename it, or say whether it is production."""
    form = await read_form(visit.request)
    environment = await get_environment(visit.session, slug)
    fields = {
        "name": form.text("name"),
        "is_production": form.is_on("is_production"),
        "label_color": form.optional("label_color"),
    }

    async def apply() -> None:
        body = parse_body(WrappedEnvironmentRequest, {"environment": fields})
        await save_environment(visit.access, environment, visit.session, visit.runtime, body)

    return await _changed(visit, slug, apply(), "environment", "Saved", {"values": fields})


@router.post("/{slug}/move")
async def move(slug: str, visit: AccountAdminVisit) -> Response:
    """Move it one place up or down."""
    direction = -1 if (await read_form(visit.request)).text("direction") == "up" else 1
    environments = list(await list_environments(visit.session))
    moved = await get_environment(visit.session, slug)
    place = environments.index(moved)
    environments.insert(max(0, place + direction), environments.pop(place))
    for order, each in enumerate(environments):
        before = environment_snapshot(each)
        await change_environment(visit.session, each, {"order": order})
        note_change(
            visit.session,
            visit.access,
            "environment.updated",
            ("environment", each.slug),
            environment=each.slug,
            before=before,
            after=environment_snapshot(each),
        )
    await save(visit.session, visit.runtime)
    return visit.go(visit.url("/settings/environments"))


@router.post("/{slug}/destination")
async def change_destination(slug: str, visit: AccountAdminVisit) -> Response:
    """Let its actions run against Knock, or against the embedded directory."""
    form = await read_form(visit.request)
    environment = await get_environment(visit.session, slug)
    wanted = {"url": form.text("url"), "api_key": form.optional("api_key"), "verify": form.is_on("verify")}
    destination = wanted if form.text("kind") == "knock" else None

    async def apply() -> None:
        body = parse_body(WrappedDestinationRequest, {"destination": destination})
        await save_destination(visit.access, environment, visit.session, visit.runtime, body)

    typed = {"destination": {"kind": form.text("kind"), "url": wanted["url"], "verify": wanted["verify"]}}
    checked = destination is not None and wanted["verify"]
    said = "Saved: Knock accepts the key" if checked else "Saved"
    return await _changed(visit, slug, apply(), "destination", said, typed)


@router.post("/{slug}/keys")
async def issue_key(slug: str, visit: AccountAdminVisit) -> Response:
    """Issue a key of its directory, shown this once."""
    name = (await read_form(visit.request)).text("name")
    environment = await get_environment(visit.session, slug)
    try:
        body = parse_body(WrappedKeyRequest, {"key": {"name": name}})
        issued = await issue_environment_key(visit.access, environment, visit.session, body)
    except RequestError as error:
        return await _page(
            visit, slug, error.status, key_errors=field_messages(error, within="key"), key_name=name
        )
    return await _page(visit, slug, issued=issued.key)


@router.post("/{slug}/keys/{identifier}/revoke")
async def revoke_key(slug: str, identifier: UUID, visit: AccountAdminVisit) -> Response:
    """Let a key open nothing from now on."""
    environment = await get_environment(visit.session, slug)
    await revoke_environment_key(identifier, visit.access, environment, visit.session)
    return visit.go(visit.url(f"/settings/environments/{slug}"), toast="The key is revoked")


@router.post("/{slug}/delete")
async def remove(slug: str, visit: AccountAdminVisit) -> Response:
    """Delete it."""
    environment = await get_environment(visit.session, slug)
    await remove_environment(visit.access, environment, visit.session, visit.runtime)
    # The environment on view may be the one that is gone.
    return visit.go("/settings/environments", toast=f"{environment.name} is deleted")


async def _changed(
    visit: Visit, slug: str, change: Awaitable[None], within: str, toast: str, typed: dict[str, Any]
) -> Response:
    """Make a change; its page says so, or shows what was typed and what is wrong with it."""
    try:
        await change
    except RequestError as error:
        errors = field_messages(error, within=within)
        return await _page(visit, slug, error.status, **{f"{within}_errors": errors}, **typed)
    return visit.go(visit.url(f"/settings/environments/{slug}"), toast=toast)


async def _page(visit: Visit, slug: str, status: int = 200, **context: Any) -> Response:
    environment = await get_environment(visit.session, slug)
    shown: dict[str, Any] = {
        "edited": environment,
        "values": {
            "name": environment.name,
            "is_production": environment.is_production,
            "label_color": environment.label_color,
        },
        "destination": {
            "kind": "embedded" if environment.destination_url is None else "knock",
            "url": environment.destination_url or KNOCK,
            "verify": True,
        },
        "keys": await list_keys(visit.session, slug),
        "issued": None,
        "key_name": "",
        "environment_errors": {},
        "destination_errors": {},
        "key_errors": {},
    }
    return visit.page("settings/environment.html", status, **(shown | context))
