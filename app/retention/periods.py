"""Retention: how long each kind of thing is kept, and the end of what is past it.

Logs and payloads go by whole days, with their partitions (`app/database/partitions.py`), which all
environments share: so the days hold for all of them. What the directory gathers has no partitions, and goes
in batches here. The hourly maintenance (`app/activities/maintenance.py`) applies it. Nothing that is
unfinished is ever taken.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import FieldError
from app.core.settings import Settings
from app.core.validation import invalid_fields
from app.models.retention import Retention
from app.models.types import first_id_at, now

MAXIMUM_DAYS = 3650
# Rows deleted in one transaction: short enough that nobody waits for it.
BATCH_SIZE = 1000


class RetentionKind(StrEnum):
    """What has a retention of its own, by the name of its field."""

    PAYLOADS = "payload_days"
    LOGS = "log_days"
    WORKFLOW_RUNS = "workflow_run_days"
    MESSAGES = "message_days"
    BULK_OPERATIONS = "bulk_operation_days"


# Each is part of the other, or read through it, and goes no later.
_WITHIN = {RetentionKind.PAYLOADS: RetentionKind.LOGS, RetentionKind.MESSAGES: RetentionKind.WORKFLOW_RUNS}

_LARGEST_WINDOW = text("SELECT coalesce(max(idempotency_window), '0') FROM source_environments")

_FINAL_RUN = "status IN ('completed', 'cancelled') AND NOT stop_requested AND updated_at < :moment"
_PRUNES: dict[RetentionKind, tuple[str, ...]] = {
    RetentionKind.MESSAGES: (
        f"""
DELETE FROM messages WHERE id IN (
    SELECT id FROM messages WHERE id < :before
        AND EXISTS (SELECT FROM workflow_recipient_runs AS run WHERE run.id = run_id AND {_FINAL_RUN})
    ORDER BY id LIMIT :size
)""",
    ),
    # Their steps and messages go with them; a trigger goes when the last of its runs is gone.
    RetentionKind.WORKFLOW_RUNS: (
        f"""
DELETE FROM workflow_recipient_runs WHERE id IN (
    SELECT id FROM workflow_recipient_runs WHERE id < :before AND {_FINAL_RUN} ORDER BY id LIMIT :size
)""",
        """
DELETE FROM workflow_runs WHERE id IN (
    SELECT id FROM workflow_runs WHERE id < :before
        AND NOT EXISTS (SELECT FROM workflow_recipient_runs AS run
          WHERE run.workflow_run_id = workflow_runs.id)
    ORDER BY id LIMIT :size
)""",
    ),
    # Without its log, nothing that is older than what was applied can be replayed.
    RetentionKind.LOGS: (
        """
DELETE FROM applied_changes WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM applied_changes WHERE last_on < CAST(:moment AS date) ORDER BY last_on LIMIT :size
))""",
    ),
    RetentionKind.BULK_OPERATIONS: (
        """
DELETE FROM bulk_operations WHERE id IN (
    SELECT id FROM bulk_operations WHERE id < :before AND status IN ('completed', 'failed')
      AND updated_at < :moment
    ORDER BY id LIMIT :size
)""",
    ),
}


@dataclass(frozen=True)
class RetentionPlan:
    """The days that each kind is kept, those of the process's settings, and when it was last set."""

    days: Mapping[RetentionKind, int]
    defaults: Mapping[RetentionKind, int]
    updated_at: datetime | None


def default_days(settings: Settings) -> dict[RetentionKind, int]:
    """What holds for a kind that nobody set."""
    logs, directory = settings.retention_days, settings.directory_retention_days
    payloads = logs if settings.payload_retention_days is None else settings.payload_retention_days
    return {
        RetentionKind.PAYLOADS: min(payloads, logs),
        RetentionKind.LOGS: logs,
        RetentionKind.WORKFLOW_RUNS: directory,
        RetentionKind.MESSAGES: directory,
        RetentionKind.BULK_OPERATIONS: directory,
    }


async def get_retention(session: AsyncSession, settings: Settings) -> RetentionPlan:
    """How long each kind is kept now."""
    rows = (await session.exec(select(Retention))).all()
    defaults, known = default_days(settings), set(RetentionKind)
    days = defaults | {RetentionKind(each.kind): each.days for each in rows if each.kind in known}
    # A default may be longer than what the other was set to; it holds nobody to more than was asked for.
    for part, whole in _WITHIN.items():
        days[part] = min(days[part], days[whole])
    return RetentionPlan(days, defaults, max((each.updated_at for each in rows), default=None))


async def set_retention(
    session: AsyncSession, settings: Settings, change: Mapping[RetentionKind, int | None]
) -> RetentionPlan:
    """Set how long these kinds are kept; None returns one to its default.

    Raises:
        RequestError: 422, naming everything that does not fit together; nothing was changed.
    """
    present = {each.kind: each.days for each in (await session.exec(select(Retention))).all()}
    wanted = {**present, **{kind.value: days for kind, days in change.items()}}
    days = default_days(settings) | {
        RetentionKind(kind): each for kind, each in wanted.items() if each is not None
    }
    given = {kind for kind in RetentionKind if wanted.get(kind) is not None}
    if errors := _errors(days, given, await _window_days(session)):
        raise invalid_fields(errors)
    await session.exec(delete(Retention).where(col(Retention.kind).in_([each.value for each in change])))
    session.add_all(Retention(kind=kind, days=days) for kind, days in change.items() if days is not None)
    await session.flush()
    return await get_retention(session, settings)


def _errors(days: Mapping[RetentionKind, int], given: set[RetentionKind], window: int) -> list[FieldError]:
    errors = []
    for part, whole in _WITHIN.items():
        if part in given and days[part] > days[whole]:
            longer = f"is {days[part]}, longer than {whole} ({days[whole]})"
            message = f"{longer}: what it belongs to would be gone first"
            errors.append(FieldError(f"retention.{part}", message))
    if RetentionKind.LOGS in given and days[RetentionKind.LOGS] < window:
        message = (
            f"is {days[RetentionKind.LOGS]}, shorter than the longest idempotency window of a source "
            f"({window} days): repeats would refer to an event that is gone. Shorten the window first "
            "(idempotency_window_seconds)"
        )
        errors.append(FieldError(f"retention.{RetentionKind.LOGS}", message))
    return errors


async def _window_days(session: AsyncSession) -> int:
    window: timedelta = (await (await session.connection()).execute(_LARGEST_WINDOW)).scalar_one()
    return math.ceil(window / timedelta(days=1))


async def log_retention(session: AsyncSession, settings: Settings) -> dict[str, timedelta]:
    """How long the partitions of each table are kept. A window that became longer meanwhile is kept to."""
    days = (await get_retention(session, settings)).days
    logs = timedelta(days=max(days[RetentionKind.LOGS], await _window_days(session)))
    return {"events": logs, "actions": logs, "event_payloads": timedelta(days=days[RetentionKind.PAYLOADS])}


async def prune(connection: AsyncConnection, kind: RetentionKind, days: int) -> int:
    """Delete the next batch of what the directory keeps of a kind, past these days; how many rows."""
    moment = now() - timedelta(days=days)
    parameters = {"moment": moment, "before": first_id_at(moment), "size": BATCH_SIZE}
    deleted = [await connection.execute(text(each), parameters) for each in _PRUNES.get(kind, ())]
    return max((each.rowcount for each in deleted), default=0)
