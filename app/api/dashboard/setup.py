"""Setting a source up, step by step: its URL and the vendor's steps, the secret, the first event as it comes
in, the field that names its type."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from markupsafe import Markup

from app.api.dashboard.forms import field_messages, read_form
from app.api.dashboard.live import follow_log
from app.api.dashboard.pages import Visit, say, template_part
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit, WriteVisit
from app.api.dashboard.source_page import SourcePage, add_typed_secret, change_settings, open_source_page
from app.api.receive import take_in
from app.core.errors import ConfigurationError, Rejected, RequestError
from app.database.pages import PageRequest
from app.logs.entries import LogEntry
from app.logs.event_type_fields import event_type_choices, event_type_in
from app.logs.filters import LogFilter
from app.logs.listing import list_log
from app.models.types import first_id_at, now
from app.replays.examples import example_request
from app.replays.one import endpoint_of
from app.runtime.resources import save
from app.sources.signing_secrets import list_secrets

router = APIRouter(prefix="/sources/{key}/setup", route_class=PageRoute)


@router.get("")
async def show(key: str, visit: ReadVisit) -> Response:
    """The steps, as far as they are done."""
    page = await open_source_page(visit, key)
    since = first_id_at(now())
    latest = await _latest(visit, page)
    return visit.page(
        "sources/setup.html",
        page=page,
        since=since,
        saved=False,
        out_of_band=False,
        **await _secret_step(visit, page),
        **_type_step(page.settings.event_type_path, latest),
    )


@router.get("/stream")
async def stream(key: str, visit: ReadVisit, since: UUID) -> StreamingResponse:
    """Each event as it arrives and is processed, and what it says of the field that names the type."""
    page = await open_source_page(visit, key)
    newest, shown_step = since, Markup()

    def write(entry: LogEntry) -> Markup:
        nonlocal newest, shown_step
        if entry.event.id < newest:
            return Markup()
        newest = entry.event.id
        # What was saved since this stream began is there, unless the source is gone.
        endpoint = visit.runtime.configuration.endpoint(visit.environment.slug, page.key) or page.settings
        given = {"visit": visit, "page": page, "errors": {}, "saved": False, "out_of_band": True}
        given |= _type_step(endpoint.event_type_path, entry)
        arrived = template_part("sources/arrived.html", **given)
        step = template_part("sources/event_type_step.html", **given)
        if step == shown_step:
            return arrived
        shown_step = step
        return arrived + step

    return await follow_log(visit, _filter(visit, page), write, since=since)


@router.post("/secret")
async def add_secret(key: str, visit: WriteVisit) -> Response:
    """Add the secret that events are signed with."""
    page = await open_source_page(visit, key)
    form = await read_form(visit.request)
    try:
        await add_typed_secret(visit, page, form)
    except RequestError as error:
        errors = field_messages(error, within="secret")
        step = await _secret_step(visit, page)
        return visit.part("sources/secret_step.html", error.status, page=page, **{**step, "errors": errors})
    if form.is_on("enforce"):
        await change_settings(visit, page, {"enforce_verification": True})
    await save(visit.session, visit.runtime)
    page = await open_source_page(visit, key)
    return visit.part(
        "sources/secret_step.html", page=page, toast="Secret added", **await _secret_step(visit, page)
    )


@router.post("/test-event")
async def send_test_event(key: str, visit: WriteVisit) -> Response:
    """Ring as the vendor would, with one of its examples. What becomes of it, the stream shows."""
    page = await open_source_page(visit, key)
    if visit.environment.is_production:
        message = "A test event would run real actions in production: send one in another environment"
        raise RequestError(422, "production_environment", message)
    endpoint = endpoint_of(visit.runtime, visit.environment.slug, page.key)
    response = Response(status_code=204)
    try:
        example = example_request(endpoint, None)
        await take_in(visit.request, endpoint, example.body, example.headers)
    except ConfigurationError as error:
        raise RequestError(422, "no_example", str(error)) from error
    except Rejected as rejected:
        say(response, f"The test event was refused: {rejected.message}", kind="error")
    else:
        say(response, "Test event sent")
    return response


@router.post("/event-type")
async def choose_event_type(key: str, visit: WriteVisit) -> Response:
    """Say where the type of events stands."""
    page = await open_source_page(visit, key)
    form = await read_form(visit.request)
    latest = await _latest(visit, page)
    path = form.text("own") or form.text("path")
    try:
        await change_settings(visit, page, {"event_type_path": path or None})
    except RequestError as error:
        errors = field_messages(error, within=page.settings_field)
        return _type_step_part(visit, page, latest, error.status, errors=errors)
    await save(visit.session, visit.runtime)
    page = await open_source_page(visit, key)
    return _type_step_part(visit, page, latest, toast="Event type field saved", saved=True)


def _filter(visit: Visit, page: SourcePage) -> LogFilter:
    return LogFilter(environment=visit.environment.slug, source_key=page.key)


async def _latest(visit: Visit, page: SourcePage) -> LogEntry | None:
    found = await list_log(
        visit.session, visit.runtime.box, _filter(visit, page), PageRequest(1), with_actions=False
    )
    return found.items[0] if found.items else None


async def _secret_step(visit: Visit, page: SourcePage) -> dict[str, Any]:
    return {"secrets": await list_secrets(visit.session, page.settings), "errors": {}}


def _type_step(path: str | None, latest: LogEntry | None) -> dict[str, Any]:
    return {
        "current": path,
        "latest": latest,
        "event_type": event_type_in(latest, path) if latest else None,
        "choices": event_type_choices(latest.data, latest.headers) if latest else [],
    }


def _type_step_part(
    visit: Visit,
    page: SourcePage,
    latest: LogEntry | None,
    status: int = 200,
    *,
    toast: str | None = None,
    errors: dict[str, str] | None = None,
    saved: bool = False,
) -> Response:
    given = {"page": page, "errors": errors or {}, "saved": saved, "out_of_band": False}
    given |= _type_step(page.settings.event_type_path, latest)
    return visit.part("sources/event_type_step.html", status, toast=toast, **given)
