"""Whether a delivery is genuine, and what preprocessing makes of it: by the source's script, else by its
provider.

The same at the edge (`app/events/reception.py`) and for the verdict of record (`app/activities/verify.py`).
"""

from dataclasses import dataclass, replace

import orjson

from app.providers.verification import Delivery, FirstEventHmac, Scheme, Verdict, verify
from app.scripting.pool import ScriptError, ScriptInput, ScriptRun, Scripts, mask
from app.sources.live import Endpoint


@dataclass(frozen=True)
class Assessment:
    """The verdict on a delivery. `run` is there when a script made it, `malformed` says why none could.

    `told` is the verdict's reason as the sender may know it: what a script throws can tell of its inside.
    """

    verdict: Verdict
    run: ScriptRun | None = None
    malformed: bool = False

    @property
    def told(self) -> str:
        failed = self.run.error if self.run else None
        return f"the source's script failed with {failed.name}" if failed else self.verdict.reason

    @property
    def problem(self) -> str | None:
        """Why there is no preprocess output, for the log."""
        return self.verdict.reason if self.run and self.run.error else None


async def assess(endpoint: Endpoint, delivery: Delivery, scripts: Scripts) -> Assessment:
    """Judge a delivery. Never raises for what a sender can send.

    Raises:
        ScriptsBusy: too many scripts wait; nothing is known of this delivery.
    """
    own = verify(scheme_of(endpoint), delivery, endpoint.secrets)
    if endpoint.script is None:
        return Assessment(own)
    if not _is_json(delivery.body):
        reason = "the body is not a JSON object, so the source's script did not run"
        return Assessment(Verdict(None, reason), malformed=True)
    run = await run_script(endpoint, endpoint.script, delivery, own, scripts)
    return Assessment(_verdict(run, own), run)


async def run_script(
    endpoint: Endpoint, source: str, delivery: Delivery, own: Verdict, scripts: Scripts
) -> ScriptRun:
    """Run a script on a delivery as the source's. `own` is the verdict of the source's own scheme.

    The error of a script goes into logs: it does not repeat a secret.
    """
    secrets = tuple(each.value for each in endpoint.secrets if each.valid_at(delivery.received_at))
    given = ScriptInput(
        body=delivery.body,
        headers=delivery.headers,
        received_at=delivery.received_at,
        variables=endpoint.variables.values,
        secrets=secrets,
        verification={"verified": own.verified, "reason": own.reason},
    )
    run = await scripts.run(source, given)
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
        return isinstance(orjson.loads(body), dict | list)
    except orjson.JSONDecodeError:
        return False
