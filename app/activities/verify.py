"""The activity `verify_event`: the verdict of record, on the bytes as stored. `map_event` comes next."""

from temporalio import activity

from app.events.assessment import assess, status_of
from app.events.event_log import EventLog, StoredEvent
from app.models.contracts import EventRef, VerificationResult
from app.models.status import ReceivedThrough, VerificationStatus
from app.providers.verification import Delivery, Verdict
from app.scripting.pool import Scripts
from app.sources.live import Configuration


class VerifyEvent:
    """Verifies with the secrets, script and variables of now against the time of receipt."""

    def __init__(self, events: EventLog, configuration: Configuration, scripts: Scripts) -> None:
        self._events = events
        self._configuration = configuration
        self._scripts = scripts

    @activity.defn
    async def verify_event(self, event: EventRef) -> VerificationResult:
        stored = await self._events.load(event.event_id)
        if stored.origin is not None:
            # A rehearsal has no signature; a replay was verified when it was asked for
            # (`app/replays/one.py`).
            return VerificationResult(rejected=False)
        endpoint = self._configuration.endpoint(stored.environment, stored.source_key)
        if endpoint is None:
            # Nothing to verify with any more; `map_event` finds no mapping either and says so.
            return VerificationResult(rejected=False)
        if stored.received_through != ReceivedThrough.WEBHOOK:
            verdict = _received_verdict(stored)
            reason = stored.verification_reason
        else:
            delivery = Delivery(stored.received_body(), stored.headers, stored.received_at)
            assessment = await assess(endpoint, delivery, self._scripts)
            if assessment.run and assessment.run.error:
                # A script that fails now, after a change or on a busy machine, takes back no verdict that it
                # gave.
                return VerificationResult(
                    rejected=stored.verification_status == VerificationStatus.ENFORCED_FAILED
                )
            verdict = assessment.verdict
            reason = None if verdict.verified else verdict.reason
        status = status_of(endpoint, verdict)
        if status != stored.verification_status:
            await self._correct(stored, status, reason)
        return VerificationResult(rejected=status is VerificationStatus.ENFORCED_FAILED)

    async def _correct(self, stored: StoredEvent, status: VerificationStatus, reason: str | None) -> None:
        """Configuration changed between receipt and execution: a secret was removed, enforcement switched."""
        await self._events.set_verification(stored.id, status, reason)


def _received_verdict(stored: StoredEvent) -> Verdict:
    """The verdict of reception, on an event of a request that is not stored as it was sent: a batch, a call
    of a library, a call with a source key."""
    found = stored.verification_status.rpartition(":")[2]
    return Verdict({"verified": True, "failed": False}.get(found), stored.verification_reason or "")
