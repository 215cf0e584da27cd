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


class Origin(StrEnum):
    """Where an event comes from that no service sent."""

    REHEARSAL = "rehearsal"
    REPLAY = "replay"


class ReplayMappings(StrEnum):
    """What a replay runs: the mappings as they are now, or the actions as they were evaluated for the original."""

    CURRENT = "current"
    ORIGINAL = "original"


class ActionStatus(StrEnum):
    """Where an action is. `skipped`: a required field was missing from the event."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
