"""How values are said to people: times, counts, states, action types. The filters of the templates."""

import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from app.actions.registry import action_types
from app.models.status import (
    ActionStatus,
    EventStatus,
    ReplayStatus,
    RunStatus,
    StepStatus,
    VerificationStatus,
)

# The colour of a state: `good`, `bad`, `warning`, `busy` or `quiet`.
_TONES: dict[str, str] = {
    EventStatus.RECEIVED: "busy",
    EventStatus.PROCESSING: "busy",
    EventStatus.SUCCEEDED: "good",
    EventStatus.FAILED: "bad",
    EventStatus.IDEMPOTENT: "quiet",
    EventStatus.REJECTED: "bad",
    EventStatus.IGNORED: "quiet",
    VerificationStatus.ENFORCED_VERIFIED: "good",
    VerificationStatus.ENFORCED_FAILED: "bad",
    VerificationStatus.NOT_ENFORCED_VERIFIED: "good",
    VerificationStatus.NOT_ENFORCED_FAILED: "warning",
    VerificationStatus.NOT_ENFORCED_UNVERIFIED: "quiet",
    ActionStatus.PENDING: "busy",
    ActionStatus.SKIPPED: "warning",
    RunStatus.QUEUED: "busy",
    RunStatus.PAUSED: "busy",
    RunStatus.COMPLETED: "good",
    RunStatus.CANCELLED: "quiet",
    ReplayStatus.RUNNING: "busy",
    StepStatus.WAITING: "busy",
    StepStatus.SENDING: "busy",
    # Of messages, in Knock's words.
    "sent": "good",
    "delivered": "good",
    "undelivered": "bad",
}
_STATES: dict[str, str] = {
    VerificationStatus.ENFORCED_VERIFIED: "verified",
    VerificationStatus.ENFORCED_FAILED: "verification failed",
    VerificationStatus.NOT_ENFORCED_VERIFIED: "verified, not enforced",
    VerificationStatus.NOT_ENFORCED_FAILED: "failed, not enforced",
    VerificationStatus.NOT_ENFORCED_UNVERIFIED: "not verified",
}


def tone(state: str) -> str:
    """The colour of a state."""
    return _TONES.get(state, "quiet")


def state(value: str) -> str:
    """A state in words."""
    return _STATES.get(value, value)


def absolute(moment: datetime) -> str:
    """A time in full, in UTC; browsers show it in the viewer's zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def machine_time(moment: datetime) -> str:
    """A time as `<time datetime>` wants it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def duration(value: timedelta | float) -> str:
    """A length of time, rounded: `350 ms`, `2.4 s`, `5 min`, `24 h`, `7 d`."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    for size, unit in ((60, "min"), (3600, "h"), (86400, "d")):
        limit = {60: 3600, 3600: 48 * 3600, 86400: float("inf")}[size]
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}".replace(f".0 {unit}", f" {unit}")
    return f"{seconds:.0f} s"


def count(number: int, word: str) -> str:
    """A number of things: `1 event`, `2,400 events`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def action_label(action_type: str) -> str:
    """An action type in words, as its declaration names it."""
    action = action_types().get(action_type)
    return action.title if action else action_type


def initials(name: str) -> str:
    """Two letters that stand for a name: of its first two words, or of its first one."""
    words = [word for word in re.split(r"[^0-9A-Za-z]+", name) if word]
    return "".join(word[0] for word in words[:2]).upper() if len(words) > 1 else name[:2].capitalize()


def colour(key: str) -> int:
    """A colour for a name, always the same: a number from 0 to 7 that the style sheet knows."""
    return zlib.crc32(key.encode()) % 8


def with_code(text: str) -> Markup:
    """A text in which `backticks` mark code."""
    parts = (
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


def pattern(text: str) -> str:
    """What `<input pattern>` says for exactly this text."""
    return re.sub(r"([\^$\\.*+?()[\]{}|/])", r"\\\1", text)


FILTERS: dict[str, Callable[..., Any]] = {
    "tone": tone,
    "state": state,
    "absolute": absolute,
    "machine_time": machine_time,
    "duration": duration,
    "count_of": count,
    "action_label": action_label,
    "initials": initials,
    "colour": colour,
    "with_code": with_code,
    "pattern": pattern,
}
