"""The log: of a source and of all of them, live and filtered. An entry whole is `events.py`'s."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from markupsafe import Markup

from app.actions.registry import action_types
from app.api.dashboard.forms import field_messages
from app.api.dashboard.live import follow_log
from app.api.dashboard.log_filters import LogQuery, read_query
from app.api.dashboard.pages import Visit, template_part
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit
from app.api.dashboard.source_page import open_source_page
from app.core.errors import RequestError
from app.database.pages import Page, PageRequest
from app.logs.entries import LogEntry
from app.logs.event_types import list_event_types
from app.logs.listing import list_log
from app.models.status import EventStatus
from app.models.types import first_id_at, now
from app.sources.store import find_source, list_sources

PAGE_SIZE = 50
UNFINISHED = (EventStatus.RECEIVED, EventStatus.PROCESSING)

router = APIRouter(route_class=PageRoute)


@dataclass(frozen=True)
class LogPage:
    """A page of the log with its filters. `stream` is where it goes on living, None for older pages."""

    query: LogQuery
    entries: Page[LogEntry]
    stream: str | None
    path: str


@router.get("/logs")
async def show_all(visit: ReadVisit) -> Response:
    """The log of all sources."""
    query = _query(visit, None)
    log = await _page(visit, query, "/logs")
    names = [(each.source.key, each.source.name) for each in await list_sources(visit.session)]
    return _answer(visit, log, "logs/all.html", sources=names, event_types=[])


@router.get("/logs/stream")
async def follow_all(visit: ReadVisit) -> Response:
    """Entries of all sources as they arrive and change."""
    return await _follow(visit, None)


@router.get("/sources/{key}/logs")
async def show_source(key: str, visit: ReadVisit) -> Response:
    """The log of a source."""
    page = await open_source_page(visit, key)
    query = _query(visit, key)
    log = await _page(visit, query, f"/sources/{key}/logs")
    received = await list_event_types(visit.session, visit.environment.slug, key)
    known = sorted({name for name, _ in received} | {each.event_type for each in page.mappings})
    return _answer(visit, log, "logs/source.html", page=page, event_types=known)


@router.get("/sources/{key}/logs/stream")
async def follow_source(key: str, visit: ReadVisit) -> Response:
    """Entries of a source as they arrive and change."""
    await find_source(visit.session, key)
    return await _follow(visit, key)


def _query(visit: Visit, key: str | None) -> LogQuery:
    return read_query(visit.request.query_params, visit.environment.slug, key)


def _answer(visit: Visit, log: LogPage, template: str, **context: Any) -> Response:
    actions = [(each.name, each.title) for each in action_types().values()]
    status = 422 if log.query.errors else 200
    return visit.page(template, status, log=log, action_choices=actions, **context)


async def _page(visit: Visit, query: LogQuery, path: str) -> LogPage:
    parameters = visit.request.query_params
    wanted = PageRequest(PAGE_SIZE, parameters.get("after") or None, parameters.get("before") or None)
    entries: Page[LogEntry] = Page([], PAGE_SIZE, None, None)
    if not query.errors:
        try:
            entries = await list_log(
                visit.session, visit.runtime.box, query.wanted, wanted, with_actions=False
            )
        except RequestError as error:
            query.errors.update(field_messages(error))
    is_live = not (query.errors or wanted.after or entries.before or query.wanted.ending_at)
    stream = visit.url(f"{path}/stream", **query.given, since=_since(entries.items)) if is_live else None
    return LogPage(query, entries, stream, path)


def _since(entries: Sequence[LogEntry]) -> UUID:
    """The entry after which the stream begins: those that are not over yet are shown again when they are."""
    if not entries:
        return first_id_at(now())
    unfinished = [each.event.id for each in entries if each.event.status in UNFINISHED]
    return UUID(int=min(unfinished).int - 1) if unfinished else entries[0].event.id


async def _follow(visit: Visit, key: str | None) -> Response:
    query = _query(visit, key)
    if query.errors:
        raise RequestError(422, "invalid_params", "; ".join(query.errors.values()))
    environment = visit.environment.slug

    def write(entry: LogEntry) -> Markup:
        # Without the visit: its request is over while the stream goes on.
        url = f"/sources/{entry.event.source_key}/logs/{entry.event.id}?environment={environment}"
        return template_part("logs/row.html", entry=entry, url=url, show_source=key is None)

    return await follow_log(visit, query.wanted, write, since=_given_since(visit))


def _given_since(visit: Visit) -> UUID | None:
    try:
        return UUID(visit.request.query_params.get("since", ""))
    except ValueError:
        return None
