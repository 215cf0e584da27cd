"""One user merged into another: what the first had and the second lacks, and everything that refers to it."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import FieldError
from app.core.validation import invalid_fields
from app.directory.recipients import Recipient, Reference, delete_recipients, get_recipient
from app.models.directory import USERS

# Both at once and in one order, so that merges of the same users wait for each other.
_HOLD = text("""
SELECT id FROM directory_recipients
WHERE environment = :environment AND collection = '$users' AND id IN (:into, :merged) ORDER BY id FOR UPDATE
""")

# As docs.knock.app/managing-recipients/merging-users has it: properties deeply, and where both have a value
# the remaining user's counts; preference sets and channel data whole.
_MERGE = text("""
UPDATE directory_recipients AS remaining SET
    properties = doorbell_deep_merge(merged.properties, remaining.properties),
    preferences = merged.preferences || remaining.preferences,
    channel_data = merged.channel_data || remaining.channel_data,
    updated_at = now()
FROM directory_recipients AS merged
WHERE remaining.environment = :environment AND remaining.collection = '$users' AND remaining.id = :into
    AND merged.environment = :environment AND merged.collection = '$users' AND merged.id = :merged
""")

# What the remaining user has too is not moved; it goes with the merged user.
_MOVE = [
    text("""
INSERT INTO directory_subscriptions
    (environment, collection, object_id, recipient_collection, recipient_id, properties, inserted_at,
      updated_at)
SELECT environment, collection, object_id, recipient_collection, :into, properties, inserted_at, now()
FROM directory_subscriptions
WHERE environment = :environment AND recipient_collection = '$users' AND recipient_id = :merged
ON CONFLICT DO NOTHING
"""),
    text("""
INSERT INTO directory_audience_members (environment, key, user_id, tenant, added_at)
SELECT environment, key, :into, tenant, added_at FROM directory_audience_members
WHERE environment = :environment AND user_id = :merged
ON CONFLICT DO NOTHING
"""),
    text("""
UPDATE workflow_recipient_runs SET recipient_id = :into
WHERE environment = :environment AND recipient_collection = '$users' AND recipient_id = :merged
"""),
    text("""
UPDATE workflow_runs SET actor_id = :into
WHERE environment = :environment AND actor_collection = '$users' AND actor_id = :merged
"""),
    text("""
UPDATE messages SET recipient_id = :into
WHERE environment = :environment AND recipient_collection = '$users' AND recipient_id = :merged
"""),
    text("""
UPDATE messages SET actor_id = :into
WHERE environment = :environment AND actor_collection = '$users' AND actor_id = :merged
"""),
]


async def merge_users(
    connection: AsyncConnection, environment: str, into: str, merged: str
) -> Recipient | None:
    """Merge the second user into the first and delete it, in one transaction. None when there is no first
    user.

    Raises:
        RequestError: 422, the second user is not there or is the first one.
    """
    if into == merged:
        raise invalid_fields([FieldError("from_user_id", "is the user to merge into")])
    users = {"environment": environment, "into": into, "merged": merged}
    held = set((await connection.execute(_HOLD, users)).scalars())
    if into not in held:
        return None
    if merged not in held:
        raise invalid_fields([FieldError("from_user_id", "is not the id of a user")])
    await connection.execute(_MERGE, users)
    for statement in _MOVE:
        await connection.execute(statement, users)
    await delete_recipients(connection, environment, USERS, [merged])
    return await get_recipient(connection, environment, Reference.to_user(into))
