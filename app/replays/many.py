"""Replays of many events: counted, started, worked off chunk by chunk, cancelled.

The request writes a row and wakes the workers; `app/worker/replays.py` starts a workflow for it, which works
the row off here. A chunk's new events and the row's new position are one transaction under the row's lock, so
that each original is replayed once, whichever worker crashes when.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.audit import note_change, snapshot
from app.account.tokens import Access
from app.core.errors import Permanent, RequestError
from app.database.pages import Page, PageRequest, fetch_page
from app.events.superseded import count_superseded
from app.logs.filters import LogFilter
from app.logs.listing import count_events, list_following
from app.models.contracts import ReplayedChunk
from app.models.event import Event
from app.models.replay import Replay
from app.models.status import ActionStatus, EventStatus, ReplayMappings, ReplayStatus, VerificationStatus
from app.models.types import now
from app.replays.one import PayloadMissing, endpoint_of, replay_event
from app.runtime.resources import Runtime
from app.sources.store import get_configured, lock_source

# A worker hears of a new replay of its environment on this channel.
CHANNEL = "doorbell_replays"
# Events made in one transaction, at most: their payloads are in memory together.
MAXIMUM_CHUNK = 20
DEFAULT_RATE = 20
MAXIMUM_RATE = 200
# Failures whose reasons are kept; all are counted.
MAXIMUM_FAILURES = 100
SAMPLE_SIZE = 10
# Of so many events at most is counted how many are older than what was applied since, for so long.
MAXIMUM_OLDER = 1000
OLDER_BATCH = 100
OLDER_SECONDS = 2.0
OPEN = (ReplayStatus.QUEUED, ReplayStatus.RUNNING)

# What the audit log keeps of a replay.
_NOTED = ("id", "status", "filter", "mappings", "rate_limit_per_second", "total", "replayed")
_NOTIFY = text("SELECT pg_notify(:channel, :environment)")
_OUTCOMES = text("SELECT status, count(*) AS number FROM events WHERE replay_id = :id GROUP BY status")


@dataclass(frozen=True)
class ReplayFilter:
    """Which of a source's events are replayed. Times are those of receipt, inclusive.

    Without `include_replays`, those that Doorbell made itself (replays and rehearsals) are not. Repeats
    (status `idempotent`) are replayed only when asked for by status: their original stands for them.
    """

    event: str | None = None
    status: EventStatus | None = None
    verification_status: VerificationStatus | None = None
    action_type: str | None = None
    action_status: ActionStatus | None = None
    starting_at: datetime | None = None
    ending_at: datetime | None = None
    include_replays: bool = False


@dataclass(frozen=True)
class Matches:
    """The events that match now: how many, and the ids of the first."""

    total: int
    sample: list[UUID]


@dataclass(frozen=True)
class Older:
    """How many of the first events that match are older than what was applied since, so that a replay of them
    changes less or nothing; and how many were looked at."""

    number: int
    looked_at: int


async def count_matches(
    session: AsyncSession, key: str, environment: str, wanted: ReplayFilter, *, at: datetime
) -> Matches:
    """What a replay that is started at this moment would replay.

    Raises:
        RequestError: 404, there is no such source; 422, counting took too long.
    """
    await get_configured(session, key, environment)
    matching = _log_filter(key, environment, wanted, at)
    first = await list_following(session, matching, UUID(int=0), SAMPLE_SIZE)
    total = await count_events(session, matching) if len(first) == SAMPLE_SIZE else len(first)
    return Matches(total, [each.id for each in first])


async def count_older(
    session: AsyncSession,
    runtime: Runtime,
    key: str,
    environment: str,
    wanted: ReplayFilter,
    *,
    at: datetime,
) -> Older:
    """How many of the first events that a replay would replay are older than a later success."""
    matching = _log_filter(key, environment, wanted, at)
    destination = runtime.configuration.destination(environment).account or ""
    connection = await session.connection()
    position, number, looked_at = UUID(int=0), 0, 0
    deadline = time.monotonic() + OLDER_SECONDS
    while looked_at < MAXIMUM_OLDER and time.monotonic() < deadline:
        events = await list_following(session, matching, position, OLDER_BATCH)
        number += await count_superseded(connection, [each.id for each in events], destination)
        looked_at += len(events)
        if len(events) < OLDER_BATCH:
            break
        position = events[-1].id
    return Older(number, looked_at)


async def start_replay(
    session: AsyncSession,
    runtime: Runtime,
    access: Access,
    key: str,
    environment: str,
    wanted: ReplayFilter,
    *,
    mappings: ReplayMappings,
    rate_limit_per_second: int,
) -> tuple[Replay, Matches]:
    """Ask for a replay of the events that match and are over by now. The caller commits.

    Raises:
        RequestError: 404, there is no such source; 409, another replay of it is not over; 422, as
            `count_matches`.
    """
    endpoint_of(runtime, environment, key)
    # Two people who ask at the same moment: the second is told of the first.
    await lock_source(session, key)
    await _check_none_is_open(session, key, environment)
    moment = now()
    matches = await count_matches(session, key, environment, wanted, at=moment)
    replay = Replay(
        environment=environment,
        source_key=key,
        filter=_stored(wanted),
        mappings=mappings.value,
        rate_limit_per_second=rate_limit_per_second,
        started_by=access.name,
        total=matches.total,
        created_at=moment,
        updated_at=moment,
    )
    session.add(replay)
    await session.flush()
    _note(session, access, "replay.started", replay)
    connection = await session.connection()
    await connection.execute(_NOTIFY, {"channel": CHANNEL, "environment": environment})
    return replay, matches


async def list_replays(session: AsyncSession, key: str, environment: str, page: PageRequest) -> Page[Replay]:
    """A page of a source's replays, newest first.

    Raises:
        RequestError: 404, there is no such source.
    """
    await get_configured(session, key, environment)
    table = Replay.__table__  # type: ignore[attr-defined]
    query = select(table).where(table.c.source_key == key, table.c.environment == environment)
    return await fetch_page(
        await session.connection(),
        query,
        [col(Replay.id)],
        page,
        lambda row: Replay(**{name: row._mapping[name] for name in Replay.model_fields}),
        descending=True,
        parse=UUID,
    )


async def get_replay(session: AsyncSession, key: str, identifier: UUID, *, lock: bool = False) -> Replay:
    """A replay of a source; locked, it is not worked on until the end of the transaction.

    Raises:
        RequestError: 404, there is none.
    """
    found = await session.get(Replay, identifier, with_for_update=lock, populate_existing=True)
    if found is None or found.source_key != key:
        raise RequestError(404, "resource_missing", f"Source {key!r} has no replay {identifier}")
    return found


async def count_outcomes(session: AsyncSession, identifier: UUID) -> dict[str, int]:
    """What became of the events that a replay made: how many have which status."""
    rows = await (await session.connection()).execute(_OUTCOMES, {"id": identifier})
    return {row.status: row.number for row in rows}


async def cancel_replay(session: AsyncSession, access: Access, key: str, identifier: UUID) -> Replay:
    """Let a replay make no further events. Those that it made go on. The caller commits.

    Raises:
        RequestError: 404, there is none; 409, it is over.
    """
    replay = await get_replay(session, key, identifier, lock=True)
    if replay.status not in OPEN:
        raise RequestError(409, "conflict", f"Replay {identifier} is over: {replay.status}")
    _end(replay, ReplayStatus.CANCELLED)
    _note(session, access, "replay.cancelled", replay)
    return replay


async def work_off_chunk(runtime: Runtime, identifier: UUID) -> ReplayedChunk:
    """Replay the next events and note how far the replay is, in one transaction.

    An event that cannot be replayed is counted, with the reason, and stops no other.

    Raises:
        Retryable: nothing was done, and the same may work later.
    """
    async with AsyncSession(runtime.engine, expire_on_commit=False) as session:
        replay = await session.get(Replay, identifier, with_for_update=True)
        if replay is None or replay.status not in OPEN:
            return ReplayedChunk(is_last=True)
        size = min(MAXIMUM_CHUNK, replay.rate_limit_per_second)
        originals = await list_following(session, _matching(replay), replay.position, size)
        replayed = await _replay_all(session, runtime, replay, originals)
        replay.status, replay.updated_at = ReplayStatus.RUNNING.value, now()
        replay.started_at = replay.started_at or replay.updated_at
        if is_last := len(originals) < size:
            _end(replay, ReplayStatus.COMPLETED)
        await session.commit()
    return ReplayedChunk(is_last=is_last, pause=replayed / replay.rate_limit_per_second)


async def fail_replay(session: AsyncSession, identifier: UUID, error: str) -> None:
    """Note that a replay ended before its time. One that is over stays so. The caller commits."""
    replay = await session.get(Replay, identifier, with_for_update=True)
    if replay is not None and replay.status in OPEN:
        _end(replay, ReplayStatus.FAILED)
        replay.error = error


async def _replay_all(
    session: AsyncSession, runtime: Runtime, replay: Replay, originals: Sequence[Event]
) -> int:
    """Replay these events and count what came of it in the replay's row; how many were replayed."""
    counts: Counter[str] = Counter()
    failures = list(replay.failures)
    for original in originals:
        reason = await _replay_one(session, runtime, replay, original)
        counts["missing" if isinstance(reason, PayloadMissing) else "failed" if reason else "replayed"] += 1
        if reason is not None and len(failures) < MAXIMUM_FAILURES:
            failures.append({"log_id": str(original.id), "message": _message(reason)})
        replay.position = original.id
    replay.replayed += counts["replayed"]
    replay.failed += counts["failed"]
    replay.payloads_missing += counts["missing"]
    replay.failures = failures
    return counts["replayed"]


async def _replay_one(
    session: AsyncSession, runtime: Runtime, replay: Replay, original: Event
) -> RequestError | Permanent | None:
    """Why an event could not be replayed; None when it was."""
    try:
        async with session.begin_nested():
            await replay_event(
                session, runtime, original, ReplayMappings(replay.mappings), replay_id=replay.id
            )
    except (RequestError, Permanent) as error:
        return error
    return None


def _message(reason: RequestError | Permanent) -> str:
    errors = reason.errors if isinstance(reason, RequestError) else []
    return "; ".join(each.message for each in errors) or str(reason)


def _note(session: AsyncSession, access: Access, action: str, replay: Replay) -> None:
    kept = {name: value for name, value in snapshot(replay).items() if name in _NOTED}
    note_change(
        session, access, action, ("source", replay.source_key), environment=replay.environment, after=kept
    )


def _end(replay: Replay, status: ReplayStatus) -> None:
    replay.status, replay.finished_at = status.value, now()
    replay.updated_at = replay.finished_at


async def _check_none_is_open(session: AsyncSession, key: str, environment: str) -> None:
    query = select(Replay.id).where(
        Replay.source_key == key, Replay.environment == environment, col(Replay.status).in_(OPEN)
    )
    if (running := (await session.exec(query)).first()) is not None:
        message = f"Replay {running} of {key!r} in {environment!r} is not over: wait for it, or cancel it"
        raise RequestError(409, "conflict", message)


def _stored(wanted: ReplayFilter) -> dict[str, Any]:
    """The filter as it is stored and shown: what was set."""
    fields = asdict(replace(wanted, starting_at=None, ending_at=None))
    times = {"starting_at": wanted.starting_at, "ending_at": wanted.ending_at}
    given = {**fields, **{name: moment.isoformat() for name, moment in times.items() if moment}}
    return {name: value for name, value in given.items() if value not in (None, False)}


def _matching(replay: Replay) -> LogFilter:
    """What a stored replay matches: the same events at every look."""
    fields = dict(replay.filter)
    for name, kind in (
        ("status", EventStatus),
        ("verification_status", VerificationStatus),
        ("action_status", ActionStatus),
        ("starting_at", datetime.fromisoformat),
        ("ending_at", datetime.fromisoformat),
    ):
        if name in fields:
            fields[name] = kind(fields[name])
    wanted = ReplayFilter(**fields)
    matching = _log_filter(replay.source_key, replay.environment, wanted, replay.created_at)
    return replace(matching, not_of_replay=replay.id)


def _log_filter(key: str, environment: str, wanted: ReplayFilter, moment: datetime) -> LogFilter:
    """The log's filter for the events that were over at this moment, which do not change any more."""
    return LogFilter(
        environment=environment,
        source_key=key,
        event_type=wanted.event,
        status=wanted.status,
        idempotent=None if wanted.status is not None else False,
        verification_status=wanted.verification_status,
        action_type=wanted.action_type,
        action_status=wanted.action_status,
        starting_at=wanted.starting_at,
        ending_at=min(wanted.ending_at or moment, moment),
        finished_by=moment,
        from_outside=not wanted.include_replays,
    )
