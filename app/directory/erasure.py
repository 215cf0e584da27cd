"""The directory's part of an erasure (`app/retention/erasure.py`): a user's messages, runs, subscriptions and
the user."""

from collections import Counter

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.directory.fan_outs import CHANNEL as RUNS_CHANNEL

# Rows that one statement deletes.
ROWS_A_BATCH = 1_000

_IS_RECIPIENT = "environment = :environment AND recipient_collection = '$users' AND recipient_id = :user_id"
_IS_ACTOR = "environment = :environment AND actor_collection = '$users' AND actor_id = :user_id"
_IS_OVER = """
status IN ('completed', 'cancelled') AND NOT stop_requested
  AND (lease_expires_at IS NULL OR lease_expires_at < now())
"""
_RUNS_GOING_ON = f"""
SELECT FROM workflow_recipient_runs AS run WHERE run.workflow_run_id = workflow_runs.id AND NOT ({_IS_OVER})
"""

# A run that a worker follows is stopped by it (`app/worker/runs.py`); it can go when that is done.
_CANCEL_RUNS = text(f"""
WITH cancelled AS (
    UPDATE workflow_recipient_runs
    SET status = 'cancelled', updated_at = now(), finished_at = now(),
      stop_requested = lease_expires_at IS NOT NULL
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
        "SELECT count(*) FROM directory_audience_members WHERE environment = :environment AND user_id = "
        ":user_id"
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
# What is counted, by table.
TABLES = tuple(_DELETES)


async def count_user(connection: AsyncConnection, environment: str, user_id: str) -> Counter[str]:
    """The rows that `delete_user` would delete, by table."""
    whose = {"environment": environment, "user_id": user_id}
    return Counter(
        {table: (await connection.execute(count, whose)).scalar_one() for table, count in _COUNTS.items()}
    )


async def delete_user(
    connection: AsyncConnection, environment: str, user_id: str
) -> tuple[Counter[str], bool]:
    """Delete the next rows, and ask for the end of runs that go on; how many, by table, and whether there may
    be more.

    Runs that a worker follows stay until it has stopped them: `count_going_on`.
    """
    whose = {"environment": environment, "user_id": user_id, "size": ROWS_A_BATCH}
    counts: Counter[str] = Counter()
    await connection.execute(_CANCEL_RUNS, {**whose, "channel": RUNS_CHANNEL})
    for table, delete in _DELETES.items():
        result = await connection.execute(delete, whose)
        counts[table] += result.rowcount
        if table == "workflow_recipient_runs":
            triggers = [each.trigger_id for each in result]
            gone = await connection.execute(_DELETE_TRIGGERS, {"triggers": triggers})
            counts["workflow_runs"] += gone.rowcount
        if result.rowcount >= ROWS_A_BATCH:
            return counts, True
    return counts, False


async def count_going_on(connection: AsyncConnection, environment: str, user_id: str) -> int:
    """Runs of the user that are left, because they go on."""
    whose = {"environment": environment, "user_id": user_id}
    going_on: int = (await connection.execute(_GOING_ON, whose)).scalar_one()
    return going_on
