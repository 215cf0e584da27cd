"""What a recipient has per preference set and per channel: read one by one, and removed."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.directory.recipients import TENANT_PREFERENCE_SET, Json, Reference

Kind = Literal["preferences", "channel_data"]

_READ = text("""
SELECT preferences, channel_data FROM directory_recipients
WHERE environment = :environment AND collection = :collection AND id = :id
""")
_UNSET = {
    kind: text(f"""
UPDATE directory_recipients SET {kind} = {kind} - CAST(:name AS text), updated_at = now()
WHERE environment = :environment AND collection = :collection AND id = :id
""")
    for kind in ("preferences", "channel_data")
}


@dataclass(frozen=True)
class RecipientSettings:
    """Preference sets by id, and data by channel."""

    preferences: Json
    channel_data: Json


async def get_settings(
    connection: AsyncConnection, environment: str, reference: Reference
) -> RecipientSettings | None:
    """The settings of a recipient, if it exists. A tenant's set for its members is not one of its own."""
    rows = await connection.execute(_READ, {"environment": environment, **reference._asdict()})
    row = rows.first()
    if row is None:
        return None
    own = {name: each for name, each in row.preferences.items() if name != TENANT_PREFERENCE_SET}
    return RecipientSettings(own, row.channel_data)


async def unset(
    connection: AsyncConnection, environment: str, reference: Reference, kind: Kind, name: str
) -> None:
    """Remove a preference set or a channel's data, if the recipient has it."""
    await connection.execute(_UNSET[kind], {"environment": environment, "name": name, **reference._asdict()})
