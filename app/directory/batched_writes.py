"""What the actions of events do most often in the directory: users identified, workflows triggered. Requests
of several events are written with one statement.

For `app/api/directory/shortcut.py`, and only what is simple: whatever else a request asks for has a
transaction of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from app.database.batching import PACE, Batcher
from app.database.engine import with_isolation
from app.directory.recipients import Profile, Recipient, Reference, properties_of, set_recipients
from app.directory.workflow_runs import KeyedTrigger, record_first


@dataclass(frozen=True)
class Identification:
    """What is set on a recipient of an environment. `size`: of the request, in bytes."""

    environment: str
    profile: Profile
    size: int


class BatchedWrites:
    """One for each process that has actions to run."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = with_isolation(engine, "AUTOCOMMIT")
        self._identifications: Batcher[Identification, Recipient] = Batcher(
            self._identify, weigh=lambda identification: identification.size, pace=PACE
        )
        self._triggers: Batcher[KeyedTrigger, bool] = Batcher(
            self._trigger, weigh=lambda keyed: keyed.size, pace=PACE
        )

    async def identify(self, identification: Identification) -> Recipient:
        """Create or update a recipient.

        Raises:
            RequestError: 422, it has more properties than are kept.
        """
        properties_of(identification.profile)
        return await self._identifications.submit(identification)

    async def trigger(self, keyed: KeyedTrigger) -> bool:
        """Record a trigger; False when there was one with its key."""
        return await self._triggers.submit(keyed)

    async def _identify(self, batch: list[Identification]) -> Sequence[Recipient]:
        """One statement for each environment, and as many more as the same recipient was given."""
        found: dict[int, Recipient] = {}
        while len(found) < len(batch):
            chosen: dict[Reference, int] = {}
            environment = next(each.environment for place, each in enumerate(batch) if place not in found)
            for place, each in enumerate(batch):
                if place not in found and each.environment == environment:
                    chosen.setdefault(each.profile.reference, place)
            async with self._engine.connect() as connection:
                profiles = [batch[place].profile for place in chosen.values()]
                for recipient in await set_recipients(connection, environment, profiles):
                    found[chosen[recipient.reference]] = recipient
        return [found[place] for place in range(len(batch))]

    async def _trigger(self, batch: list[KeyedTrigger]) -> Sequence[bool]:
        async with self._engine.connect() as connection:
            recorded: set[UUID] = await record_first(connection, batch)
        return [each.workflow_run_id in recorded for each in batch]
