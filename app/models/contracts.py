"""The messages between dispatcher, workflow and activities: ids and verdicts, never payloads or secrets.

They are what Temporal stores and shows. New fields need defaults, so that running workflows can be replayed.
"""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from app.models.status import ActionStatus, EventStatus, RunStatus, StepStatus

# The type of a failure that retrying does not mend (`app.core.errors.Permanent`), as Temporal shows it.
PERMANENT = "Permanent"


class EventRef(BaseModel):
    """The event that a workflow processes."""

    event_id: UUID
    environment: str
    source_key: str


class VerificationResult(BaseModel):
    """The result of `verify_event`."""

    rejected: bool


class ActionRef(BaseModel):
    """An action to run. `action_type` is also the name of the activity."""

    action_id: UUID
    action_type: str
    environment: str
    # How long Temporal retries it, in seconds.
    give_up_after: float


class MappedEvent(BaseModel):
    """The result of `map_event`: the kinds of action in order, each with those that run together.

    `mapped` is False when no active mapping was found. `skipped` and `failed` count the actions that need no
    call; of the skipped ones, `decided` had conditions that were not met.
    """

    mapped: bool
    kinds: list[list[ActionRef]] = []
    skipped: int = 0
    decided: int = 0
    failed: int = 0


class ActionOutcome(BaseModel):
    """The result of one action's activity."""

    action_id: UUID
    status: ActionStatus


class EventOutcome(BaseModel):
    """What became of an event: the input of `record_outcome` and the result of the workflow."""

    event_id: UUID
    status: EventStatus
    cancelled: bool = False
    # Why the event could not be processed at all, when that is so.
    problem: str | None = None
    succeeded: int = 0
    # Of the skipped ones, `decided` were not to run; the others had no value for a required parameter.
    skipped: int = 0
    decided: int = 0
    failed: int = 0
    # Actions that Temporal stopped retrying; their rows still say pending.
    gave_up: list[UUID] = []
    # Who asked for that, when Temporal did not stop by itself.
    gave_up_by: str | None = None

    @classmethod
    def of(cls, event_id: UUID, mapped: MappedEvent) -> "EventOutcome":
        """Before any action ran."""
        if not mapped.mapped:
            return cls(event_id=event_id, status=EventStatus.IGNORED)
        status = EventStatus.FAILED if mapped.failed else EventStatus.SUCCEEDED
        return cls(
            event_id=event_id,
            status=status,
            skipped=mapped.skipped,
            decided=mapped.decided,
            failed=mapped.failed,
        )

    @property
    def ran_nothing(self) -> bool:
        """Whether no action ran or was decided about: no success that a duplicate could repeat."""
        if self.status is EventStatus.SUCCEEDED:
            return not self.succeeded and not self.decided
        return self.status is EventStatus.IGNORED

    def count(self, action_id: UUID, status: ActionStatus | None) -> None:
        """Count an action. `status` None: Temporal gave up on it."""
        if status is ActionStatus.SUCCEEDED:
            self.succeeded += 1
            return
        if status is ActionStatus.SKIPPED:
            self.skipped += 1
            self.decided += 1
            return
        self.failed += 1
        self.status = EventStatus.FAILED
        if status is None:
            self.gave_up.append(action_id)


class TriedStep(BaseModel):
    """A step of `try_event`, for people. `failure`: why it is tried again."""

    name: str
    finished_at: datetime
    failure: str | None = None


class TriedAction(BaseModel):
    """What came of the first try of an action. `status` None: it is tried again, after `retry_after`
    seconds."""

    action_id: UUID
    status: ActionStatus | None = None
    retry_after: float | None = None


class FirstTry(BaseModel):
    """The result of `try_event`. `outcome`: what was recorded, with which all is done. Else `mapped` says
    what there is to do, and `tried` what of it is."""

    steps: list[TriedStep] = []
    outcome: EventOutcome | None = None
    mapped: MappedEvent | None = None
    tried: list[TriedAction] = []


class BulkOperationRef(BaseModel):
    """The bulk operation of the directory that a workflow works off."""

    operation_id: UUID
    environment: str


class FanOutRef(BaseModel):
    """The trigger whose objects' subscribers get runs."""

    workflow_run_id: UUID
    environment: str


class FanOutProgress(BaseModel):
    """The result of `fan_out_page`. `crowded`: nothing was made, because many runs wait to be started."""

    done: bool
    crowded: bool = False


class ErasureRef(BaseModel):
    """The erasure that a workflow works off."""

    erasure_id: UUID
    environment: str


class ErasureStep(BaseModel):
    """What is next in an erasure: nothing, or going on, at once or, when it `waits`, after a while."""

    done: bool
    waits: bool = False


class ReplayRef(BaseModel):
    """The replay of many events that a workflow works off. `chunks`: how many before it continues as new."""

    replay_id: UUID
    environment: str
    chunks: int = 500


class ReplayedChunk(BaseModel):
    """What a chunk of a replay came to: whether it was the last, else how long to wait before the next, in
    seconds."""

    is_last: bool
    pause: float = 0


class AlertRef(BaseModel):
    """The alert that a workflow delivers."""

    alert_id: UUID
    environment: str


class AlertDeliveryRef(BaseModel):
    """One delivery of an alert."""

    alert_id: UUID
    channel: str


class RunRef(BaseModel):
    """The recipient's run that a workflow follows."""

    run_id: UUID
    environment: str


class RunPlan(BaseModel):
    """The result of `begin_run`: how many steps there are to follow, none when there is nothing to do."""

    steps: int


class StepRef(BaseModel):
    """A step of a run: the place in the definition that the run follows."""

    run_id: UUID
    environment: str
    position: int


class StepVerdict(BaseModel):
    """What became of a step, and what is next.

    `wait_until`: sleep until then, and end the delay. `call`: the activity that does the rest. `halt`: the
    run goes no further.
    """

    status: StepStatus
    halt: bool = False
    wait_until: datetime | None = None
    call: str | None = None


class RunOutcome(BaseModel):
    """How a run ended: the input of `finish_run` and the result of the workflow."""

    run_id: UUID
    status: RunStatus
