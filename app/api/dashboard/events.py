"""An event of the log, whole: what came, what became of it, how its workflow ran; replayed and rehearsed from
here."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Response

from app.api.dashboard.forms import read_form
from app.api.dashboard.json_view import json_text
from app.api.dashboard.pages import Visit, redirect
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit, WriteVisit
from app.api.dashboard.source_page import open_source_page
from app.api.dashboard.timeline_bars import Bar, timeline_bars
from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.logs.entries import LogEntry
from app.logs.listing import get_entry
from app.logs.relations import find_relations
from app.logs.steps import Timeline
from app.logs.timeline import Timelines
from app.models.status import EventStatus, ReplayMappings
from app.models.types import digest_of
from app.replays.one import Rehearsal, rehearse, replay
from app.runtime.temporal_ui import run_url

router = APIRouter(route_class=PageRoute)

PANEL = "event-panel"
_UNFINISHED = (EventStatus.RECEIVED, EventStatus.PROCESSING)


@dataclass(frozen=True)
class EventProgress:
    """How far an event is. `seen` changes when there is something new to show."""

    entry: LogEntry
    timeline: Timeline
    bars: list[Bar]
    temporal_url: str | None
    is_open: bool
    seen: str


@router.get("/sources/{key}/logs/{identifier}")
async def show(key: str, identifier: UUID, visit: ReadVisit) -> Response:
    """The event: a page, or the part of it that is shown beside the list."""
    entry = await get_entry(visit.session, visit.runtime.box, key, identifier)
    if entry.event.environment != visit.environment.slug:
        return redirect(visit.request, visit.in_environment(entry.event.environment))
    context: dict[str, Any] = {
        "page": await open_source_page(visit, key),
        "relations": await find_relations(visit.session, entry.event),
        "progress": await _progress(visit, entry),
        "rehearsed": rehearsal_text(entry),
    }
    if visit.request.headers.get("hx-target") == PANEL:
        return visit.part("logs/event.html", is_panel=True, **context)
    return visit.page("logs/event_page.html", is_panel=False, **context)


@router.get("/sources/{key}/logs/{identifier}/progress")
async def show_progress(key: str, identifier: UUID, visit: ReadVisit) -> Response:
    """How far the event is; nothing when the page shows that already."""
    progress = await _progress(visit, await _entry(visit, key, identifier))
    if progress.is_open and visit.request.query_params.get("seen") == progress.seen:
        return Response(status_code=204)
    return visit.part("logs/progress.html", progress=progress)


@router.post("/sources/{key}/logs/{identifier}/replay")
async def replay_event(key: str, identifier: UUID, visit: WriteVisit) -> Response:
    """Run the event again and show what comes of it."""
    await _entry(visit, key, identifier)
    form = await read_form(visit.request)
    if form.text("mappings") not in list(ReplayMappings):
        raise invalid_fields([FieldError("mappings", f"is one of {', '.join(ReplayMappings)}")])
    mappings = ReplayMappings(form.text("mappings"))
    again = await replay(visit.session, visit.runtime, key, identifier, mappings)
    return visit.go(visit.url(f"/sources/{key}/logs/{again}"), toast="Replayed: this is the new event")


@router.post("/sources/{key}/rehearse")
async def rehearse_payload(key: str, visit: WriteVisit) -> Response:
    """Let a payload run as an event of the source, and show its result below the form."""
    form = await read_form(visit.request)
    try:
        payload = _payload(form.raw("payload"))
        found = await rehearse(visit.session, visit.runtime, key, visit.environment.slug, payload)
    except RequestError as error:
        if error.status != 422:
            raise
        found = Rehearsal(None, 0, 0, 0, error.errors)
    status = 422 if found.event_id is None else 200
    return visit.part("logs/rehearsal.html", status, result=found, key=key)


def rehearsal_text(entry: LogEntry) -> str:
    """The payload as a rehearsal takes it."""
    return json_text({"body": entry.data or {}, "headers": entry.headers})


def _payload(text: str) -> dict[str, Any]:
    try:
        payload = exact_json.loads(text)
    except orjson.JSONDecodeError as error:
        raise invalid_fields([FieldError("payload", f"is not JSON: {error}")]) from None
    if not isinstance(payload, dict):
        raise invalid_fields([FieldError("payload", "must be an object")])
    return payload


async def _entry(visit: Visit, key: str, identifier: UUID) -> LogEntry:
    """An entry of the environment on view.

    Raises:
        RequestError: 404, there is none.
    """
    entry = await get_entry(visit.session, visit.runtime.box, key, identifier)
    if entry.event.environment != visit.environment.slug:
        message = f"Source {key!r} has no log entry {identifier} in {visit.environment.slug!r}"
        raise RequestError(404, "resource_missing", message)
    return entry


async def _progress(visit: Visit, entry: LogEntry) -> EventProgress:
    event = entry.event
    timelines: Timelines = visit.request.app.state.timelines
    timeline = await timelines.of_event(event)
    return EventProgress(
        entry,
        timeline,
        timeline_bars(timeline, event.received_at),
        run_url(visit.runtime.settings, event.workflow_id, event.run_id),
        is_open=event.status in _UNFINISHED or timeline.status == "running",
        seen=_seen(entry, timeline),
    )


def _seen(entry: LogEntry, timeline: Timeline) -> str:
    actions = [(each.id, each.status, each.attempts, each.calls, each.error) for each in entry.actions]
    steps = [(each.name, each.status, each.attempt) for each in timeline.steps]
    pending = [(each.name, each.state, each.attempt) for each in timeline.pending]
    return digest_of(entry.event.status, str(actions), str(steps), str(pending)).hex()[:16]
