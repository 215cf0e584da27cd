"""The states of events, verification and actions. No tables here: workflows import these too."""

from enum import StrEnum


class EventStatus(StrEnum):
    """Where an event is. It only moves forward: received, processing, then one of the final ones."""

    RECEIVED = "received"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    IDEMPOTENT = "idempotent"
    REJECTED = "rejected"
    IGNORED = "ignored"


class VerificationStatus(StrEnum):
    """Whether verification was enforced, and what it found."""

    ENFORCED_VERIFIED = "enforced:verified"
    ENFORCED_FAILED = "enforced:failed"
    NOT_ENFORCED_VERIFIED = "not_enforced:verified"
    NOT_ENFORCED_FAILED = "not_enforced:failed"
    NOT_ENFORCED_UNVERIFIED = "not_enforced:unverified"


class ActionStatus(StrEnum):
    """Where an action is. `skipped`: a required field was missing from the event."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"


class RunStatus(StrEnum):
    """Where a workflow's run for a recipient is: Knock's words. `paused`: it waits in a delay step."""

    QUEUED = "queued"
    PROCESSING = "processing"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """Where a step of a run is. `sending`: a request is on its way, and a cancel waits for it to end."""

    PENDING = "pending"
    WAITING = "waiting"
    SENDING = "sending"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"
