"""The mappings of a source: listed by event type, edited beside a sample that every field is evaluated on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from app.actions.paths import MISSING
from app.actions.registry import action_types
from app.api.dashboard.forms import read_form
from app.api.dashboard.mapping_form import (
    MappingForm,
    Read,
    form_of,
    messages_of,
    new_form,
    parse_base,
    problems_of,
    read_mapping,
    state_of,
)
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit, WriteVisit
from app.api.dashboard.source_page import SourcePage, open_source_page
from app.core.errors import RequestError
from app.logs.event_types import count_event_types, list_event_types, list_latest
from app.models.event import Event
from app.models.source import Mapping
from app.models.types import new_id
from app.replays.mapping_trials import TestedEvent, TriedMapping, open_event, try_mapping
from app.runtime.resources import save
from app.sources.live import ActiveMapping
from app.sources.mappings import add_mapping, change_mapping, delete_mapping, get_mapping
from app.sources.versions import mapping_version

# Types that are received and not mapped: how many are shown, and how far their events are counted.
MAXIMUM_UNMAPPED = 20
MAXIMUM_COUNTED = 1000
EXAMPLE = "example"
DEFAULT_ACTION = "workflows_trigger"

router = APIRouter(route_class=PageRoute, prefix="/sources/{key}/mappings")


@dataclass(frozen=True)
class Unmapped:
    """An event type that is received and that no mapping is there for."""

    event_type: str
    last_received_at: datetime
    number: str


@dataclass(frozen=True)
class SampleChoice:
    """The sample that fields are evaluated on, and those that could be instead. Without `tested`, `reason`
    says why."""

    event_type: str
    tested: TestedEvent | None
    reason: str
    recent: list[Event]
    has_example: bool

    @property
    def chosen(self) -> str:
        """Which one it is: an event's id, or the provider's example."""
        return str(self.tested.log_id or EXAMPLE) if self.tested else ""

    @property
    def shown(self) -> dict[str, Any]:
        """The sample as paths read it."""
        if self.tested is None:
            return {}
        parts = vars(self.tested.decoded)
        return {name: value for name, value in parts.items() if value is not None}


@dataclass(frozen=True)
class FieldDifference:
    """What somebody else changed meanwhile."""

    label: str
    before: Any
    after: Any


@router.get("")
async def show(key: str, visit: ReadVisit) -> Response:
    """The list, beside an invitation to choose one."""
    page = await open_source_page(visit, key)
    return visit.page("mappings/page.html", page=page, form=None, **await _list(visit, page))


@router.get("/new")
async def show_new(key: str, visit: WriteVisit) -> Response:
    """The form of a new mapping: empty, for an event type, or as a copy of another one."""
    page = await open_source_page(visit, key)
    query = visit.request.query_params
    form = new_form(query.get("event_type", ""), query.get("action_type", DEFAULT_ACTION), {})
    if copied := query.get("copy"):
        original = await get_mapping(visit.session, page.settings, _identifier(copied))
        form = new_form(
            original.event_type,
            original.action_type,
            original.action_parameters,
            skip_older=original.skip_older,
            conditions=original.conditions,
        )
    return await _editor_page(visit, page, form)


@router.get("/sample")
async def show_sample(key: str, visit: ReadVisit) -> Response:
    """The sample of an event type, chosen by `sample`."""
    page = await open_source_page(visit, key)
    query = visit.request.query_params
    sample = await _sample(visit, page, query.get("event_type", "").strip(), query.get("sample", ""))
    response = visit.part("mappings/sample.html", page=page, sample=sample)
    # The fields are evaluated on it next.
    response.headers["hx-trigger-after-swap"] = "evaluate"
    return response


@router.post("/fields")
async def show_fields(key: str, visit: WriteVisit) -> Response:
    """The fields of another action, with what was typed in those that it has too."""
    read = read_mapping(await read_form(visit.request))
    response = visit.part("mappings/fields.html", form=read.shown, errors=read.errors)
    response.headers["hx-trigger-after-swap"] = "evaluate"
    return response


@router.post("/try")
async def try_form(key: str, visit: WriteVisit) -> Response:
    """What each field of a form gives on the sample, and what would come of the mapping."""
    page = await open_source_page(visit, key)
    form = await read_form(visit.request)
    read = read_mapping(form)
    # Before what a path gives on the sample: it gives nothing there, and a path in another language says why.
    unfit = problems_of(read.shown.action_type, read.parameters)
    sample = await _sample(visit, page, read.shown.event_type, form.text("sample"))
    testable = sample.tested if read.shown.action is not None else None
    tried = None if testable is None else await _try(visit, read, testable)
    return visit.part(
        "mappings/results.html", read=read, sample=sample, tried=tried, missing=MISSING, unfit=unfit
    )


@router.post("")
async def create(key: str, visit: WriteVisit) -> Response:
    """Add the mapping of a form."""
    page = await open_source_page(visit, key)
    read = read_mapping(await read_form(visit.request))
    if read.errors:
        return _again(visit, page, read, read.errors)
    try:
        mapping = await add_mapping(visit.session, visit.access, page.settings, read.change())
    except RequestError as error:
        return _again(visit, page, read, messages_of(error, read.shown.action_type))
    await save(visit.session, visit.runtime)
    return visit.go(visit.url(f"{page.path}/mappings/{mapping.id}"), toast="Mapping created")


@router.get("/{identifier}")
async def show_one(key: str, identifier: UUID, visit: ReadVisit) -> Response:
    """The editor of a mapping."""
    page = await open_source_page(visit, key)
    mapping = await get_mapping(visit.session, page.settings, identifier)
    return await _editor_page(visit, page, form_of(mapping, mapping_version(mapping)))


@router.post("/{identifier}")
async def change(key: str, identifier: UUID, visit: WriteVisit) -> Response:
    """Save a form, unless somebody else has changed the mapping since it was opened."""
    page = await open_source_page(visit, key)
    read = read_mapping(await read_form(visit.request))
    if read.errors:
        return _again(visit, page, read, read.errors)
    try:
        await change_mapping(
            visit.session, visit.access, page.settings, identifier, read.change(), read.shown.version
        )
    except RequestError as error:
        if error.status == 412:
            return await _conflict(visit, page, identifier, read)
        if error.status != 422:
            raise
        return _again(visit, page, read, messages_of(error, read.shown.action_type))
    await save(visit.session, visit.runtime)
    return visit.go(visit.url(f"{page.path}/mappings/{identifier}"), toast="Mapping saved")


@router.post("/{identifier}/delete")
async def delete(key: str, identifier: UUID, visit: WriteVisit) -> Response:
    """Remove a mapping that is as it was shown."""
    page = await open_source_page(visit, key)
    version = (await read_form(visit.request)).optional("version")
    await delete_mapping(visit.session, visit.access, page.settings, identifier, version)
    await save(visit.session, visit.runtime)
    return visit.go(visit.url(f"{page.path}/mappings"), toast="Mapping deleted")


async def _editor_page(visit: Visit, page: SourcePage, form: MappingForm) -> Response:
    sample = await _sample(visit, page, form.event_type, "")
    listed = await _list(visit, page)
    saved = next((each for each in page.mappings if str(each.id) == form.identifier), None)
    errors = problems_of(saved.action_type, saved.action_parameters) if saved else {}
    return visit.page(
        "mappings/page.html", page=page, form=form, sample=sample, errors=errors, conflict=None, **listed
    )


def _again(visit: Visit, page: SourcePage, read: Read, errors: dict[str, str]) -> Response:
    return _editor(visit, page, 422, read.shown, errors=errors)


async def _conflict(visit: Visit, page: SourcePage, identifier: UUID, read: Read) -> Response:
    """The form with what was typed, and what somebody else changed: to save it again is to overwrite that."""
    current = await get_mapping(visit.session, page.settings, identifier)
    now = form_of(current, mapping_version(current))
    form = replace(read.shown, identifier=now.identifier, version=now.version, base=now.base)
    return _editor(visit, page, 412, form, conflict=_differences(read.shown.base, current))


def _editor(
    visit: Visit,
    page: SourcePage,
    status: int,
    form: MappingForm,
    *,
    errors: dict[str, str] | None = None,
    conflict: list[FieldDifference] | None = None,
) -> Response:
    choices = _choices(page, ())
    return visit.part(
        "mappings/editor.html",
        status,
        page=page,
        form=form,
        errors=errors or {},
        conflict=conflict,
        **choices,
    )


def _differences(base: str, current: Mapping) -> list[FieldDifference]:
    before, after = parse_base(base), state_of(current)
    parameters = before.get("action_parameters", {})
    pairs = [
        ("Event type", before.get("event_type"), after["event_type"]),
        ("Action", before.get("action_type"), after["action_type"]),
        ("Active", before.get("active"), after["active"]),
        ("Skip older events", before.get("skip_older"), after["skip_older"]),
        ("Conditions", before.get("conditions"), after["conditions"]),
    ]
    action = action_types().get(current.action_type)
    for name in {**parameters, **current.action_parameters}:
        parameter = action.parameter(name) if action else None
        label = parameter.label if parameter else name
        pairs.append((label, parameters.get(name), current.action_parameters.get(name)))
    return [FieldDifference(*each) for each in pairs if each[1] != each[2]]


async def _list(visit: Visit, page: SourcePage) -> dict[str, Any]:
    """The mappings by event type, and the types that could be mapped."""
    groups: dict[str, list[Mapping]] = {}
    for each in sorted(page.mappings, key=lambda each: each.event_type):
        groups.setdefault(each.event_type, []).append(each)
    environment = visit.environment.slug
    received = await list_event_types(visit.session, environment, page.key)
    latest = sorted((each for each in received if each[0] not in groups), key=lambda each: each[1])
    unmapped = latest[::-1][:MAXIMUM_UNMAPPED]
    counts = await count_event_types(
        visit.session, environment, page.key, [name for name, _ in unmapped], limit=MAXIMUM_COUNTED
    )
    shown = [Unmapped(name, moment, _counted(counts[name])) for name, moment in unmapped]
    unfit = {each.id for each in page.mappings if problems_of(each.action_type, each.action_parameters)}
    return {
        "groups": groups,
        "unfit_mappings": unfit,
        "unmapped": shown,
        **_choices(page, [name for name, _ in received]),
    }


def _choices(page: SourcePage, received: Sequence[str]) -> dict[str, Any]:
    examples = page.provider.examples if page.provider else {}
    known = {*received, *examples, *(each.event_type for each in page.mappings)}
    actions = [(each.name, each.title) for each in action_types().values()]
    return {"event_types": sorted(known), "action_choices": actions}


def _counted(number: int) -> str:
    if number == 1:
        return "once"
    return f"{number:,} times" if number < MAXIMUM_COUNTED else f"{MAXIMUM_COUNTED:,} times or more"


async def _sample(visit: Visit, page: SourcePage, event_type: str, wanted: str) -> SampleChoice:
    """The sample that is wanted, else the latest event of the type, else the provider's example."""
    examples = page.provider.examples if page.provider else {}
    recent: list[Event] = []
    tested, reason = (
        None,
        "Choose an event type: its latest event, or what the provider sends, is shown here.",
    )
    if event_type:
        recent = await list_latest(visit.session, visit.environment.slug, page.key, event_type)
        known = next((each.id for each in recent if str(each.id) == wanted), None)
        try:
            tested = await open_event(
                visit.session,
                visit.runtime,
                page.settings,
                event_type,
                log_id=known or (recent[0].id if recent else None),
                is_example=wanted == EXAMPLE or not recent,
            )
        except RequestError as error:
            reason = error.message
    return SampleChoice(event_type, tested, reason, recent, event_type in examples)


async def _try(visit: Visit, read: Read, tested: TestedEvent) -> TriedMapping:
    mapping = ActiveMapping(new_id(), read.shown.action_type, read.parameters, conditions=read.conditions)
    return await try_mapping(visit.runtime, mapping, tested, active=read.shown.active)


def _identifier(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise RequestError(404, "resource_missing", f"There is no mapping {text!r}") from None
