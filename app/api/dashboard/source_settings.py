"""The Settings tab of a source: each card is a form of its own, saved only as its editor saw the source."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response

from app.api.dashboard.alerts import alert_choices, read_alert, sent_alerts, stored_alert, typed_alert
from app.api.dashboard.forms import Form, field_messages, parse_body, read_form
from app.api.dashboard.json_view import json_text
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit, WriteVisit
from app.api.dashboard.source_page import SourcePage, add_typed_secret, change_settings, open_source_page
from app.api.management.schemas import endpoint_url
from app.api.management.source_keys import WrappedSourceKeyRequest
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.models.types import now
from app.providers.verification import FirstEventHmac
from app.replays.script_trials import ScriptTrial, rehearse
from app.runtime.resources import save
from app.sources.edits import (
    end_rotation,
    promote_source,
    remove_signing_secret,
    rotate,
)
from app.sources.endpoints import list_replaced
from app.sources.keys import issue_source_key, list_source_keys, revoke_source_key
from app.sources.signing_secrets import list_secrets
from app.sources.store import lock_source

router = APIRouter(prefix="/sources/{key}/settings", route_class=PageRoute)

Section = Literal[
    "general", "paths", "verification", "idempotency", "ordering", "delivery", "alerts", "script"
]
# How long a repeat is recognised, a rate limit, how long what was replaced goes on: what people choose from.
WINDOWS = [timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=3), timedelta(days=7)]
OVERLAPS = [timedelta(), timedelta(hours=1), timedelta(days=1), timedelta(days=7)]
_IDENTIFIES = {"": None, "always": True, "never": False}

NEW_SCRIPT = """\
// Runs for each event, before anything else.
// What it returns beside `verified`, mappings read as preprocess.*.
function main({ body, headers, verification }) {
  return { verified: verification.verified };
}
"""


@router.get("")
async def show(key: str, visit: ReadVisit) -> Response:
    """All settings of the source in this environment."""
    page = await open_source_page(visit, key)
    return visit.page(
        "sources/settings.html",
        page=page,
        values=_stored(page),
        errors={},
        saved=False,
        sample=_sample(page),
        **_choices(page),
        **{**await _endpoint(visit, page), **await _secrets(visit, page), **await _keys(visit, page)},
        **await sent_alerts(visit, page),
    )


@router.post("/sections/{section}")
async def save_section(key: str, section: Section, visit: WriteVisit) -> Response:
    """Save one card."""
    page = await open_source_page(visit, key)
    form = await read_form(visit.request)
    template = f"sources/settings/{section}.html"
    try:
        await _change(visit, page, section, form)
    except RequestError as error:
        shown: dict[str, Any] = {**_stored(page), **_typed(section, form)}
        names = {"preprocess_script.source": "preprocess_script", "preprocess_script": "preprocess_script"}
        errors = field_messages(_within_source(error, page), names=names)
        return visit.part(
            template, error.status, page=page, values=shown, errors=errors, saved=False, **_choices(page)
        )
    await save(visit.session, visit.runtime)
    page = await open_source_page(visit, key)
    return visit.part(
        template, toast="Saved", page=page, values=_stored(page), errors={}, saved=True, **_choices(page)
    )


@router.post("/secrets")
async def add_secret(key: str, visit: WriteVisit) -> Response:
    """Add a signing secret; the others go on for as long as is chosen."""
    page = await open_source_page(visit, key)
    form = await read_form(visit.request)
    try:
        await add_typed_secret(visit, page, form)
    except RequestError as error:
        errors = field_messages(error, within="secret")
        return await _secrets_part(visit, page, error.status, errors=errors)
    await save(visit.session, visit.runtime)
    return await _secrets_part(visit, page, toast="Secret added")


@router.post("/secrets/{id}/delete")
async def delete_secret(key: str, id: UUID, visit: WriteVisit) -> Response:
    """Remove a signing secret: what it signed is refused from now on."""
    page = await open_source_page(visit, key)
    await remove_signing_secret(visit.session, visit.access, page.settings, id)
    await save(visit.session, visit.runtime)
    return await _secrets_part(visit, page, toast="Secret removed")


@router.post("/keys")
async def issue_key(key: str, visit: WriteVisit) -> Response:
    """Issue a key with which a reverse ETL tool calls in the source's name; its card shows it this once."""
    page = await open_source_page(visit, key)
    name = (await read_form(visit.request)).text("key_name")
    try:
        body = parse_body(WrappedSourceKeyRequest, {"key": {"name": name}})
        issued, plaintext = await issue_source_key(visit.session, visit.access, page.settings, body.key.name)
    except RequestError as error:
        errors = field_messages(error, within="key", names={"name": "key_name"})
        return await _keys_part(visit, page, error.status, errors=errors, key_name=name)
    await save(visit.session, visit.runtime)
    return await _keys_part(visit, page, issued=issued, plaintext=plaintext)


@router.post("/keys/{id}/revoke")
async def revoke_key(key: str, id: UUID, visit: WriteVisit) -> Response:
    """Let a key open nothing from now on."""
    page = await open_source_page(visit, key)
    await revoke_source_key(visit.session, visit.access, page.settings, id)
    await save(visit.session, visit.runtime)
    return await _keys_part(visit, page, toast="The key is revoked")


@router.post("/endpoint/rotate")
async def rotate_endpoint(key: str, visit: WriteVisit) -> Response:
    """Give the source a new address; the present one goes on for as long as is chosen."""
    page = await open_source_page(visit, key)
    overlap = (await read_form(visit.request)).text("overlap")
    if overlap not in [str(int(each.total_seconds())) for each in OVERLAPS]:
        raise invalid_fields([FieldError("overlap", "is none of the times to choose from")])
    await rotate(visit.session, visit.access, page.settings, int(overlap))
    await save(visit.session, visit.runtime)
    return await _endpoint_part(visit, key, "The address was rotated")


@router.post("/endpoint/end-overlap")
async def end_overlap(key: str, visit: WriteVisit) -> Response:
    """Let addresses from before a rotation receive nothing from now on."""
    page = await open_source_page(visit, key)
    await end_rotation(visit.session, visit.access, page.settings)
    await save(visit.session, visit.runtime)
    return await _endpoint_part(visit, key, "Old addresses receive nothing from now on")


@router.post("/script/run")
async def run_script(key: str, visit: WriteVisit) -> Response:
    """Run the script as it is in the editor, on a sample. Nothing is saved, logged or run because of it."""
    page = await open_source_page(visit, key)
    form = await read_form(visit.request)
    try:
        wanted = ScriptTrial(
            source=form.raw("preprocess_script") or None,
            body=form.raw("sample_body").encode(),
            headers=_headers(form),
            sign=form.is_on("sign"),
        )
        run = await rehearse(visit.runtime, visit.environment.slug, page.key, wanted)
    except RequestError as error:
        names = {"script": "", "sample.raw_body": "sample_body", "sample.sign": "sign"}
        errors = field_messages(error, names=names)
        return visit.part("sources/settings/script_run.html", error.status, run=None, errors=errors)
    return visit.part("sources/settings/script_run.html", run=run, errors={})


@router.get("/promotion")
async def show_promotion(key: str, to: str, visit: WriteVisit) -> Response:
    """What would change in another environment."""
    page = await open_source_page(visit, key)
    done = await promote_source(
        visit.session, visit.access, key, visit.environment.slug, to, dry_run=True, if_match=None
    )
    target = next(each for each in visit.environments if each.slug == to)
    return visit.part(
        "sources/settings/promotion.html", page=page, target=target, differences=done.differences
    )


@router.post("/promotion")
async def promote(key: str, visit: WriteVisit) -> Response:
    """Make the source in another environment what it is here, if it still is what was shown."""
    form = await read_form(visit.request)
    target = form.text("to")
    await promote_source(
        visit.session,
        visit.access,
        key,
        visit.environment.slug,
        target,
        dry_run=False,
        if_match=form.text("version"),
    )
    await save(visit.session, visit.runtime)
    return visit.go(visit.url(f"/sources/{key}/settings", environment=target), toast=f"Promoted to {target}")


async def _change(visit: Visit, page: SourcePage, section: Section, form: Form) -> None:
    version = form.text("version") or None
    if section == "general":
        about = {"name": form.text("name"), "description": form.optional("description")}
        await change_settings(visit, page, {}, if_match=version, **about)
        return
    await lock_source(visit.session, page.key)
    await change_settings(visit, page, _READERS[section](form), if_match=version)


def _script(form: Form) -> dict[str, Any]:
    source = form.raw("preprocess_script")
    if not source.strip() or form.is_on("remove"):
        return {"preprocess_script": None}
    return {"preprocess_script": {"language": "javascript", "source": source}}


def _delivery(form: Form) -> dict[str, Any]:
    given: dict[str, Any] = {
        "start_unmapped": form.is_on("start_unmapped"),
        "rate_limit_per_second": form.number("rate_limit_per_second"),
    }
    if "handle_identifies" in form:
        given["handle_identifies"] = _IDENTIFIES.get(form.text("handle_identifies"))
    if "has_strict_batches" in form:
        given["strict_batches"] = form.is_on("strict_batches")
    return given


_READERS: dict[str, Callable[[Form], dict[str, Any]]] = {
    "paths": lambda form: {
        "event_type_path": form.optional("event_type_path"),
        "timestamp_path": form.optional("timestamp_path"),
    },
    "verification": lambda form: {"enforce_verification": form.is_on("enforce_verification")},
    "idempotency": lambda form: {
        "enforce_idempotency": form.is_on("enforce_idempotency"),
        "idempotency_key_path": form.optional("idempotency_key_path"),
        "idempotency_window_seconds": form.number("idempotency_window_seconds"),
    },
    "ordering": lambda form: {
        "ordering_key_path": form.optional("ordering_key_path"),
        "ordering_hold": form.number("ordering_hold"),
    },
    "delivery": _delivery,
    "alerts": read_alert,
    "script": _script,
}


def _stored(page: SourcePage) -> dict[str, Any]:
    """What is saved, by field of the forms."""
    row = page.settings
    return {
        "name": page.found.source.name,
        "description": page.found.source.description,
        "event_type_path": row.event_type_path,
        "timestamp_path": row.timestamp_path,
        "enforce_verification": row.enforce_verification,
        "enforce_idempotency": row.enforce_idempotency,
        "idempotency_key_path": row.idempotency_key_path,
        "idempotency_window_seconds": int(row.idempotency_window.total_seconds()),
        "ordering_key_path": row.ordering_key_path,
        "ordering_hold": row.ordering_hold,
        "start_unmapped": row.start_unmapped,
        "rate_limit_per_second": row.rate_limit_per_second,
        "handle_identifies": {None: "", True: "always", False: "never"}[row.handle_identifies],
        "strict_batches": row.strict_batches,
        "preprocess_script": row.preprocess_script,
        **stored_alert(page),
    }


def _typed(section: Section, form: Form) -> dict[str, Any]:
    """What was typed into a card, to be shown again."""
    if section == "general":
        return {name: form.raw(name) for name in ("name", "description")}
    if section == "alerts":
        return typed_alert(form)
    if section == "script":
        return {"preprocess_script": form.raw("preprocess_script")}
    return {**_READERS[section](form), "handle_identifies": form.text("handle_identifies")}


def _within_source(error: RequestError, page: SourcePage) -> RequestError:
    """The error with fields as the forms call them."""
    errors = []
    for each in error.errors:
        field = each.field.removeprefix(page.settings_field).removeprefix("source").lstrip(".")
        if field.startswith("failure_alert."):
            field = field.split(".")[1]
        errors.append(FieldError(field, each.message))
    return RequestError(error.status, error.code, error.message, errors=errors)


def _choices(page: SourcePage) -> dict[str, Any]:
    provider = page.provider
    windows = sorted({*WINDOWS, page.settings.idempotency_window})
    return {
        "windows": [(int(each.total_seconds()), each) for each in windows],
        "is_cdp": provider is not None and provider.kind == "cdp",
        "signs_first_only": provider is not None and isinstance(provider.scheme, FirstEventHmac),
        **alert_choices(page),
        "script_to_start_with": (provider.script if provider else None) or NEW_SCRIPT,
    }


def _sample(page: SourcePage) -> str:
    """An event to try a script on."""
    examples = page.provider.examples if page.provider else {}
    example = next(iter(examples.values()), None)
    return json_text(example[0].body) if example else "{}"


def _headers(form: Form) -> dict[str, str]:
    """Headers as typed, one in a line.

    Raises:
        RequestError: 422, a line is none.
    """
    headers = {}
    for line in form.raw("sample_headers").splitlines():
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise invalid_fields([FieldError("sample_headers", f"{line!r} is not written as name: value")])
        headers[name.strip()] = value.strip()
    return headers


async def _endpoint(visit: Visit, page: SourcePage) -> dict[str, Any]:
    replaced = [
        (endpoint_url(visit.runtime.settings, each.token), each.expires_at)
        for each in await list_replaced(visit.session, page.settings)
    ]
    return {"replaced": replaced, "overlaps": OVERLAPS}


async def _endpoint_part(visit: Visit, key: str, toast: str) -> Response:
    page = await open_source_page(visit, key)
    context = await _endpoint(visit, page)
    return visit.part("sources/settings/endpoint.html", toast=toast, page=page, saved=True, **context)


async def _secrets(visit: Visit, page: SourcePage) -> dict[str, Any]:
    return {
        "secrets": await list_secrets(visit.session, page.settings),
        "overlaps": OVERLAPS,
        "moment": now(),
    }


async def _secrets_part(
    visit: Visit,
    page: SourcePage,
    status: int = 200,
    *,
    toast: str | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    context = await _secrets(visit, page)
    return visit.part(
        "sources/settings/secrets.html", status, toast=toast, page=page, errors=errors or {}, **context
    )


async def _keys(visit: Visit, page: SourcePage) -> dict[str, Any]:
    return {
        "keys": await list_source_keys(visit.session, page.settings),
        "key_name": "",
        "issued": None,
        "plaintext": None,
    }


async def _keys_part(
    visit: Visit, page: SourcePage, status: int = 200, *, toast: str | None = None, **context: Any
) -> Response:
    shown = {**await _keys(visit, page), "errors": {}, **context}
    return visit.part("sources/settings/keys.html", status, toast=toast, page=page, **shown)
