"""The right of erasure: everything that Doorbell holds of a user, found and deleted in batches.

The request writes a row and wakes the workers; a workflow (`app/workflows/erasure.py`) works it off here,
phase by phase, a batch a transaction, noting how far it is in the same transaction. What is found and deleted
in the log is in `app/retention/event_erasure.py`, in the directory in `app/directory/erasure.py`.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import exact_json
from app.core.errors import RequestError
from app.core.secrets import SecretBox
from app.database.engine import to_json
from app.database.pages import Page, PageRequest, fetch_page
from app.directory import erasure as directory_erasure
from app.models.erasure import Erasure
from app.models.types import first_id_at, id_time_range, now, time_of
from app.retention import event_erasure

# A worker hears of a new erasure of its environment on this channel.
CHANNEL = "doorbell_erasures"
# How long what is in mid-work is waited for; after that it is counted, and a second erasure finds it.
WAIT_FOR_LATE = timedelta(hours=1)
# Events kept in mind that had no final status when they were found.
MAXIMUM_LATE = 10_000


class Phase(StrEnum):
    """What an erasure looks through, in this order."""

    ACTIONS = "actions"
    PAYLOADS = "payloads"
    LATE_EVENTS = "late_events"
    DIRECTORY = "directory"
    DONE = "done"


class BatchOutcome(StrEnum):
    """What is next after a batch. `later`: something is in mid-work, and is looked at again."""

    MORE = "more"
    LATER = "later"
    DONE = "done"


@dataclass(frozen=True)
class ErasureRequest:
    """Whose data is deleted. `search` are texts, of which events are erased whose payload holds one, in a
    time range."""

    user_id: str
    dry_run: bool = False
    search: Sequence[str] = field(default=(), repr=False)
    starting_at: datetime | None = None
    ending_at: datetime | None = None


_FIRST_ID = text("""
SELECT least((SELECT id FROM actions ORDER BY id LIMIT 1), (SELECT id
  FROM event_payloads ORDER BY id LIMIT 1))
""")

_NOTIFY = text("SELECT pg_notify(:channel, :environment)")

_FAIL = text("""
UPDATE erasures SET status = 'failed', finished_at = now(), updated_at = now(), search = NULL
WHERE id = :id AND status IN ('queued', 'processing')
""")

_LOCK = text("SELECT * FROM erasures WHERE id = :id AND status IN ('queued', 'processing') FOR UPDATE")

_ADVANCE = text("""
UPDATE erasures SET status = :status, phase = :phase, cursor = :cursor, late = CAST(:late AS json),
    counts = CAST(:counts AS json), updated_at = now(), finished_at = CASE WHEN :over THEN now() END,
    search = CASE WHEN :over THEN NULL ELSE search END
WHERE id = :id
""")


async def ask_to_erase(
    session: AsyncSession, box: SecretBox, environment: str, request: ErasureRequest, requested_by: str
) -> Erasure:
    """Let a worker of the environment erase a user. What arrives from now on is not looked at."""
    connection = await session.connection()
    first = (await connection.execute(_FIRST_ID)).scalar_one()
    moment = first_id_at(now() + timedelta(milliseconds=1))
    begins = UUID(int=(moment if first is None else first).int - 1)
    erasure = Erasure(
        environment=environment,
        user_id=request.user_id,
        dry_run=request.dry_run,
        search=box.encrypt(exact_json.dumps(list(request.search))) if request.search else None,
        starting_at=request.starting_at,
        ending_at=request.ending_at,
        phase=Phase.ACTIONS,
        cursor=begins,
        begins_at=begins,
        ends_at=moment,
        counts=dict.fromkeys([*event_erasure.TABLES, *directory_erasure.TABLES], 0),
        requested_by=requested_by,
    )
    session.add(erasure)
    await session.flush()
    await connection.execute(_NOTIFY, {"channel": CHANNEL, "environment": environment})
    return erasure


async def get_erasure(session: AsyncSession, identifier: UUID) -> Erasure:
    """The erasure.

    Raises:
        RequestError: 404, there is none.
    """
    erasure = await session.get(Erasure, identifier)
    if erasure is None:
        raise RequestError(404, "resource_missing", f"There is no erasure {identifier}")
    return erasure


async def list_erasures(session: AsyncSession, environment: str | None, page: PageRequest) -> Page[Erasure]:
    """A page of the erasures, newest first."""
    query = select(Erasure.__table__)  # type: ignore[attr-defined]
    if environment is not None:
        query = query.where(col(Erasure.environment) == environment)
    return await fetch_page(
        await session.connection(),
        query,
        [col(Erasure.id)],
        page,
        lambda row: Erasure(**{name: row._mapping[name] for name in Erasure.model_fields}),
        descending=True,
        parse=UUID,
    )


def progress_of(erasure: Erasure) -> float:
    """How much of the time that the logs go back has been looked through, from 0 to 1."""
    if erasure.status == "completed":
        return 1.0
    span = (time_of(erasure.ends_at) - time_of(erasure.begins_at)).total_seconds()
    passes = 2 if erasure.search else 1
    if erasure.phase not in (Phase.ACTIONS, Phase.PAYLOADS):
        return 0.99
    done = (time_of(erasure.cursor) - time_of(erasure.begins_at)).total_seconds() / max(span, 0.001)
    earlier = 1 if erasure.phase == Phase.PAYLOADS else 0
    return min(0.99, (earlier + max(0.0, done)) / passes)


async def fail_erasure(connection: AsyncConnection, identifier: UUID) -> None:
    """Note that an erasure ended before its time. One that is finished stays so."""
    await connection.execute(_FAIL, {"id": identifier})


@dataclass
class _Work:
    """An erasure in mid-work, as one batch finds it and leaves it."""

    row: Row[Any]
    search: list[str] = field(repr=False)
    phase: Phase
    cursor: UUID
    late: set[UUID]
    counts: Counter[str]
    verdict: BatchOutcome = BatchOutcome.MORE

    def go_on_with(self, phase: Phase, cursor: UUID) -> None:
        self.phase, self.cursor = phase, cursor

    @property
    def is_patient(self) -> bool:
        """Whether what is in mid-work is waited for still."""
        return not self.row.dry_run and now() - self.row.inserted_at < WAIT_FOR_LATE


async def work_off_batch(connection: AsyncConnection, box: SecretBox, identifier: UUID) -> BatchOutcome:
    """Erase the next batch and note how far the erasure is, in one transaction."""
    row = (await connection.execute(_LOCK, {"id": identifier})).first()
    if row is None:
        return BatchOutcome.DONE
    search = [] if row.search is None else exact_json.loads(box.decrypt(row.search))
    work = _Work(row, search, Phase(row.phase), row.cursor, set(map(UUID, row.late)), Counter(row.counts))
    await _PHASES[work.phase](connection, work)
    over = work.phase is Phase.DONE
    if over:
        await event_erasure.forget_counted(connection, identifier)
    await connection.execute(
        _ADVANCE,
        {
            "id": identifier,
            "status": "completed" if over else "processing",
            "phase": work.phase,
            "cursor": work.cursor,
            "late": to_json(sorted(map(str, work.late))),
            "counts": to_json(work.counts),
            "over": over,
        },
    )
    return BatchOutcome.DONE if over else work.verdict


async def _look_through_actions(connection: AsyncConnection, work: _Work) -> None:
    found = await event_erasure.find_by_actions(connection, work.cursor, work.row.ends_at, work.row.user_id)
    await _erase(connection, work, found.event_ids)
    if found.last is not None:
        work.cursor = found.last
    elif work.search:
        starts = first_id_at(work.row.starting_at) if work.row.starting_at else work.row.begins_at
        work.go_on_with(Phase.PAYLOADS, max(starts, work.row.begins_at))
    else:
        work.go_on_with(Phase.LATE_EVENTS, work.cursor)


async def _look_through_payloads(connection: AsyncConnection, work: _Work) -> None:
    ends = work.row.ends_at
    if work.row.ending_at is not None:
        ends = min(ends, id_time_range(first_id_at(work.row.ending_at))[1])
    found = await event_erasure.find_by_text(connection, work.cursor, ends, work.search)
    await _erase(connection, work, found.event_ids)
    if found.last is not None:
        work.cursor = found.last
    else:
        work.go_on_with(Phase.LATE_EVENTS, work.cursor)


async def _look_at_late_events(connection: AsyncConnection, work: _Work) -> None:
    late, work.late = work.late, set()
    await _erase(connection, work, late)
    if work.late and work.is_patient:
        work.verdict = BatchOutcome.LATER
    else:
        work.counts["unfinished_events"] = len(work.late)
        work.go_on_with(Phase.DIRECTORY, work.cursor)


async def _look_through_directory(connection: AsyncConnection, work: _Work) -> None:
    whose = (work.row.environment, work.row.user_id)
    work.counts.update(await event_erasure.forget_applied(connection, *whose, dry_run=work.row.dry_run))
    if work.row.dry_run:
        work.counts.update(await directory_erasure.count_user(connection, *whose))
        return work.go_on_with(Phase.DONE, work.cursor)
    deleted, more = await directory_erasure.delete_user(connection, *whose)
    work.counts.update(deleted)
    if more:
        return None
    left = await directory_erasure.count_going_on(connection, *whose)
    if left and work.is_patient:
        work.verdict = BatchOutcome.LATER
    else:
        work.counts["unfinished_runs"] = left
        work.go_on_with(Phase.DONE, work.cursor)
    return None


async def _erase(connection: AsyncConnection, work: _Work, concerned: Collection[UUID]) -> None:
    """Erase these events and their families, those that are final; the others are looked at later."""
    family = await event_erasure.find_family(connection, work.row.environment, concerned)
    unfinished = {each.id for each in family if each.status in ("received", "processing")}
    work.late |= set(list(unfinished)[: MAXIMUM_LATE - len(work.late)])
    ids = sorted(each.id for each in family if each.id not in unfinished and each.erased_at is None)
    if ids and work.row.dry_run:
        work.counts.update(await event_erasure.count_events(connection, work.row.id, ids))
    elif ids:
        texts = [work.row.user_id, *work.search]
        work.counts.update(await event_erasure.erase_events(connection, ids, texts))


_PHASES: dict[Phase, Callable[[AsyncConnection, _Work], Awaitable[None]]] = {
    Phase.ACTIONS: _look_through_actions,
    Phase.PAYLOADS: _look_through_payloads,
    Phase.LATE_EVENTS: _look_at_late_events,
    Phase.DIRECTORY: _look_through_directory,
}
