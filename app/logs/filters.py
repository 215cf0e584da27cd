"""Which entries of the log are wanted, and the statements that find them.

Filters on time become ranges of the UUIDv7 ids that both tables are partitioned by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Select, TextClause, false, func, literal, text, true, union_all
from sqlmodel import select
from sqlmodel.sql.expression import SelectOfScalar

from app.logs.needles import needles
from app.models.action import Action
from app.models.event import Event
from app.models.source import Source
from app.models.status import ActionStatus, EventStatus, VerificationStatus
from app.models.types import first_id_at, id_time_range, now, time_of

# Pages are looked for this far from where they begin, before they are looked for everywhere.
NEAR = timedelta(days=2)
# No clock is ahead of this one by as much.
AHEAD = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)
# The bits of a UUIDv7 behind its time.
_WITHIN_MILLISECOND = 2**80 - 1
_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)
# What an action's status says of its event's, earlier ones first. A replay has its actions before it is
# claimed.
_OF_EVENT: dict[ActionStatus | None, tuple[EventStatus, ...]] = {
    ActionStatus.FAILED: (EventStatus.PROCESSING, EventStatus.FAILED),
    ActionStatus.PENDING: (EventStatus.RECEIVED, EventStatus.PROCESSING, EventStatus.FAILED),
}
# OFFSET 0 keeps these as one look for each event, in the order of events, so that they stop at the limit. The
# bounds say it again, for the planner: else it looks at the partitions of all days.
_RAN = text("""
EXISTS (
    SELECT FROM actions
    WHERE actions.id >= CAST(left(CAST(events.id AS text), 13) || '-0000-0000-000000000000' AS uuid)
      AND actions.id <= CAST(left(CAST(events.id AS text), 13) || '-ffff-ffff-ffffffffffff' AS uuid)
      AND actions.event_id = events.id AND actions.id BETWEEN :first AND :last
      AND (CAST(:action_type AS text) IS NULL OR actions.action_type = :action_type)
      AND (CAST(:action_status AS text) IS NULL OR actions.status = :action_status)
    OFFSET 0
)
""")

_CONTAINS = text("""
EXISTS (
    SELECT FROM event_payloads
    WHERE event_payloads.id = events.id AND event_payloads.id BETWEEN :first AND :last
      AND EXISTS (SELECT FROM unnest(CAST(:needles AS bytea[])) AS needle WHERE position(needle IN body) > 0)
    OFFSET 0
)
""")


@dataclass(frozen=True)
class LogFilter:
    """Which entries of an environment's log. `source_key` None is all sources.

    `starting_at` and `ending_at` are inclusive. `search` is text inside the body, case-sensitive; it needs a
    `starting_at`, because it reads the bodies of that time one after the other. `replay_id`: those that a
    replay of many made.
    """

    environment: str
    source_key: str | None
    event_type: str | None = None
    status: EventStatus | None = None
    idempotent: bool | None = None
    verification_status: VerificationStatus | None = None
    id: UUID | None = None
    idempotency_key: str | None = None
    action_type: str | None = None
    action_status: ActionStatus | None = None
    search: str | None = None
    starting_at: datetime | None = None
    ending_at: datetime | None = None
    replay_id: UUID | None = None
    # For replays of many: events that were over by then, that a service sent, that this replay did not make.
    finished_by: datetime | None = None
    from_outside: bool = False
    not_of_replay: UUID | None = None


@dataclass(frozen=True)
class Span:
    """Which ids are looked at: beyond `position`, towards older ones or `backwards` towards newer ones, from
    `since` on, between these times."""

    position: UUID | None
    backwards: bool
    since: UUID | None
    starting_at: datetime | None
    ending_at: datetime | None

    def near_and_far(self) -> list["Span"]:
        """The span in two: within NEAR of where it begins, and beyond."""
        if self.position is not None and self.backwards:
            edge = time_of(self.position) + NEAR
            near, far = self._until(edge), self._since(edge + MILLISECOND)
        else:
            latest = self._until(now() + AHEAD if self.position is None else time_of(self.position))
            assert latest.ending_at is not None
            edge = latest.ending_at - NEAR
            near, far = latest._since(edge), latest._until(edge - MILLISECOND)
        first, last = far.bounds()
        return [near] if first > last else [near, far]

    def _since(self, time: datetime) -> "Span":
        return replace(self, starting_at=max(time, self.starting_at or time))

    def _until(self, time: datetime) -> "Span":
        return replace(self, ending_at=min(time, self.ending_at or time))

    def conditions(self, identifier: Any) -> list[Any]:
        """That a column with the ids of events is within."""
        found = []
        if self.position is not None:
            found.append(identifier > self.position if self.backwards else identifier < self.position)
        if self.since is not None:
            found.append(identifier >= self.since)
        if self.starting_at is not None:
            found.append(identifier >= first_id_at(self.starting_at))
        if self.ending_at is not None:
            found.append(identifier < id_time_range(first_id_at(self.ending_at))[1])
        return found

    def bounds(self) -> tuple[UUID, UUID]:
        """The smallest and the largest id of the milliseconds that it is about: which partitions are looked
        into."""
        lowest, highest = [_FIRST], [_LAST]
        if self.since is not None:
            lowest.append(self.since)
        if self.starting_at is not None:
            lowest.append(first_id_at(self.starting_at))
        if self.ending_at is not None:
            highest.append(first_id_at(self.ending_at))
        if self.position is not None:
            (lowest if self.backwards else highest).append(self.position)
        return id_time_range(max(lowest))[0], UUID(int=min(highest).int | _WITHIN_MILLISECOND)

    def ordered(self, identifier: Any) -> Any:
        return identifier.asc() if self.backwards else identifier.desc()


def select_entries(
    wanted: LogFilter, status: EventStatus | None, span: Span, limit: int, *, by_actions: bool = False
) -> Select[Any]:
    """The first entries of a span with one of the `statuses_of` a filter, from where the span begins.

    An index scan that stops at the limit, or of all sources one for each, merged: of events, or `by_actions`
    of the actions, with a look at the event of each.
    """
    sources = select(Source.__table__.c.key).subquery("sources")  # type: ignore[attr-defined]
    source_key = sources.c.key if wanted.source_key is None else wanted.source_key
    if by_actions:
        branch, identifier = _action_branch(wanted, source_key, status, span, sources)
        order = [identifier]
    else:
        branch = _branch(wanted, source_key, status, span.bounds())
        identifier = branch.selected_columns.id
        branch = branch.where(*span.conditions(identifier))
        order = [*_ranges(wanted, status, branch.selected_columns), identifier]
    ordered = branch.order_by(*map(span.ordered, order)).limit(limit)
    if wanted.source_key is not None:
        return ordered
    found = ordered.correlate(sources).lateral("found")
    query: Select[Any] = select(*found.c).select_from(sources.join(found, true()))
    return query.order_by(span.ordered(found.c.id)).limit(limit)


def select_count(wanted: LogFilter) -> SelectOfScalar[Any]:
    """How many entries there are."""
    span = Span(None, False, None, wanted.starting_at, wanted.ending_at)
    branches = [_branch(wanted, wanted.source_key, status, span.bounds()) for status in statuses_of(wanted)]
    within = [each.where(*span.conditions(each.selected_columns.id)).subquery() for each in branches]
    counts = union_all(
        *(select(func.count().label("number")).select_from(each) for each in within)
    ).subquery()
    return select(func.sum(counts.c.number))


def _action_branch(
    wanted: LogFilter, source_key: Any, status: EventStatus | None, span: Span, sources: Any
) -> tuple[Select[Any], Any]:
    """The events of the actions that are wanted, and the column that they are ordered by."""
    actions = Action.__table__  # type: ignore[attr-defined]
    ran = select(actions.c.event_id).where(
        actions.c.environment == wanted.environment,
        actions.c.source_key == source_key,
        *span.conditions(actions.c.event_id),
        actions.c.id.between(*span.bounds()),
    )
    if wanted.action_type is not None:
        ran = ran.where(actions.c.action_type == wanted.action_type)
    if wanted.action_status is ActionStatus.SKIPPED:
        ran = ran.where(actions.c.idempotency_key.is_(None))
    if wanted.action_status is not None:
        ran = ran.where(actions.c.status == wanted.action_status.value)
    once = ran.group_by(actions.c.event_id).correlate(sources).subquery("ran")
    of_event = replace(wanted, action_type=None, action_status=None)
    branch = _branch(of_event, source_key, status, span.bounds())
    event = branch.where(branch.selected_columns.id == once.c.event_id).offset(0)
    looked_up = event.correlate(sources, once).lateral("event")
    joined: Select[Any] = select(*looked_up.c).select_from(once.join(looked_up, true()))
    return joined, once.c.event_id


def statuses_of(wanted: LogFilter) -> Sequence[EventStatus | None]:
    """The statuses that an entry may have, earlier ones first; None is any."""
    if wanted.status is not None:
        return [wanted.status]
    if wanted.idempotent:
        return [EventStatus.IDEMPOTENT]
    return _OF_EVENT.get(wanted.action_status, [None])


def _is_contradiction(wanted: LogFilter, status: EventStatus | None) -> bool:
    """Whether no event of this status is wanted. Looking for one would go through all that have it."""
    if None not in (wanted.idempotent, status) and wanted.idempotent != (status is EventStatus.IDEMPOTENT):
        return True
    return status is not None and status not in _OF_EVENT.get(wanted.action_status, [status])


def _is_common(wanted: LogFilter, status: EventStatus | None) -> bool:
    """Whether most events of each source may be wanted, of all sources."""
    narrow = (wanted.event_type, wanted.id, wanted.idempotency_key)
    return (
        wanted.source_key is None
        and status in (None, EventStatus.SUCCEEDED)
        and wanted.verification_status in (None, VerificationStatus.ENFORCED_VERIFIED)
        and all(each is None for each in narrow)
    )


def _ranges(wanted: LogFilter, status: EventStatus | None, columns: Any) -> list[Any]:
    """The columns that are compared as ranges, and ordered by, as the index is that begins with them.

    So Postgres uses that index. Else it takes all sources to be alike, also in how many of their events
    verify, and goes through all events for the few that are wanted of one source.
    """
    ranges = [columns.source_key] if _is_common(wanted, status) else []
    return ranges + [columns.verification_status] * (wanted.verification_status is not None)


def _branch(
    wanted: LogFilter, source_key: Any, status: EventStatus | None, bounds: tuple[UUID, UUID]
) -> Select[Any]:
    """The events of a source that are wanted, of those whose milliseconds are within the bounds."""
    table = Event.__table__  # type: ignore[attr-defined]
    query: Select[Any] = select(table).where(table.c.environment == wanted.environment)
    equal = {table.c.source_key: source_key}
    if wanted.verification_status is not None:
        equal[table.c.verification_status] = _written(wanted.verification_status)
    ranges = _ranges(wanted, status, table.c)
    for column, value in equal.items():
        query = query.where(*([column >= value, column <= value] if column in ranges else [column == value]))
    if wanted.event_type is not None:
        query = query.where(table.c.event_type == wanted.event_type)
    if status is not None:
        query = query.where(table.c.status == _written(status))
    if wanted.idempotent is not None and status is None:
        query = query.where(table.c.status != EventStatus.IDEMPOTENT.value)
    if _is_contradiction(wanted, status):
        query = query.where(false())
    if wanted.id is not None:
        query = query.where(table.c.id == wanted.id)
    if wanted.replay_id is not None:
        query = query.where(table.c.replay_id == wanted.replay_id)
    if wanted.finished_by is not None:
        query = query.where(table.c.finished_at <= wanted.finished_by)
    if wanted.from_outside:
        query = query.where(table.c.origin.is_(None))
    if wanted.not_of_replay is not None:
        query = query.where(table.c.replay_id.is_distinct_from(wanted.not_of_replay))
    if wanted.idempotency_key is not None:
        query = query.where(table.c.idempotency_key == wanted.idempotency_key)
    if wanted.action_type is not None or wanted.action_status is not None:
        query = query.where(_ran(wanted.action_type, wanted.action_status, bounds))
    if wanted.search is not None:
        first, last = bounds
        query = query.where(_CONTAINS.bindparams(needles=needles(wanted.search), first=first, last=last))
    return query


def _written(value: StrEnum) -> BindParameter[str]:
    """Written out in the statement, so that a partial index on it serves prepared statements too."""
    return literal(value.value, literal_execute=True)


def _ran(action_type: str | None, status: ActionStatus | None, bounds: tuple[UUID, UUID]) -> TextClause:
    first, last = bounds
    action_status = None if status is None else status.value
    return _RAN.bindparams(action_type=action_type, action_status=action_status, first=first, last=last)
