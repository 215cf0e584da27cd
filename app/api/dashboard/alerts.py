"""The cards of a source's Settings tab about failure alerts: when it alerts and whom, what was sent, a
test."""

from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Response
from pydantic import SecretStr

from app.alerts.secrets import find_alert_secret
from app.alerts.store import list_alerts, make_test_alert
from app.api.dashboard.forms import Form, field_messages, parse_body, read_form
from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit, WriteVisit
from app.api.dashboard.source_page import SourcePage, open_source_page
from app.api.dashboard.wording import duration
from app.api.management.alerts import WrappedAlertSecretRequest
from app.core.errors import RequestError
from app.database.pages import PageRequest
from app.sources.edits import remove_alert_secret, save_alert_secret
from app.sources.store import shown_alert

router = APIRouter(prefix="/sources/{key}/settings/alerts", route_class=PageRoute)

# Alerts that the card shows.
SHOWN = 10
FIELDS = ("window_minutes", "failed_events", "failed_share", "stuck_after_minutes", "webhook_url", "emails")
# What people choose from.
WINDOWS = [5, 15, 30, 60, 6 * 60, 24 * 60]
SHARES = [0.05, 0.1, 0.25, 0.5, 1.0]
STUCK = [5, 15, 60, 6 * 60, 24 * 60]


def read_alert(form: Form) -> dict[str, Any]:
    """The setting as the card was filled in; what is left out has no rule."""
    if not form.is_on("alerts"):
        return {"failure_alert": None}
    typed: dict[str, Any] = {name: form.number(name) for name in FIELDS}
    emails = [each.strip() for each in form.text("emails").split(",") if each.strip()]
    return {"failure_alert": {**typed, "failed_share": _share(form), "emails": emails}}


def _share(form: Form) -> float | str | None:
    text = form.text("failed_share")
    try:
        return float(text)
    except ValueError:
        return text or None


def typed_alert(form: Form) -> dict[str, Any]:
    """What was typed, to be shown again."""
    return {"alerts": form.is_on("alerts"), **{name: form.text(name) for name in FIELDS}}


def stored_alert(page: SourcePage) -> dict[str, Any]:
    """What is saved, by field of the form."""
    saved = shown_alert(page.settings.failure_alert)
    if saved is None:
        return {"alerts": False, **dict.fromkeys(FIELDS, ""), "window_minutes": WINDOWS[1]}
    shown = {name: "" if saved[name] is None else saved[name] for name in FIELDS}
    return {"alerts": True, **shown, "emails": ", ".join(saved["emails"])}


def alert_choices(page: SourcePage) -> dict[str, Any]:
    """What the card's selections offer: the usual ones and what is saved."""
    saved = page.settings.failure_alert or {}

    def offered(name: str, usual: list[Any]) -> list[Any]:
        return sorted({*usual, saved[name]} if saved.get(name) is not None else usual)

    return {
        "alert_windows": [(each, _minutes(each)) for each in offered("window_minutes", WINDOWS)],
        "alert_shares": [(each, f"{each * 100:g} %") for each in offered("failed_share", SHARES)],
        "alert_delays": [(each, f"after {_minutes(each)}") for each in offered("stuck_after_minutes", STUCK)],
    }


def _minutes(number: int) -> str:
    return duration(timedelta(minutes=number))


async def sent_alerts(visit: Visit, page: SourcePage) -> dict[str, Any]:
    """What the card of sent alerts shows."""
    found = await list_alerts(visit.session, page.settings, PageRequest(SHOWN))
    return {
        "alerts": found.items,
        "has_more_alerts": found.after is not None,
        "alert_secret": await find_alert_secret(visit.session, page.settings),
    }


@router.get("")
async def show_sent(key: str, visit: ReadVisit) -> Response:
    """The latest alerts, as they are by now."""
    return await _part(visit, await open_source_page(visit, key))


@router.post("/test")
async def send_test(key: str, visit: WriteVisit) -> Response:
    """Tell the receivers how the source is now."""
    page = await open_source_page(visit, key)
    await make_test_alert(visit.session, page.settings, visit.runtime.settings.base_url)
    await visit.session.commit()
    return await _part(visit, page, toast="A test alert is on its way")


@router.post("/secret")
async def save_secret(key: str, visit: WriteVisit) -> Response:
    """Sign the webhooks of alerts with a secret from now on."""
    page = await open_source_page(visit, key)
    typed = SecretStr((await read_form(visit.request)).text("alert_secret"))
    try:
        body = parse_body(WrappedAlertSecretRequest, {"secret": {"value": typed}})
        value = body.secret.value.get_secret_value()
        await save_alert_secret(visit.session, visit.access, visit.runtime.box, page.settings, value)
    except RequestError as error:
        errors = field_messages(error, within="secret", names={"value": "alert_secret"})
        return await _part(visit, page, error.status, errors=errors)
    await visit.session.commit()
    return await _part(visit, page, toast="Alerts are signed from now on")


@router.post("/secret/delete")
async def delete_secret(key: str, visit: WriteVisit) -> Response:
    """Sign the webhooks of alerts no longer."""
    page = await open_source_page(visit, key)
    await remove_alert_secret(visit.session, visit.access, page.settings)
    await visit.session.commit()
    return await _part(visit, page, toast="Alerts are not signed any more")


async def _part(
    visit: Visit,
    page: SourcePage,
    status: int = 200,
    *,
    toast: str | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    context = await sent_alerts(visit, page)
    return visit.part(
        "sources/settings/alerts_sent.html", status, toast=toast, page=page, errors=errors or {}, **context
    )
