"""The filters of the log as a page's address and form hold them: read, shown, taken away one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.actions.registry import action_types
from app.api.dashboard.wording import action_label, state
from app.logs.filters import LogFilter
from app.models.status import ActionStatus, EventStatus, VerificationStatus
from app.models.types import in_utc, now

MAXIMUM_TEXT = 255
PERIODS = {
    "15m": ("Last 15 minutes", timedelta(minutes=15)),
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}
# A search reads the bodies of a time one after the other: without one it looks at the last hour.
SEARCHED_PERIOD = "1h"

_NAMES = {
    "source": "Source",
    "event": "Event type",
    "status": "Status",
    "period": "Time",
    "starting_at": "From",
    "ending_at": "To",
    "verification_status": "Verification",
    "idempotent": "Repeats",
    "action_type": "Action",
    "action_status": "Action status",
    "id": "Id",
    "idempotency_key": "Idempotency key",
    "search": "Payload contains",
    "replay_id": "Replay",
}
# What stands behind "More filters".
MORE = frozenset(_NAMES) - {"source", "event", "status", "period", "search", "replay_id"}
IDEMPOTENT = {"true": "Only repeats", "false": "No repeats"}


@dataclass(frozen=True)
class LogQuery:
    """Filters of the log. `given` is what the address says, by field; `errors` what is wrong with it."""

    wanted: LogFilter
    given: dict[str, str]
    errors: dict[str, str]

    @property
    def shown(self) -> list[tuple[str, str, str]]:
        """The filters that are set: field, its name, its value in words."""
        return [(name, _NAMES[name], _in_words(name, text)) for name, text in self.given.items()]

    @property
    def values(self) -> dict[str, str]:
        """What stands in each field."""
        return {name: self.given.get(name, "") for name in _NAMES}

    @property
    def messages(self) -> dict[str, str]:
        """What stands beside each field."""
        return {name: self.errors.get(name, "") for name in _NAMES}

    @property
    def other_errors(self) -> list[str]:
        """What is wrong and belongs to no field."""
        return [
            f"{name.replace('_', ' ')}: {message}" if name else message
            for name, message in self.errors.items()
            if name not in _NAMES
        ]

    @property
    def has_more(self) -> bool:
        """Whether one of the rarer filters is set."""
        return not MORE.isdisjoint(self.given) or not MORE.isdisjoint(self.errors)


def read_query(query: Mapping[str, str], environment: str, source_key: str | None) -> LogQuery:
    """The filters of an address. What cannot be read filters nothing and is told in `errors`."""
    given = {name: text for name in _NAMES if (text := query.get(name, "").strip())}
    if source_key is not None:
        given.pop("source", None)
    if "search" in given and not given.keys() & {"period", "starting_at"}:
        given["period"] = SEARCHED_PERIOD
    errors: dict[str, str] = {}

    def read(name: str, parse: Callable[[str], Any]) -> Any:
        if name not in given:
            return None
        try:
            return parse(given[name])
        except (ValueError, KeyError):
            errors[name] = _expected(name)
            return None

    wanted = LogFilter(
        environment=environment,
        source_key=source_key or given.get("source"),
        event_type=read("event", _text),
        status=read("status", EventStatus),
        idempotent=read("idempotent", {"true": True, "false": False}.__getitem__),
        verification_status=read("verification_status", VerificationStatus),
        id=read("id", UUID),
        idempotency_key=read("idempotency_key", _text),
        action_type=read("action_type", _action_type),
        action_status=read("action_status", ActionStatus),
        search=read("search", _text),
        replay_id=read("replay_id", UUID),
        starting_at=read("starting_at", _moment) or read("period", _period_start),
        ending_at=read("ending_at", _moment),
    )
    return LogQuery(wanted, given, errors)


def _text(text: str) -> str:
    if len(text) > MAXIMUM_TEXT or "\x00" in text:
        raise ValueError
    return text


def _moment(text: str) -> datetime | None:
    return in_utc(datetime.fromisoformat(text))


def _period_start(text: str) -> datetime:
    return now() - PERIODS[text][1]


def _action_type(text: str) -> str:
    return action_types()[text].name


def _expected(name: str) -> str:
    match name:
        case "id" | "replay_id":
            return "is not an id, such as 01a20df1-e8fc-72f9-a988-19f172a42afd"
        case "starting_at" | "ending_at":
            return "is not a time, such as 2026-01-31T14:00"
        case "event" | "idempotency_key" | "search":
            return f"has at most {MAXIMUM_TEXT} characters"
    return "is not one of the choices"


def _in_words(name: str, text: str) -> str:
    match name:
        case "period":
            return PERIODS[text][0] if text in PERIODS else text
        case "idempotent":
            return IDEMPOTENT.get(text, text)
        case "action_type":
            return action_label(text)
        case "verification_status" | "status" | "action_status":
            return state(text)
    return text
