"""How long a delay step waits: a duration, until a time in the data, or a duration before or after that
time."""

import calendar
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from app.core.changes import Change
from app.core.conditions import look_up, moment_of
from app.directory.conditions import PREFIXES
from app.models.types import in_utc

# Knock's limit.
MAXIMUM_DELAY = timedelta(days=365)
_UNITS = {unit: timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days", "weeks")}


class Duration(Change):
    """So many of a unit. Negative before a time in the data."""

    unit: Literal["seconds", "minutes", "hours", "days", "weeks", "months"]
    value: int = Field(ge=-1_000_000_000, le=1_000_000_000)


class DelaySettings(Change):
    """At least one of the two; with both, the duration counts from the time in the data."""

    delay_for: Duration | None = None
    delay_until_field_path: str | None = None

    @model_validator(mode="after")
    def _has_one(self) -> "DelaySettings":
        path = self.delay_until_field_path
        if path is None and self.delay_for is None:
            raise ValueError("needs delay_for, delay_until_field_path, or both")
        if path is None and self.delay_for is not None and self.delay_for.value < 0:
            raise ValueError("delay_for can only be negative with delay_until_field_path")
        if path is not None and path.partition(".")[0] not in PREFIXES:
            raise ValueError(f"delay_until_field_path must begin with one of {', '.join(PREFIXES)}")
        return self


class UnknownTime(ValueError):
    """The data has no time at the path; the message says what is there."""


_DURATION: TypeAdapter[Duration] = TypeAdapter(Duration)


def wait_until(settings: DelaySettings, scope: Mapping[str, Any], moment: datetime) -> datetime:
    """When a delay that begins at `moment` ends, at most 365 days later. It may lie in the past.

    Raises:
        UnknownTime: the path leads to neither a timestamp nor a duration.
    """
    if settings.delay_until_field_path is not None:
        end = _from_data(settings.delay_until_field_path, scope, moment)
    else:
        end = moment
    if settings.delay_for is not None:
        end = _later(end, settings.delay_for)
    return min(in_utc(end), moment + MAXIMUM_DELAY)


def _from_data(path: str, scope: Mapping[str, Any], moment: datetime) -> datetime:
    value = look_up(path, scope)
    found = moment_of(value)
    if found is not None:
        return found
    if isinstance(value, dict):
        try:
            return _later(moment, _DURATION.validate_python(value))
        except ValidationError:
            pass
    kind = "nothing" if value in ("", None) else f"{type(value).__name__} {str(value)[:100]!r}"
    raise UnknownTime(f"{path} is no timestamp in ISO 8601 and no duration: there is {kind}")


def _later(moment: datetime, duration: Duration) -> datetime:
    """`moment` and the duration. Months are the calendar's; beyond the calendar's ends it stops there."""
    try:
        if duration.unit != "months":
            return moment + duration.value * _UNITS[duration.unit]
        months = moment.year * 12 + moment.month - 1 + duration.value
        year, month = months // 12, months % 12 + 1
        return moment.replace(
            year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1])
        )
    except (OverflowError, ValueError):
        return datetime.max.replace(tzinfo=UTC) if duration.value > 0 else datetime.min.replace(tzinfo=UTC)
