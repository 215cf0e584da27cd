"""The timeline of an event's run as bars: where each step begins and ends, in thousandths of the whole."""

from dataclasses import dataclass
from datetime import datetime

from app.actions.registry import action_types
from app.logs.steps import PendingStep, Timeline, TimelineStep
from app.models.types import now

WIDTH = 1000
# So that what took no time can be seen.
MINIMUM_WIDTH = 6


@dataclass(frozen=True)
class Bar:
    """A step. `waited` is the part before it was taken up, as `(start, width)`; `worked` the part after."""

    label: str
    kind: str
    status: str
    attempt: int | None
    began: datetime
    seconds: float | None
    waited: tuple[int, int] | None
    worked: tuple[int, int]
    failure: str | None
    next_attempt_at: datetime | None = None


def timeline_bars(timeline: Timeline, received_at: datetime) -> list[Bar]:
    """The steps in the order in which they began, from the moment when the event was received. A repeat shows
    the run of its original, which began before."""
    until = timeline.finished_at or now()
    scale = _Scale(min(received_at, timeline.started_at or received_at), until)
    bars = []
    if timeline.started_at is not None and received_at <= timeline.started_at:
        bars.append(_bar(scale, "Waits for a worker", "wait", "completed", received_at, timeline.started_at))
    # A local activity's start is not recorded: it follows on what was before it.
    previous = timeline.started_at or received_at
    waiting = {each.name for each in timeline.pending}
    for step in timeline.steps:
        end = step.finished_at
        if step.kind == "workflow" and step.failure is None:
            continue
        if step.kind == "activity" and end is None and step.name in waiting:
            continue
        bars.append(_step(scale, step, previous, until))
        previous = end or previous
    bars += [_pending(scale, each, until) for each in timeline.pending]
    return bars


def _step(scale: "_Scale", step: TimelineStep, previous: datetime, until: datetime) -> Bar:
    began = step.scheduled_at or step.started_at or previous
    return _bar(
        scale,
        _label(step.name),
        step.kind,
        step.status,
        began,
        step.finished_at or until,
        taken_up=step.started_at if step.scheduled_at else None,
        attempt=step.attempt,
        failure=step.failure,
        is_over=step.finished_at is not None,
    )


def _pending(scale: "_Scale", step: PendingStep, until: datetime) -> Bar:
    began = step.scheduled_at or until
    return _bar(
        scale,
        _label(step.name),
        "activity",
        step.state,
        began,
        until,
        taken_up=step.last_started_at,
        attempt=step.attempt,
        failure=step.last_failure,
        is_over=False,
        next_attempt_at=step.next_attempt_at,
    )


def _bar(
    scale: "_Scale",
    label: str,
    kind: str,
    status: str,
    began: datetime,
    ended: datetime,
    *,
    taken_up: datetime | None = None,
    attempt: int | None = None,
    failure: str | None = None,
    is_over: bool = True,
    next_attempt_at: datetime | None = None,
) -> Bar:
    seconds = max((ended - began).total_seconds(), 0) if is_over else None
    waited = None if taken_up is None or taken_up < began else scale.part(began, taken_up)
    worked = scale.part(taken_up or began, ended)
    return Bar(label, kind, status, attempt, began, seconds, waited, worked, failure, next_attempt_at)


def _label(name: str) -> str:
    action = action_types().get(name)
    return action.title if action else name.replace("_", " ").capitalize()


class _Scale:
    def __init__(self, start: datetime, end: datetime) -> None:
        self._start = start
        self._seconds = max((end - start).total_seconds(), 0.001)

    def part(self, began: datetime, ended: datetime) -> tuple[int, int]:
        """Where a part begins and how wide it is."""
        first, last = (self._at(each) for each in (began, ended))
        first = min(first, WIDTH - MINIMUM_WIDTH)
        return first, max(last - first, MINIMUM_WIDTH)

    def _at(self, moment: datetime) -> int:
        place = round((moment - self._start).total_seconds() / self._seconds * WIDTH)
        return min(max(place, 0), WIDTH)
