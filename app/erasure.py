"""The right of erasure: everything that Doorbell holds of a user, found and deleted in batches.

The request writes a row and wakes the workers; a workflow (`app/workflows/erasure.py`) works it off here, phase by
phase, a batch a transaction, noting how far it is in the same transaction. Log rows stay, marked as erased, without
anything that was sent. A user's events are found by the users that their actions named
(`app/activities/actions/subjects.py`), by reading the action log once: it needs no index that every event would pay
for. What no action used is found by text only, which a request may bring (docs/erasure.md).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.activities.actions.registry import action_types
from app.activities.actions.subjects import users_of
from app.database import to_json
from app.directory.fan_outs import CHANNEL as RUNS_CHANNEL
from app.directory.pages import Page, PageRequest, fetch_page
from app.errors import RequestError
from app.models.erasure import Erasure
from app.models.types import first_id_at, id_time_range, now, time_of
from app.needles import needles
from app.secrets import SecretBox

# A worker hears of a new erasure of its environment on this channel.
CHANNEL = "doorbell_erasures"
# Rows that are looked at in one transaction.
ACTIONS_A_BATCH = 5_000
PAYLOADS_A_BATCH = 500
ROWS_A_BATCH = 1_000
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


class Verdict(StrEnum):
    """What is next after a batch. `later`: something is in mid-work, and is looked at again."""

    MORE = "more"
    LATER = "later"
    DONE = "done"


@dataclass(frozen=True)
class ErasureRequest:
    """Whose data is deleted. `search` are texts, of which events are erased whose payload holds one, in a time range."""

    user_id: str
    dry_run: bool = False
    search: Sequence[str] = field(default=(), repr=False)
    starting_at: datetime | None = None
    ending_at: datetime | None = None


_FIRST_ID = text("""
SELECT least((SELECT id FROM actions ORDER BY id LIMIT 1), (SELECT id FROM event_payloads ORDER BY id LIMIT 1))
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

# Only what holds the id somewhere comes out of the database.
_ACTIONS = text("""
WITH batch AS (
    SELECT id, event_id, action_type, payload FROM actions WHERE id > :cursor AND id < :end ORDER BY id LIMIT :size
)
SELECT (SELECT id FROM batch ORDER BY id DESC LIMIT 1) AS last, event_id, action_type, payload
FROM (SELECT) AS always LEFT JOIN batch ON position(:needle IN CAST(payload AS text)) > 0
""")

_PAYLOADS = text("""
WITH batch AS (
    SELECT * FROM event_payloads WHERE id > :cursor AND id < :end ORDER BY id LIMIT :size
)
SELECT (SELECT id FROM batch ORDER BY id DESC LIMIT 1) AS last, batch.id
FROM (SELECT) AS always LEFT JOIN batch ON EXISTS (
    SELECT FROM unnest(CAST(:needles AS bytea[])) AS needle
    WHERE position(needle IN body) > 0
        OR position(needle IN convert_to(concat(headers, preprocess_output), 'UTF8')) > 0
)
""")

# An event, what it repeats or replays, and what repeats or replays it: one body.
_FAMILY = text("""
WITH given AS (SELECT unnest(CAST(:ids AS uuid[])) AS id)
SELECT events.* FROM (
    SELECT events.id, status, erased_at, replay_of, duplicate_of, environment FROM given JOIN events USING (id)
    UNION
    SELECT events.id, status, erased_at, replay_of, duplicate_of, environment
    FROM given JOIN events ON events.replay_of = given.id
    UNION
    SELECT events.id, status, erased_at, replay_of, duplicate_of, environment
    FROM given JOIN events ON events.duplicate_of = given.id
) AS events WHERE environment = :environment
""")

_ACTIONS_OF = """
FROM unnest(CAST(:ids AS uuid[]), CAST(:firsts AS uuid[]), CAST(:ends AS uuid[])) AS event (id, first, "end")
WHERE actions.id >= event.first AND actions.id < event."end" AND actions.event_id = event.id
"""
# Of the action's configuration, constants may be about the user; errors may hold what was sent.
_ERASE_EVENTS: dict[str, TextClause] = {
    "event_payloads": text("DELETE FROM event_payloads WHERE id = ANY(CAST(:ids AS uuid[]))"),
    "actions": text(
        f"UPDATE actions SET parameters = '{{}}', payload = NULL, result = NULL, error = NULL {_ACTIONS_OF}"
    ),
    "events": text("""
UPDATE events SET erased_at = now(), error = NULL, verification_reason = NULL,
    idempotency_key = CASE
        WHEN EXISTS (SELECT FROM unnest(CAST(:texts AS text[])) AS found WHERE position(found IN idempotency_key) > 0)
        THEN NULL ELSE idempotency_key
    END
WHERE id = ANY(CAST(:ids AS uuid[]))
"""),
}
_COUNT_EVENTS: dict[str, TextClause] = {
    "event_payloads": text("SELECT count(*) FROM event_payloads WHERE id = ANY(CAST(:ids AS uuid[]))"),
    "actions": text(
        "SELECT count(*) FROM actions, unnest(CAST(:ids AS uuid[]), CAST(:firsts AS uuid[]), CAST(:ends AS uuid[])) "
        'AS event (id, first, "end") WHERE actions.id >= event.first AND actions.id < event."end" '
        "AND actions.event_id = event.id"
    ),
    "events": text("SELECT count(*) FROM events WHERE id = ANY(CAST(:ids AS uuid[]))"),
}

_COUNT_ONCE = text("""
INSERT INTO erasure_events (erasure_id, event_id) SELECT :id, unnest(CAST(:ids AS uuid[]))
ON CONFLICT DO NOTHING RETURNING event_id
""")
_FORGET_COUNTED = text("DELETE FROM erasure_events WHERE erasure_id = :id")

_IS_RECIPIENT = "environment = :environment AND recipient_collection = '$users' AND recipient_id = :user_id"
_IS_ACTOR = "environment = :environment AND actor_collection = '$users' AND actor_id = :user_id"
_IS_OVER = """
status IN ('completed', 'cancelled') AND NOT stop_requested AND (lease_expires_at IS NULL OR lease_expires_at < now())
"""
_RUNS_GOING_ON = f"""
SELECT FROM workflow_recipient_runs AS run WHERE run.workflow_run_id = workflow_runs.id AND NOT ({_IS_OVER})
"""

# A run that a worker follows is stopped by it (`app/run_dispatch.py`); it can go when that is done.
_CANCEL_RUNS = text(f"""
WITH cancelled AS (
    UPDATE workflow_recipient_runs
    SET status = 'cancelled', updated_at = now(), finished_at = now(), stop_requested = lease_expires_at IS NOT NULL
    WHERE {_IS_RECIPIENT} AND status IN ('queued', 'processing', 'paused')
    RETURNING stop_requested
)
SELECT pg_notify(:channel, :environment) FROM cancelled WHERE stop_requested LIMIT 1
""")
# In this order; each in batches. Runs take their steps with them, users what refers to them.
_DELETES: dict[str, TextClause] = {
    "messages": text(f"""
DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE {_IS_RECIPIENT} LIMIT :size)
"""),
    "workflow_recipient_runs": text(f"""
DELETE FROM workflow_recipient_runs WHERE id IN (
    SELECT id FROM workflow_recipient_runs WHERE {_IS_RECIPIENT} AND {_IS_OVER} LIMIT :size
)
RETURNING workflow_run_id AS trigger_id
"""),
    "workflow_runs": text(f"""
WITH acted AS (
    SELECT id FROM workflow_runs WHERE {_IS_ACTOR} AND NOT EXISTS ({_RUNS_GOING_ON}) LIMIT :size
), told AS (
    UPDATE messages SET actor_collection = NULL, actor_id = NULL, data = NULL
    FROM acted WHERE messages.workflow_run_id = acted.id
), ran AS (
    UPDATE workflow_recipient_runs AS run SET data = NULL FROM acted WHERE run.workflow_run_id = acted.id
)
UPDATE workflow_runs SET actor_collection = NULL, actor_id = NULL, data = NULL
FROM acted WHERE workflow_runs.id = acted.id
"""),
    "directory_subscriptions": text(f"DELETE FROM directory_subscriptions WHERE {_IS_RECIPIENT}"),
    "directory_audience_members": text(
        "DELETE FROM directory_audience_members WHERE environment = :environment AND user_id = :user_id"
    ),
    "directory_recipients": text(
        "DELETE FROM directory_recipients "
        "WHERE environment = :environment AND collection = '$users' AND id = :user_id"
    ),
    "bulk_operations": text("""
UPDATE bulk_operations SET error_items = (
    SELECT coalesce(json_agg(item), '[]') FROM json_array_elements(error_items) AS item
    WHERE NOT (item ->> 'id' = :user_id AND item ->> 'collection' = '$users')
)
WHERE environment = :environment AND status IN ('completed', 'failed') AND EXISTS (
    SELECT FROM json_array_elements(error_items) AS item
    WHERE item ->> 'id' = :user_id AND item ->> 'collection' = '$users'
)
"""),
}
# A trigger without a run left was for this user alone.
_DELETE_TRIGGERS = text("""
DELETE FROM workflow_runs WHERE id = ANY(CAST(:triggers AS uuid[]))
    AND NOT EXISTS (SELECT FROM workflow_recipient_runs AS run WHERE run.workflow_run_id = workflow_runs.id)
""")
_COUNTS: dict[str, TextClause] = {
    "messages": text(f"SELECT count(*) FROM messages WHERE {_IS_RECIPIENT}"),
    "workflow_recipient_runs": text(f"SELECT count(*) FROM workflow_recipient_runs WHERE {_IS_RECIPIENT}"),
    "workflow_runs": text(f"""
SELECT count(*) FROM workflow_runs WHERE {_IS_ACTOR} OR environment = :environment AND id IN (
    SELECT workflow_run_id FROM workflow_recipient_runs WHERE {_IS_RECIPIENT}
) AND NOT EXISTS (
    SELECT FROM workflow_recipient_runs AS run WHERE run.workflow_run_id = workflow_runs.id
        AND (run.recipient_collection, run.recipient_id) <> ('$users', :user_id)
)
"""),
    "directory_subscriptions": text(f"SELECT count(*) FROM directory_subscriptions WHERE {_IS_RECIPIENT}"),
    "directory_audience_members": text(
        "SELECT count(*) FROM directory_audience_members WHERE environment = :environment AND user_id = :user_id"
    ),
    "directory_recipients": text(
        "SELECT count(*) FROM directory_recipients "
        "WHERE environment = :environment AND collection = '$users' AND id = :user_id"
    ),
    "bulk_operations": text("""
SELECT count(*) FROM bulk_operations
WHERE environment = :environment AND status IN ('completed', 'failed') AND EXISTS (
    SELECT FROM json_array_elements(error_items) AS item
    WHERE item ->> 'id' = :user_id AND item ->> 'collection' = '$users'
)
"""),
}
_GOING_ON = text(f"""
SELECT (SELECT count(*) FROM workflow_recipient_runs WHERE {_IS_RECIPIENT})
    + (SELECT count(*) FROM workflow_runs WHERE {_IS_ACTOR})
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
        search=box.encrypt(orjson.dumps(list(request.search))) if request.search else None,
        starting_at=request.starting_at,
        ending_at=request.ending_at,
        phase=Phase.ACTIONS,
        cursor=begins,
        begins_at=begins,
        ends_at=moment,
        counts=dict.fromkeys([*_ERASE_EVENTS, *_DELETES], 0),
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
    verdict: Verdict = Verdict.MORE

    @property
    def whose(self) -> dict[str, Any]:
        return {"environment": self.row.environment, "user_id": self.row.user_id, "size": ROWS_A_BATCH}

    def go_on_with(self, phase: Phase, cursor: UUID) -> None:
        self.phase, self.cursor = phase, cursor

    @property
    def is_patient(self) -> bool:
        """Whether what is in mid-work is waited for still."""
        return not self.row.dry_run and now() - self.row.inserted_at < WAIT_FOR_LATE


async def work_off_batch(connection: AsyncConnection, box: SecretBox, identifier: UUID) -> Verdict:
    """Erase the next batch and note how far the erasure is, in one transaction."""
    row = (await connection.execute(_LOCK, {"id": identifier})).first()
    if row is None:
        return Verdict.DONE
    search = [] if row.search is None else orjson.loads(box.decrypt(row.search))
    work = _Work(row, search, Phase(row.phase), row.cursor, set(map(UUID, row.late)), Counter(row.counts))
    await _PHASES[work.phase](connection, work)
    over = work.phase is Phase.DONE
    if over:
        await connection.execute(_FORGET_COUNTED, {"id": identifier})
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
    return Verdict.DONE if over else work.verdict


async def _look_through_actions(connection: AsyncConnection, work: _Work) -> None:
    rows = await connection.execute(
        _ACTIONS,
        {
            "cursor": work.cursor,
            "end": work.row.ends_at,
            "size": ACTIONS_A_BATCH,
            "needle": to_json(work.row.user_id),
        },
    )
    found = rows.all()
    concerned = {
        each.event_id
        for each in found
        if each.event_id is not None and _concerns(each.action_type, each.payload, work.row.user_id)
    }
    await _erase(connection, work, concerned)
    if found[0].last is not None:
        work.cursor = found[0].last
    elif work.search:
        starts = first_id_at(work.row.starting_at) if work.row.starting_at else work.row.begins_at
        work.go_on_with(Phase.PAYLOADS, max(starts, work.row.begins_at))
    else:
        work.go_on_with(Phase.LATE_EVENTS, work.cursor)


def _concerns(action_type: str, payload: dict[str, Any], user_id: str) -> bool:
    """Whether the payload names the user; one of a type that is gone does, because it holds the id."""
    action = action_types().get(action_type)
    return action is None or user_id in users_of(action, payload)


async def _look_through_payloads(connection: AsyncConnection, work: _Work) -> None:
    wanted = [each for one in work.search for each in needles(one)]
    ends = work.row.ends_at
    if work.row.ending_at is not None:
        ends = min(ends, id_time_range(first_id_at(work.row.ending_at))[1])
    parameters = {"cursor": work.cursor, "end": ends, "size": PAYLOADS_A_BATCH, "needles": wanted}
    found = (await connection.execute(_PAYLOADS, parameters)).all()
    await _erase(connection, work, {each.id for each in found if each.id is not None})
    if found[0].last is not None:
        work.cursor = found[0].last
    else:
        work.go_on_with(Phase.LATE_EVENTS, work.cursor)


async def _look_at_late_events(connection: AsyncConnection, work: _Work) -> None:
    late, work.late = work.late, set()
    await _erase(connection, work, late)
    if work.late and work.is_patient:
        work.verdict = Verdict.LATER
    else:
        work.counts["unfinished_events"] = len(work.late)
        work.go_on_with(Phase.DIRECTORY, work.cursor)


async def _look_through_directory(connection: AsyncConnection, work: _Work) -> None:
    if work.row.dry_run:
        for table, count in _COUNTS.items():
            work.counts[table] += (await connection.execute(count, work.whose)).scalar_one()
        return work.go_on_with(Phase.DONE, work.cursor)
    await connection.execute(_CANCEL_RUNS, {**work.whose, "channel": RUNS_CHANNEL})
    for table, delete in _DELETES.items():
        result = await connection.execute(delete, work.whose)
        work.counts[table] += result.rowcount
        if table == "workflow_recipient_runs":
            triggers = [each.trigger_id for each in result]
            gone = await connection.execute(_DELETE_TRIGGERS, {"triggers": triggers})
            work.counts["workflow_runs"] += gone.rowcount
        if result.rowcount >= ROWS_A_BATCH:
            return None
    left = (await connection.execute(_GOING_ON, work.whose)).scalar_one()
    if left and work.is_patient:
        work.verdict = Verdict.LATER
    else:
        work.counts["unfinished_runs"] = left
        work.go_on_with(Phase.DONE, work.cursor)
    return None


async def _erase(connection: AsyncConnection, work: _Work, concerned: Collection[UUID]) -> None:
    """Erase these events and their families, those that are final; the others are looked at later."""
    family = await _family(connection, work.row.environment, concerned)
    unfinished = {each.id for each in family if each.status in ("received", "processing")}
    work.late |= set(list(unfinished)[: MAXIMUM_LATE - len(work.late)])
    ids = sorted(each.id for each in family if each.id not in unfinished and each.erased_at is None)
    if work.row.dry_run:
        counted = await connection.execute(_COUNT_ONCE, {"id": work.row.id, "ids": ids})
        ids = sorted(counted.scalars())
    if not ids:
        return
    ranges = [id_time_range(each) for each in ids]
    parameters = {
        "ids": ids,
        "firsts": [first for first, _ in ranges],
        "ends": [end for _, end in ranges],
        "texts": [work.row.user_id, *work.search],
    }
    for table, erase in (_COUNT_EVENTS if work.row.dry_run else _ERASE_EVENTS).items():
        result = await connection.execute(erase, parameters)
        work.counts[table] += result.scalar_one() if work.row.dry_run else result.rowcount


async def _family(
    connection: AsyncConnection, environment: str, concerned: Collection[UUID]
) -> list[Row[Any]]:
    """The events of this environment among these, with what they repeat or replay and what repeats or replays them."""
    found: dict[UUID, Row[Any]] = {}
    asked: set[UUID] = set()
    while todo := set(concerned) - asked:
        asked |= todo
        rows = await connection.execute(_FAMILY, {"ids": list(todo), "environment": environment})
        found |= {each.id: each for each in rows}
        concerned = {
            related
            for each in found.values()
            for related in (each.id, each.replay_of, each.duplicate_of)
            if related is not None
        }
    return list(found.values())


_PHASES: dict[Phase, Callable[[AsyncConnection, _Work], Awaitable[None]]] = {
    Phase.ACTIONS: _look_through_actions,
    Phase.PAYLOADS: _look_through_payloads,
    Phase.LATE_EVENTS: _look_at_late_events,
    Phase.DIRECTORY: _look_through_directory,
}
