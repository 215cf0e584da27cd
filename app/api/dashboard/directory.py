"""The embedded directory: users, objects, tenants and audiences, searched, listed, and each with what belongs
to it.

Where an environment's actions run against Knock, its directory is there, and these pages say so.
"""

from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Response

from app.api.dashboard.forms import parse_body, read_form
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute, page_request
from app.api.dashboard.session import AdminVisit, ReadVisit
from app.api.management.erasures import WrappedNewErasure, erase_user
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.database.pages import Page, PageRequest
from app.directory.audiences import list_members
from app.directory.lists import list_recipients, list_runs
from app.directory.messages import MessageFilter, list_messages
from app.directory.recipients import Reference, get_recipient
from app.directory.search import (
    get_channel_data,
    list_audiences,
    list_collections,
    memberships,
    search_recipients,
)
from app.directory.subscriptions import list_subscribers, list_subscriptions
from app.logs.about_user import find_touches
from app.models.directory import TENANTS, USERS

router = APIRouter(prefix="/directory", route_class=PageRoute)
# What a page shows of each list that belongs to a recipient.
SHOWN = 10
FOUND = 50
MAXIMUM_COLLECTIONS = 500
_KINDS = {USERS: ("user", "Users", "/directory/users"), TENANTS: ("tenant", "Tenants", "/directory/tenants")}
_KNOCK_DASHBOARD = "https://dashboard.knock.app"


@router.get("/users")
async def show_users(visit: ReadVisit) -> Response:
    """The users."""
    return await _list(visit, USERS)


@router.get("/tenants")
async def show_tenants(visit: ReadVisit) -> Response:
    """The tenants."""
    return await _list(visit, TENANTS)


@router.get("/objects")
async def show_collections(visit: ReadVisit) -> Response:
    """The collections of objects."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    connection = await visit.session.connection()
    collections = await list_collections(connection, visit.environment.slug, MAXIMUM_COLLECTIONS)
    return visit.page("directory/collections.html", collections=collections)


@router.get("/objects/{collection}")
async def show_objects(collection: str, visit: ReadVisit) -> Response:
    """The objects of a collection."""
    return await _list(visit, collection)


@router.get("/users/{id:path}")
async def show_user(id: str, visit: ReadVisit) -> Response:
    """A user."""
    return await _detail(visit, Reference.to_user(id))


@router.get("/tenants/{id:path}")
async def show_tenant(id: str, visit: ReadVisit) -> Response:
    """A tenant."""
    return await _detail(visit, Reference.to_tenant(id))


@router.get("/objects/{collection}/{id:path}")
async def show_object(collection: str, id: str, visit: ReadVisit) -> Response:
    """An object."""
    return await _detail(visit, Reference(collection, id))


@router.get("/touches")
async def show_touches(visit: ReadVisit, collection: str, id: str) -> Response:
    """The events that touched a recipient: a part, loaded after its page."""
    connection = await visit.session.connection()
    touches = await find_touches(connection, visit.environment.slug, Reference(collection, id), SHOWN)
    return visit.part("directory/touches.html", touches=touches)


@router.post("/erasures")
async def erase(visit: AdminVisit) -> Response:
    """Ask for the erasure of a user; how far it is stands with the retention."""
    form = await read_form(visit.request)
    user_id = form.text("user_id")
    if form.text("typed") != user_id:
        raise invalid_fields([FieldError("typed", "is not the user's id")])
    body = parse_body(
        WrappedNewErasure, {"erasure": {"user_id": user_id, "search": _lines(form.raw("search"))}}
    )
    await erase_user(visit.access, visit.session, visit.runtime, visit.environment.slug, body)
    return visit.go(visit.url("/settings/retention"), toast=f"{user_id} is being erased")


@router.get("/audiences")
async def show_audiences(visit: ReadVisit) -> Response:
    """The audiences."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    connection = await visit.session.connection()
    found = await list_audiences(connection, visit.environment.slug, page_request(visit.request))
    return visit.page("directory/audiences.html", found=found)


@router.get("/audiences/{key}")
async def show_audience(key: str, visit: ReadVisit) -> Response:
    """The members of an audience."""
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    connection = await visit.session.connection()
    found = await list_members(connection, visit.environment.slug, key, page_request(visit.request))
    return visit.page("directory/audience.html", key=key, found=found, path_of=path_of)


def path_of(reference: Reference) -> str:
    """Where a recipient's page is."""
    kind = _KINDS.get(reference.collection)
    above = kind[2] if kind else f"/directory/objects/{quote(reference.collection, safe='')}"
    return f"{above}/{quote(reference.id)}"


def at_knock(visit: Visit) -> Response | None:
    """The page that says where the directory is, when it is not here."""
    url = visit.environment.destination_url
    if url is None:
        return None
    is_knock = (urlsplit(url).hostname or "").endswith("knock.app")
    return visit.page("directory/elsewhere.html", url=url, dashboard=_KNOCK_DASHBOARD if is_knock else None)


async def _list(visit: Visit, collection: str) -> Response:
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    connection = await visit.session.connection()
    start = visit.request.query_params.get("q", "").strip()
    slug = visit.environment.slug
    if start:
        recipients = await search_recipients(connection, slug, collection, start, FOUND + 1)
        found = Page(recipients[:FOUND], FOUND, None, None)
    else:
        found = await list_recipients(connection, slug, collection, page_request(visit.request))
        recipients = []
    kind, title, _ = _KINDS.get(collection, ("object", collection, ""))
    return visit.page(
        "directory/recipients.html",
        found=found,
        kind=kind,
        heading=title,
        q=start,
        has_more=len(recipients) > FOUND,
        path_of=path_of,
    )


async def _detail(visit: Visit, reference: Reference) -> Response:
    if (elsewhere := at_knock(visit)) is not None:
        return elsewhere
    connection, slug, page = await visit.session.connection(), visit.environment.slug, PageRequest(SHOWN)
    recipient = await get_recipient(connection, slug, reference)
    if recipient is None:
        raise RequestError(404, "resource_missing", f"There is no {reference.id!r} in this directory")
    kind, title, above = _KINDS.get(
        reference.collection,
        ("object", reference.collection, f"/directory/objects/{quote(reference.collection, safe='')}"),
    )
    is_user = reference.collection == USERS
    context: dict[str, Any] = {
        "recipient": recipient,
        "kind": kind,
        "above": (title, visit.url(above)),
        "channel_data": await get_channel_data(connection, slug, reference),
        "subscriptions": await list_subscriptions(connection, slug, reference, page),
        "subscribers": None if is_user else await list_subscribers(connection, slug, reference, page),
        "memberships": await memberships(connection, slug, reference.id, FOUND) if is_user else [],
        "runs": await list_runs(connection, slug, page, recipient=reference),
        "messages": await list_messages(connection, slug, page, MessageFilter(recipient=reference)),
        "path_of": path_of,
    }
    return visit.page("directory/recipient.html", **context)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
