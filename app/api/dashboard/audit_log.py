"""The audit log: who changed what and when, with the difference that each change made."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Response

from app.account.audit import AuditFilter, list_audit_log
from app.api.dashboard.request import PageRoute, page_request
from app.api.dashboard.session import AccountAdminVisit
from app.core.errors import FieldError
from app.core.validation import aware, invalid_fields
from app.models.audit import AuditEntry
from app.models.types import now

router = APIRouter(prefix="/settings/audit-log", route_class=PageRoute)

KINDS = ("source", "environment", "variable", "service_token", "retention", "user")
PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}


@router.get("")
async def show(visit: AccountAdminVisit) -> Response:
    """The changes, newest first, filtered as the address says."""
    query = visit.request.query_params
    wanted = AuditFilter(
        resource_type=query.get("kind") or None,
        resource_key=query.get("key") or None,
        environment=query.get("in") or None,
        actor_name=query.get("actor") or None,
        starting_at=_since(query.get("since", "")),
        ending_at=_day_end(query.get("until", "")),
    )
    found = await list_audit_log(visit.session, wanted, page_request(visit.request))
    entries = [(each, list(differences(each))) for each in found.items]
    is_filtered = wanted != AuditFilter()
    return visit.page(
        "settings/audit_log.html",
        found=found,
        entries=entries,
        query=query,
        kinds=[(each, each.replace("_", " ")) for each in KINDS],
        is_filtered=is_filtered,
    )


def differences(entry: AuditEntry) -> Iterator[tuple[str, Any, Any]]:
    """What a change changed: dotted paths with the value before and after; None where there is none."""
    before, after = dict(_leaves(entry.before)), dict(_leaves(entry.after))
    for path in [*before, *(each for each in after if each not in before)]:
        if before.get(path) != after.get(path):
            yield path, before.get(path), after.get(path)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        for number, each in enumerate(value):
            # Lists of things that have an id are compared by it: a removed one does not shift the others.
            name = each.get("id", number) if isinstance(each, dict) else number
            yield from _leaves(each, f"{path}.{name}")
    elif path:
        yield path, value


def _since(text: str) -> datetime | None:
    return now() - PERIODS[text] if text in PERIODS else _day(text, "since")


def _day_end(text: str) -> datetime | None:
    day = _day(text, "until")
    return None if day is None else day + timedelta(days=1)


def _day(text: str, field: str) -> datetime | None:
    try:
        return aware(datetime.fromisoformat(text).replace(tzinfo=UTC)) if text else None
    except ValueError:
        raise invalid_fields([FieldError(field, "is not a day such as 2026-01-31")]) from None
