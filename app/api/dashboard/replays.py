"""Replays of all events that the filters of a source's log match: counted, confirmed, followed, cancelled."""

from dataclasses import replace
from uuid import UUID

from fastapi import APIRouter, Response

from app.api.dashboard.forms import Form, field_messages, read_form
from app.api.dashboard.log_filters import LogQuery, read_query
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit, WriteVisit
from app.api.dashboard.source_page import open_source_page
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.database.pages import PageRequest
from app.models.replay import Replay
from app.models.status import EventStatus, ReplayMappings
from app.models.types import now
from app.replays.many import (
    DEFAULT_RATE,
    MAXIMUM_RATE,
    OPEN,
    Matches,
    Older,
    ReplayFilter,
    cancel_replay,
    count_matches,
    count_older,
    count_outcomes,
    get_replay,
    list_replays,
    start_replay,
)

PAGE_SIZE = 25
# Filters of the log that a replay does not have.
_NOT_REPLAYED = ("id", "idempotency_key", "search", "replay_id")
_UNFINISHED = (EventStatus.RECEIVED, EventStatus.PROCESSING)

router = APIRouter(route_class=PageRoute, prefix="/sources/{key}/replays")


@router.get("")
async def show_list(key: str, visit: ReadVisit) -> Response:
    """The replays of many events, newest first."""
    page = await open_source_page(visit, key)
    query = visit.request.query_params
    wanted = PageRequest(PAGE_SIZE, query.get("after") or None, query.get("before") or None)
    found = await list_replays(visit.session, key, visit.environment.slug, wanted)
    return visit.page("replays/list.html", page=page, replays=found)


@router.get("/new")
async def show_new(key: str, visit: WriteVisit) -> Response:
    """The question whether to replay what the filters of the address match by now, with how many those
    are."""
    query = read_query(visit.request.query_params, visit.environment.slug, key)
    return await _question(visit, key, query, {})


@router.post("")
async def start(key: str, visit: WriteVisit) -> Response:
    """Start the replay that was asked about, and show how far it is."""
    form = await read_form(visit.request)
    query = read_query(_given(form), visit.environment.slug, key)
    try:
        found, _ = await start_replay(
            visit.session,
            visit.runtime,
            visit.access,
            key,
            visit.environment.slug,
            _wanted(query, includes_replays=form.is_on("include_replays")),
            mappings=_mappings(form),
            rate_limit_per_second=_rate(form),
        )
    except RequestError as error:
        if error.status not in (409, 422):
            raise
        return await _question(visit, key, query, field_messages(error))
    await visit.session.commit()
    return visit.go(visit.url(f"/sources/{key}/replays/{found.id}"), toast="Replay started")


@router.get("/{identifier}")
async def show(key: str, identifier: UUID, visit: ReadVisit) -> Response:
    """How far a replay is."""
    page = await open_source_page(visit, key)
    found = await _replay(visit, key, identifier)
    outcomes = await count_outcomes(visit.session, identifier)
    return visit.page(
        "replays/page.html", page=page, replay=found, outcomes=outcomes, is_open=_is_open(found)
    )


@router.get("/{identifier}/progress")
async def show_progress(key: str, identifier: UUID, visit: ReadVisit) -> Response:
    """How far a replay is, for its page to look again."""
    found = await _replay(visit, key, identifier)
    outcomes = await count_outcomes(visit.session, identifier)
    return visit.part("replays/progress.html", replay=found, outcomes=outcomes, is_open=_is_open(found))


@router.post("/{identifier}/cancel")
async def cancel(key: str, identifier: UUID, visit: WriteVisit) -> Response:
    """Let a replay make no further events."""
    await _replay(visit, key, identifier)
    await cancel_replay(visit.session, visit.access, key, identifier)
    await visit.session.commit()
    return visit.go(visit.url(f"/sources/{key}/replays/{identifier}"), toast="Replay cancelled")


async def _question(visit: Visit, key: str, query: LogQuery, errors: dict[str, str]) -> Response:
    """The dialog. What it counts is what is replayed: the time ends now."""
    ending = query.wanted.ending_at or now()
    times = {"starting_at": query.wanted.starting_at, "ending_at": ending}
    given = {name: text for name, text in query.given.items() if name != "period"}
    given |= {name: moment.isoformat() for name, moment in times.items() if moment}
    matches, older, refused = Matches(0, []), Older(0, 0), ""
    try:
        wanted = _wanted(replace(query, wanted=replace(query.wanted, ending_at=ending)))
        matches = await count_matches(visit.session, key, visit.environment.slug, wanted, at=now())
        older = await count_older(visit.session, visit.runtime, key, visit.environment.slug, wanted, at=now())
    except RequestError as error:
        refused = "; ".join(each.message for each in error.errors) or error.message
    return visit.part(
        "replays/dialog.html",
        422 if errors else 200,
        key=key,
        query=query,
        given=given,
        matches=matches,
        older=older,
        refused=refused,
        errors=errors,
        rate=DEFAULT_RATE,
        maximum_rate=MAXIMUM_RATE,
    )


def _given(form: Form) -> dict[str, str]:
    names = (
        "event",
        "status",
        "verification_status",
        "idempotent",
        "action_type",
        "action_status",
        "starting_at",
        "ending_at",
        *_NOT_REPLAYED,
    )
    return {name: form.text(name) for name in names}


def _wanted(query: LogQuery, *, includes_replays: bool = False) -> ReplayFilter:
    """The filters of the log as a replay has them.

    Raises:
        RequestError: 422, it has not all of them.
    """
    log = query.wanted
    errors = [FieldError(name, message) for name, message in query.errors.items()]
    errors += [
        FieldError("", f"the filter “{label}” does not work for a replay: take it away first")
        for name, label, _ in query.shown
        if name in _NOT_REPLAYED
    ]
    status = EventStatus.IDEMPOTENT if log.idempotent and log.status is None else log.status
    if status in _UNFINISHED:
        errors.append(FieldError("", "events that are not over yet cannot be replayed"))
    if errors:
        raise invalid_fields(errors)
    return ReplayFilter(
        event=log.event_type,
        status=status,
        verification_status=log.verification_status,
        action_type=log.action_type,
        action_status=log.action_status,
        starting_at=log.starting_at,
        ending_at=log.ending_at,
        include_replays=includes_replays,
    )


def _mappings(form: Form) -> ReplayMappings:
    text = form.text("mappings")
    if text not in list(ReplayMappings):
        raise invalid_fields([FieldError("mappings", f"is one of {', '.join(ReplayMappings)}")])
    return ReplayMappings(text)


def _rate(form: Form) -> int:
    rate = form.number("rate")
    if not isinstance(rate, int) or not 1 <= rate <= MAXIMUM_RATE:
        raise invalid_fields([FieldError("rate", f"is a number from 1 to {MAXIMUM_RATE}")])
    return rate


async def _replay(visit: Visit, key: str, identifier: UUID) -> Replay:
    """A replay in the environment on view.

    Raises:
        RequestError: 404, there is none.
    """
    found = await get_replay(visit.session, key, identifier)
    if found.environment != visit.environment.slug:
        message = f"Source {key!r} has no replay {identifier} in {visit.environment.slug!r}"
        raise RequestError(404, "resource_missing", message)
    return found


def _is_open(replay: Replay) -> bool:
    return replay.status in OPEN
