"""An API process whose clock is three seconds behind: `python -m tests.faults.late_clock`.

Ids and times of receipt are what a process takes from the clock.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import uuid_utils.compat

from app.models import types

BEHIND = timedelta(seconds=3)
_uuid7 = uuid_utils.compat.uuid7


def _late_now() -> datetime:
    return datetime.now(UTC) - BEHIND


def _late_uuid7() -> UUID:
    return UUID(int=_uuid7().int - (int(BEHIND.total_seconds() * 1000) << 80))


if __name__ == "__main__":
    types.now = _late_now
    uuid_utils.compat.uuid7 = _late_uuid7  # type: ignore[assignment]

    from app.cli.main import main

    main(["api"])
