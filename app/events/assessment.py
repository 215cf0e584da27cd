"""Whether a request is genuine, and what preprocessing makes of it: by the source's script, else by its
provider.

The same for every way in (`app/events/reception.py`) and for the verdict of record
(`app/activities/verify.py`). `refusal` is the one gate: a request that makes events passes it, whichever path
it came on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from app.core import exact_json
from app.core.errors import Rejected
from app.events.bodies import as_json
from app.models.status import VerificationStatus
from app.providers.verification import Delivery, FirstEventHmac, Scheme, Verdict, verify
from app.scripting.pool import ScriptError, ScriptInput, ScriptRun, Scripts, mask
from app.sources.live import Endpoint

CALLED_WITH_SOURCE_KEY = "called with a source key"
# A write key ships in web pages: it says which source is meant, and proves nothing.
SENT_WITH_WRITE_KEY = "sent with the write key, which is not a signature"


@dataclass(frozen=True)
class Assessment:
    """The verdict on a delivery. `runs` are there when a script made it: one for each of its events, in their
    order. `malformed` says that none could.

    `told` is the verdict's reason as the sender may know it: what a script throws can tell of its inside.
    """

    verdict: Verdict
    runs: tuple[ScriptRun, ...] = ()
    malformed: bool = False

    @property
    def run(self) -> ScriptRun | None:
        """The run that decided: all must verify, so the first that does not."""
        return next((each for each in self.runs if not each.verified), self.runs[0] if self.runs else None)

    @property
    def told(self) -> str:
        failed = self.run.error if self.run else None
        return f"the source's script failed with {failed.name}" if failed else self.verdict.reason

    def run_of(self, position: int) -> ScriptRun | None:
        """The run on the event at this place of the delivery."""
        return self.runs[position] if position < len(self.runs) else None


def refusal(endpoint: Endpoint, assessment: Assessment) -> Rejected | None:
    """Why a request makes no events of this source, if so: the source enforces verification, and the request
    is not verified."""
    if not endpoint.enforce_verification or assessment.verdict.verified:
        return None
    return Rejected(401, "verification_failed", f"the event could not be verified: {assessment.told}")


def status_of(endpoint: Endpoint, verdict: Verdict) -> VerificationStatus:
    """What the log says of a verdict on a request to this source."""
    return verdict.status(enforced=endpoint.enforce_verification)


async def assess(
    endpoint: Endpoint, delivery: Delivery, scripts: Scripts, events: Sequence[bytes] = ()
) -> Assessment:
    """Judge a delivery to the ingestion URL. Never raises for what a sender can send. `events` are the bodies
    of its events where it has several: a script runs for each.

    Raises:
        Busy: too many scripts wait; nothing is known of this delivery.
    """
    own = verify(scheme_of(endpoint), delivery, endpoint.secrets)
    return await _assess(endpoint, delivery, own, scripts, events)


async def assess_tracking(
    endpoint: Endpoint, delivery: Delivery, scripts: Scripts, events: Sequence[bytes] = ()
) -> Assessment:
    """Judge a request of a library, as `assess` else. It may be signed as a delivery is; the write key alone
    is no signature.

    Raises:
        Busy: as `assess`.
    """
    signed = verify(scheme_of(endpoint), delivery, endpoint.secrets)
    own = signed if signed.verified else Verdict(None, SENT_WITH_WRITE_KEY)
    return await _assess(endpoint, delivery, own, scripts, events)


def assess_source_call() -> Assessment:
    """The verdict on a call with a source key. The key is the caller's credential; a script judges deliveries
    to the ingestion URL, and has no part in it."""
    return Assessment(Verdict(True, CALLED_WITH_SOURCE_KEY))


async def _assess(
    endpoint: Endpoint, delivery: Delivery, own: Verdict, scripts: Scripts, events: Sequence[bytes]
) -> Assessment:
    if endpoint.script is None:
        return Assessment(own)
    if not events and not _is_json(as_json(delivery.body, delivery.headers)):
        reason = "the body is not a JSON object, so the source's script did not run"
        return Assessment(Verdict(None, reason), malformed=True)
    runs = await run_script(endpoint, endpoint.script, delivery, own, scripts, events)
    judged = Assessment(own, tuple(runs))
    assert judged.run is not None
    return replace(judged, verdict=_verdict(judged.run, own))


async def run_script(
    endpoint: Endpoint,
    source: str,
    delivery: Delivery,
    own: Verdict,
    scripts: Scripts,
    events: Sequence[bytes] = (),
) -> list[ScriptRun]:
    """Run a script on a delivery as the source's: once, or for each of its events where it has several. `own`
    is the verdict of the source's own scheme.

    The error of a script goes into logs: it does not repeat a secret.
    """
    secrets = tuple(each.value for each in endpoint.secrets if each.valid_at(delivery.received_at))
    given = ScriptInput(
        body=delivery.body,
        content=as_json(delivery.body, delivery.headers),
        headers=delivery.headers,
        received_at=delivery.received_at,
        variables=endpoint.variables.values,
        secrets=secrets,
        verification={"verified": own.verified, "reason": own.reason},
    )
    owner = (endpoint.environment, endpoint.source_key)
    if events:
        runs = await scripts.run_each(source, given, events, owner)
    else:
        runs = [await scripts.run(source, given, owner)]
    return [_masked(run, endpoint) for run in runs]


def _masked(run: ScriptRun, endpoint: Endpoint) -> ScriptRun:
    if run.error is None:
        return run
    message = mask(run.error.message, hidden_values(endpoint))
    return replace(run, error=ScriptError(run.error.name, message, run.error.line))


def scheme_of(endpoint: Endpoint) -> Scheme | None:
    """How the source's events are signed: with `strict_batches`, a part of a batch does not sign the
    whole."""
    scheme = endpoint.provider.scheme
    if endpoint.strict_batches and isinstance(scheme, FirstEventHmac):
        return replace(scheme, whole=True)
    return scheme


def hidden_values(endpoint: Endpoint) -> tuple[str, ...]:
    """What a script knows and nothing shows: signing secrets and secret variables."""
    return (*(each.value for each in endpoint.secrets), *endpoint.variables.secret_values)


def _verdict(run: ScriptRun, own: Verdict) -> Verdict:
    if run.error is not None:
        return Verdict(None, f"the source's script failed: {run.error}")
    if run.verified is None:
        return Verdict(None, "the source's script did not return verified")
    said = "the source's script says so"
    # Scripts that pass the scheme's verdict on are common: then its reason is the one to know.
    return Verdict(run.verified, said if run.verified or own.verified else f"{said}; {own.reason}")


def _is_json(body: bytes) -> bool:
    try:
        return isinstance(exact_json.loads(body), dict | list)
    except orjson.JSONDecodeError:
        return False
