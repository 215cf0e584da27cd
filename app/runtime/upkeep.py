"""Whether the tables are looked after, for the metrics: partitions ahead, rows that found none, the last
maintenance."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.partitions import days_ahead, default_rows
from app.models.types import now
from app.runtime.readings import Reading

# Of a table: more say nothing more.
MAXIMUM_COUNTED = 100_000

_MAINTAINED = text("SELECT succeeded_at FROM maintenance")


@dataclass(frozen=True)
class UpkeepState:
    """Of each table, the days from today on that have partitions and the rows of the default partition; and
    when the last maintenance succeeded."""

    days_ahead: dict[str, int]
    default_rows: dict[str, int]
    maintained_at: datetime | None


class Upkeep(Reading[UpkeepState]):
    """How the tables are."""

    unreadable = "upkeep_unreadable"

    async def _find(self, connection: AsyncConnection) -> UpkeepState:
        return UpkeepState(
            await connection.run_sync(days_ahead, now().date()),
            await connection.run_sync(default_rows, MAXIMUM_COUNTED),
            (await connection.execute(_MAINTAINED)).scalar(),
        )
