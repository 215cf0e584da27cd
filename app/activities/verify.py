"""The activity `verify_event`: the verdict of record, on the bytes as stored. `map_event` comes next."""

from temporalio import activity

from app.config import Configuration
from app.event_log import EventLog, StoredEvent
from app.models.contracts import EventRef, Verdict
from app.models.status import VerificationStatus
from app.verification import Delivery, verify


class VerifyEvent:
    """Verifies with the secrets of now against the time of receipt."""

    def __init__(self, events: EventLog, configuration: Configuration) -> None:
        self._events = events
        self._configuration = configuration

    @activity.defn
    async def verify_event(self, event: EventRef) -> Verdict:
        stored = await self._events.load(event.event_id)
        if stored.origin is not None:
            # A rehearsal has no signature; a replay was verified when it was asked for (`app/reruns.py`).
            return Verdict(rejected=False)
        endpoint = self._configuration.endpoint(stored.environment, stored.source_key)
        if endpoint is None:
            # Nothing to verify with any more; `map_event` finds no mapping either and says so.
            return Verdict(rejected=False)
        delivery = Delivery(stored.received_body(), stored.headers, stored.received_at)
        verdict = verify(endpoint.provider.scheme, delivery, endpoint.secrets)
        status = verdict.status(enforced=endpoint.enforce_verification)
        if status != stored.verification_status:
            await self._correct(stored, status, None if verdict.verified else verdict.reason)
        return Verdict(rejected=status is VerificationStatus.ENFORCED_FAILED)

    async def _correct(self, stored: StoredEvent, status: VerificationStatus, reason: str | None) -> None:
        """Configuration changed between receipt and execution: a secret was removed, enforcement switched."""
        await self._events.set_verification(stored.id, status, reason)
