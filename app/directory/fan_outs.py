"""A trigger for an object reaches the object's subscribers: each gets a run of its own.

As docs.knock.app/concepts/subscriptions has it: the object has a run too; objects that subscribe to it are
fanned out in turn, no deeper; nobody gets two runs of a trigger; its actor gets none as a subscriber; and a
run knows the subscription that it is for. Who subscribed after the trigger gets none. With several
subscriptions, the one nearest to the trigger's recipients counts.

`begin_fan_out` belongs to the trigger's transaction. A worker (`app/worker/runs.py`) then starts a workflow
(`app/workflows/fan_out.py`) that makes page after page. Whoever makes or stops runs of subscribers holds the
trigger's row: so a page that is made twice, or at the same time as a cancel, finds what the other did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.directory.recipients import Reference
from app.models.contracts import FanOutProgress
from app.models.directory import USERS
from app.models.types import new_id

# Wakes what starts runs and fan-outs.
CHANNEL = "doorbell_runs"
# Subscribers of the trigger's objects, and of the objects among these.
MAXIMUM_DEPTH = 2
PAGE_SIZE = 500
# While so many runs of the environment wait to be started, a fan-out makes no more: other triggers' would
# wait long.
CROWD = 1000
# A fan-out is looked at again after this time: its workflow may have ended without a word.
LEASE = timedelta(minutes=15)

_BEGIN = text("""
WITH fanned AS (
    INSERT INTO workflow_fan_outs (workflow_run_id, depth, collection, object_id, after_collection, after_id)
    SELECT :workflow_run_id, 0, collection, object_id, '', ''
    FROM unnest(CAST(:collections AS text[]), CAST(:ids AS text[])) AS given (collection, object_id)
    WHERE EXISTS (
        SELECT FROM directory_subscriptions AS subscription
        WHERE subscription.environment = :environment AND subscription.collection = given.collection
            AND subscription.object_id = given.object_id
    )
    RETURNING workflow_run_id
)
UPDATE workflow_runs SET fan_out_due_at = now()
WHERE id = :workflow_run_id AND EXISTS (SELECT FROM fanned)
RETURNING pg_notify(:channel, environment)
""")

_HOLD = text("""
UPDATE workflow_runs SET fan_out_due_at = now() + :lease
WHERE id = :workflow_run_id AND fan_out_due_at IS NOT NULL
RETURNING environment
""")

_IS_CROWDED = text("""
SELECT count(*) >= :crowd FROM (
    SELECT FROM workflow_recipient_runs WHERE environment = :environment AND status = 'queued' LIMIT :crowd
) AS waiting
""")

_NEXT_OBJECT = text("""
SELECT depth, collection, object_id, after_collection, after_id FROM workflow_fan_outs
WHERE workflow_run_id = :workflow_run_id ORDER BY depth, collection, object_id LIMIT 1
""")

# Runs of a trigger for those in `given`, but for its actor and who has one.
_ADD_RUNS = """
INSERT INTO workflow_recipient_runs (id, environment, workflow_run_id, workflow, recipient_collection,
  recipient_id,
                                     tenant, cancellation_key, status, error_count, subscription,
                                       stop_requested,
                                     inserted_at, updated_at)
SELECT given.run_id, trigger.environment, trigger.id, trigger.workflow, given.collection, given.id,
  trigger.tenant,
       trigger.cancellation_key, CASE WHEN trigger.version_id IS NULL THEN 'completed' ELSE 'queued' END, 0,
       given.subscription, false, now(), now()
FROM workflow_runs AS trigger CROSS JOIN given
WHERE trigger.id = :workflow_run_id
    AND (given.collection, given.id) IS DISTINCT FROM (trigger.actor_collection, trigger.actor_id)
    AND NOT EXISTS (
        SELECT FROM workflow_recipient_runs AS run
        WHERE run.workflow_run_id = trigger.id AND run.recipient_collection = given.collection
            AND run.recipient_id = given.id
    )
"""

_ADD_PAGE = text(f"""
WITH page AS (
    SELECT recipient_collection, recipient_id, properties, row_number() OVER () AS number
    FROM (
        SELECT recipient_collection, recipient_id, properties FROM directory_subscriptions
        WHERE environment = :environment AND collection = :collection AND object_id = :object_id
            AND (recipient_collection, recipient_id) > (:after_collection, :after_id)
            AND inserted_at <= (SELECT inserted_at FROM workflow_runs WHERE id = :workflow_run_id)
        ORDER BY recipient_collection, recipient_id LIMIT :size
    ) AS subscribers
), given AS (
    SELECT run_id, recipient_collection AS collection, recipient_id AS id,
           json_build_object('collection', CAST(:collection AS text), 'id', CAST(:object_id AS text),
                             'properties', properties) AS subscription
    FROM page JOIN unnest(CAST(:run_ids AS uuid[])) WITH ORDINALITY AS ids (run_id, number) USING (number)
), made AS ({_ADD_RUNS} RETURNING recipient_collection, recipient_id
), nested AS (
    INSERT INTO workflow_fan_outs (workflow_run_id, depth, collection, object_id, after_collection, after_id)
    SELECT :workflow_run_id, :depth + 1, recipient_collection, recipient_id, '', '' FROM made
    WHERE :depth + 1 < {MAXIMUM_DEPTH} AND recipient_collection <> '{USERS}' AND EXISTS (
        SELECT FROM directory_subscriptions AS subscription
        WHERE subscription.environment = :environment AND subscription.collection = made.recipient_collection
            AND subscription.object_id = made.recipient_id
    )
)
SELECT number AS subscribers, recipient_collection AS collection, recipient_id AS id FROM page
ORDER BY number DESC LIMIT 1
""")

_ADVANCE = text("""
UPDATE workflow_fan_outs SET after_collection = :after_collection, after_id = :after_id
WHERE workflow_run_id = :workflow_run_id AND depth = :depth AND collection = :collection
  AND object_id = :object_id
""")

_END_OBJECT = text("""
DELETE FROM workflow_fan_outs
WHERE workflow_run_id = :workflow_run_id AND depth = :depth AND collection = :collection
  AND object_id = :object_id
""")

_END = text(
    "UPDATE workflow_runs SET fan_out_due_at = NULL WHERE id = ANY(CAST(:workflow_run_ids AS uuid[]))"
)

_NOTIFY = text("SELECT pg_notify(:channel, :environment)")

_CLAIM = text("""
WITH claimed AS (
    SELECT id FROM workflow_runs WHERE environment = :environment AND fan_out_due_at <= now()
    ORDER BY fan_out_due_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE workflow_runs AS trigger SET fan_out_due_at = now() + :lease
FROM claimed WHERE trigger.id = claimed.id
RETURNING trigger.id, trigger.workflow
""")

_GIVE_BACK = text("""
UPDATE workflow_runs SET fan_out_due_at = now()
WHERE id = ANY(CAST(:workflow_run_ids AS uuid[])) AND fan_out_due_at IS NOT NULL
""")

_HOLD_CANCELLED = text("""
SELECT id FROM workflow_runs
WHERE environment = :environment AND workflow = :workflow AND cancellation_key = :cancellation_key
    AND fan_out_due_at IS NOT NULL
ORDER BY id FOR NO KEY UPDATE
""")

# Of those in question, who would get a run: subscribers of what is being fanned out, and of its subscribers.
_ADD_AHEAD = text(f"""
WITH given AS (
    SELECT asked.run_id, asked.collection, asked.id, CAST(NULL AS json) AS subscription
    FROM unnest(CAST(:run_ids AS uuid[]), CAST(:collections AS text[]), CAST(:ids AS text[]))
        AS asked (run_id, collection, id)
    WHERE EXISTS (
        SELECT FROM directory_subscriptions AS own
        LEFT JOIN directory_subscriptions AS upper
            ON upper.environment = own.environment AND upper.recipient_collection = own.collection
            AND upper.recipient_id = own.object_id
        JOIN workflow_fan_outs AS object
            ON object.workflow_run_id = :workflow_run_id
            AND ((object.collection, object.object_id) = (own.collection, own.object_id)
                OR object.depth + 1 < {MAXIMUM_DEPTH}
                AND (object.collection, object.object_id) = (upper.collection, upper.object_id))
        WHERE own.environment = :environment AND own.recipient_collection = asked.collection
            AND own.recipient_id = asked.id
    )
) {_ADD_RUNS}
""")

_END_OBJECTS = text("""
DELETE FROM workflow_fan_outs
WHERE workflow_run_id = ANY(CAST(:workflow_run_ids AS uuid[]))
    AND (CAST(:collections AS text[]) IS NULL OR (collection, object_id) IN (
        SELECT * FROM unnest(CAST(:collections AS text[]), CAST(:ids AS text[]))
    ))
""")

# A fan-out has no status of its own: the runs of the objects tell that their subscribers were not all
# reached.
_NOTE_STOPPED = text("""
UPDATE workflow_recipient_runs AS run
SET error_count = error_count + 1, error = :error, updated_at = now()
FROM workflow_fan_outs AS object
WHERE object.workflow_run_id = :workflow_run_id AND run.workflow_run_id = object.workflow_run_id
    AND run.recipient_collection = object.collection AND run.recipient_id = object.object_id
""")


@dataclass(frozen=True)
class ClaimedFanOut:
    """A trigger whose fan-out is to be started, or looked at."""

    id: UUID
    workflow: str


async def begin_fan_out(
    connection: AsyncConnection, environment: str, workflow_run_id: UUID, recipients: Sequence[Reference]
) -> None:
    """Let the subscribers of the objects among these recipients get runs, if there are any."""
    objects = [each for each in recipients if each.collection != USERS]
    if objects:
        await connection.execute(
            _BEGIN,
            {
                "environment": environment,
                "workflow_run_id": workflow_run_id,
                "channel": CHANNEL,
                **_arrays(objects),
            },
        )


async def fan_out_page(connection: AsyncConnection, workflow_run_id: UUID) -> FanOutProgress:
    """Make the next runs of a trigger, and note how far it is. In one transaction."""
    trigger = {"workflow_run_id": workflow_run_id}
    environment = (await connection.execute(_HOLD, {**trigger, "lease": LEASE})).scalar()
    if environment is None:
        return FanOutProgress(done=True)
    crowded = await connection.execute(_IS_CROWDED, {"environment": environment, "crowd": CROWD})
    if crowded.scalar_one():
        return FanOutProgress(done=False, crowded=True)
    left = PAGE_SIZE
    while left > 0:
        found = (await connection.execute(_NEXT_OBJECT, trigger)).first()
        if found is None:
            await connection.execute(_END, {"workflow_run_ids": [workflow_run_id]})
            break
        # An object counts too: a page of objects that have few subscribers each is no longer than another.
        left -= 1 + await _add_page(connection, environment, {**trigger, **found._mapping}, left)
    await connection.execute(_NOTIFY, {"channel": CHANNEL, "environment": environment})
    return FanOutProgress(done=left > 0)


async def _add_page(
    connection: AsyncConnection, environment: str, fan_out: dict[str, object], size: int
) -> int:
    """Runs for the next subscribers of one object; how many subscribers were looked at."""
    page = {**fan_out, "environment": environment, "size": size, "run_ids": [new_id() for _ in range(size)]}
    last = (await connection.execute(_ADD_PAGE, page)).first()
    if last is None or last.subscribers < size:
        await connection.execute(_END_OBJECT, fan_out)
        return 0 if last is None else int(last.subscribers)
    await connection.execute(_ADVANCE, {**fan_out, "after_collection": last.collection, "after_id": last.id})
    return size


async def claim_fan_outs(
    connection: AsyncConnection, environment: str, *, lease: timedelta, limit: int
) -> list[ClaimedFanOut]:
    """Triggers whose fan-out is due to be started, or to be looked at again; due once more after the
    lease."""
    rows = await connection.execute(_CLAIM, {"environment": environment, "lease": lease, "limit": limit})
    return [ClaimedFanOut(**row) for row in rows.mappings()]


async def give_back_fan_outs(connection: AsyncConnection, workflow_run_ids: Sequence[UUID]) -> None:
    """Let these be claimed again at once: they could not be started."""
    await connection.execute(_GIVE_BACK, {"workflow_run_ids": list(workflow_run_ids)})


async def cancel_fan_outs(
    connection: AsyncConnection,
    environment: str,
    workflow: str,
    cancellation_key: str,
    recipients: Sequence[Reference] | None,
) -> None:
    """Stop the fan-outs of the triggers with this key, before their runs are cancelled in the same
    transaction.

    For some recipients only: those who have no run yet get it, so that it is there to be cancelled; and an
    object among them is fanned out no further.
    """
    key = {"environment": environment, "workflow": workflow, "cancellation_key": cancellation_key}
    held = list((await connection.execute(_HOLD_CANCELLED, key)).scalars())
    if not held:
        return
    if recipients is None:
        await connection.execute(_END_OBJECTS, {"workflow_run_ids": held, "collections": None, "ids": None})
        await connection.execute(_END, {"workflow_run_ids": held})
        return
    asked = _arrays(list(dict.fromkeys(recipients)))
    for trigger in held:
        run_ids = [new_id() for _ in asked["ids"]]
        ahead = {"workflow_run_id": trigger, "environment": environment, "run_ids": run_ids}
        await connection.execute(_ADD_AHEAD, {**ahead, **asked})
    await connection.execute(_END_OBJECTS, {"workflow_run_ids": held, **asked})


async def stop_fan_out(connection: AsyncConnection, workflow_run_id: UUID, error: str) -> None:
    """End a fan-out before its time, and say so on the runs of the objects. In one transaction."""
    trigger = {"workflow_run_id": workflow_run_id}
    if (await connection.execute(_HOLD, {**trigger, "lease": LEASE})).first() is None:
        return
    await connection.execute(_NOTE_STOPPED, {**trigger, "error": error})
    await connection.execute(
        _END_OBJECTS, {"workflow_run_ids": [workflow_run_id], "collections": None, "ids": None}
    )
    await connection.execute(_END, {"workflow_run_ids": [workflow_run_id]})


def _arrays(recipients: Sequence[Reference]) -> dict[str, list[str]]:
    return {
        "collections": [each.collection for each in recipients],
        "ids": [each.id for each in recipients],
    }
