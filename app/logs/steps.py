"""The shape of a timeline: what a workflow did and what is pending, apart from Temporal's client."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class TimelineStep:
    """One thing that the workflow did. `kind`: `local_activity`, `activity`, `timer`, `signal` or `workflow`.

    `status`: `completed`, `failed`, `timed_out`, `cancelled`, `started` or `scheduled`. `failure` is the last
    one; an activity that succeeded on a later attempt still shows why the one before failed.
    """

    kind: str
    name: str
    status: str
    attempt: int | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failure: str | None = None


@dataclass(frozen=True)
class PendingStep:
    """An activity that Temporal is running or will try again."""

    name: str
    state: str
    attempt: int
    scheduled_at: datetime | None
    last_started_at: datetime | None
    next_attempt_at: datetime | None
    last_failure: str | None


@dataclass(frozen=True)
class Timeline:
    """A workflow's run. `reason` says why there is none, for people."""

    reason: str | None = None
    status: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    steps: list[TimelineStep] = field(default_factory=list)
    pending: list[PendingStep] = field(default_factory=list)
