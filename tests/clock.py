"""Clocks that a test sets: what depends on time does the same however busy the machine is, and at any time of
day."""

from datetime import datetime, tzinfo

import pytest

from app.models import types


def set_clock(patch: pytest.MonkeyPatch, moment: datetime) -> None:
    """Let Doorbell's code in this process take a moment for the present. Postgres has a clock of its own."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return moment.astimezone(tz)

    patch.setattr(types, "datetime", Stopped)


class Clock:
    """Stands still until it is set, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
