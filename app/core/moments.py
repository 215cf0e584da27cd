"""Moments as senders write them: seconds or milliseconds since 1970, or ISO 8601 text."""

from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any

# From here on a number counts milliseconds.
MILLISECONDS_FROM = 1e12


def moment_of(value: Any) -> datetime | None:
    """The moment that a value is; None when it is none, or one that cannot be stored."""
    try:
        moment = _moment(value)
    except (ValueError, OverflowError, OSError):
        return None
    # At the ends of the calendar another time zone has no date: Postgres would take it, and Python not read
    # it.
    return moment if moment is not None and MINYEAR < moment.year < MAXYEAR else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        moment = datetime.fromisoformat(value)
        # In UTC: Postgres takes no offset of 16 hours and more.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        number = float(value)
        return datetime.fromtimestamp(number / 1000 if number >= MILLISECONDS_FROM else number, UTC)
    return None
