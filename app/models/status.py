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


class ReceivedThrough(StrEnum):
    """How an event came in, which says what vouches for it.

    Only what came as one webhook delivery of JSON is stored as it was signed; the others were authenticated
    as a whole when they were received: a delivery of many events or of a form (`batch`), a write key, a
    source key.
    """

    WEBHOOK = "webhook"
    BATCH = "batch"
    TRACKING = "tracking"
    SOURCE_KEY = "source_key"


class Origin(StrEnum):
    """Where an event comes from that no service sent."""

    REHEARSAL = "rehearsal"
    REPLAY = "replay"


class ReplayMappings(StrEnum):
    """What a replay runs: the mappings as they are now, or the actions as they were evaluated for the
    original."""

    CURRENT = "current"
    ORIGINAL = "original"


class ReplayStatus(StrEnum):
    """Where a replay of many events is. `completed`: all were looked at, also those that could not be
    replayed."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class AlertStatus(StrEnum):
    """Where an alert, or one delivery of it, is. An alert is `delivered` when every delivery is."""

    QUEUED = "queued"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    FAILED = "failed"


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
