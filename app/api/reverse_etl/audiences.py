"""Changes to audiences, as reverse ETL tools ask for them: made at the destination at once, or written down
as events.

The two protocols (`census.py`, `hightouch.py`) end here. Which way it goes is up to the key of the request.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.errors import Permanent, Retryable
from app.outbound.destinations import Destinations

# What Knock takes in one call.
MEMBERS_A_CALL = 1000
MAXIMUM_ID_LENGTH = 255


@dataclass(frozen=True)
class AudienceMember:
    """A user, within a tenant or within none."""

    user_id: str
    tenant: str | None = None

    def as_request(self) -> dict[str, Any]:
        """In Knock's shape."""
        tenant = {} if self.tenant is None else {"tenant": self.tenant}
        return {"user": {"id": self.user_id}, **tenant}


@dataclass(frozen=True)
class MemberChange:
    """Members to add to an audience, or to remove from it."""

    audience: str
    members: Sequence[AudienceMember]
    removes: bool = False
    create_audience: bool = False

    @property
    def event(self) -> dict[str, Any]:
        """The body of the event that this is in the log of a source."""
        members = [each.as_request() for each in self.members]
        if self.removes:
            return {"type": "audiences:remove", "audience": self.audience, "members": members}
        return {
            "type": "audiences:add",
            "audience": self.audience,
            "members": members,
            "create_audience": self.create_audience,
        }


class Audiences(Protocol):
    """Where changes go."""

    async def check(self) -> str | None:
        """Why nothing would get there, if so."""

    async def apply(self, changes: Sequence[MemberChange]) -> list[str | None]:
        """For each change why it was not made, None if it was."""


class AtDestination:
    """Makes changes at an environment's destination, and says what it says."""

    def __init__(self, destinations: Destinations, environment: str) -> None:
        self._destinations = destinations
        self._environment = environment

    async def check(self) -> str | None:
        return await _problem(self._list_one())

    async def apply(self, changes: Sequence[MemberChange]) -> list[str | None]:
        return [await _problem(self._apply(change)) for change in changes]

    async def _list_one(self) -> None:
        await self._destinations.client(self._environment).users.list(page_size=1)

    async def _apply(self, change: MemberChange) -> None:
        audiences = self._destinations.client(self._environment).audiences
        for start in range(0, len(change.members), MEMBERS_A_CALL):
            members: Any = [each.as_request() for each in change.members[start : start + MEMBERS_A_CALL]]
            if change.removes:
                await audiences.remove_members(change.audience, members=members)
            else:
                await audiences.add_members(
                    change.audience, members=members, create_audience=change.create_audience
                )


class AsEvents:
    """Writes changes down as events of a source, all of them or none; `accept` makes them durable."""

    def __init__(self, accept: Callable[[list[dict[str, Any]]], Awaitable[object]]) -> None:
        self._accept = accept

    async def check(self) -> str | None:
        return None

    async def apply(self, changes: Sequence[MemberChange]) -> list[str | None]:
        if changes:
            await self._accept([each.event for each in changes])
        return [None] * len(changes)


async def _problem(call: Awaitable[None]) -> str | None:
    from app.outbound.knock import attempt

    try:
        await attempt(call)
    except (Permanent, Retryable) as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Row:
    """A row of a batch that names its member and its audience."""

    position: int
    audience: str
    member: AudienceMember


async def apply_rows(
    audiences: Audiences, rows: Sequence[Row], *, removes: bool, create_audience: bool
) -> dict[int, str]:
    """Make one change for each audience; the rows that were not applied by position, with the reason."""
    by_audience: dict[str, list[Row]] = {}
    for row in rows:
        by_audience.setdefault(row.audience, []).append(row)
    changes = [
        MemberChange(audience, [row.member for row in group], removes, create_audience)
        for audience, group in by_audience.items()
    ]
    problems = await audiences.apply(changes)
    return {
        row.position: problem
        for group, problem in zip(by_audience.values(), problems, strict=True)
        if problem is not None
        for row in group
    }


def identifier(value: Any) -> str | None:
    """An id as warehouses hold them: text or a whole number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if 0 < len(text) <= MAXIMUM_ID_LENGTH and "\x00" not in text else None
