"""A script run on a sample as if the source had received it. Nothing comes of it but the answer."""

import secrets
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.events.assessment import hidden_values, run_script
from app.models.types import now
from app.providers.verification import Delivery, verify
from app.runtime.resources import Runtime
from app.scripting.pool import ScriptError, ScriptRun, mask
from app.scripting.turns import Busy
from app.sources.live import Endpoint


@dataclass(frozen=True)
class ScriptTrial:
    """What to rehearse. `source` None is the script that is saved; `sign` adds the headers of the vendor."""

    source: str | None
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    sign: bool = False


async def rehearse(runtime: Runtime, environment: str, key: str, wanted: ScriptTrial) -> ScriptRun:
    """Run a script on a sample, with the secrets and variables that the source has.

    Raises:
        RequestError: 404, the source is not known here yet; 422, there is no script, the sample is not JSON,
            or there is nothing to sign it with; 503, too many scripts wait.
    """
    endpoint = runtime.configuration.endpoint(environment, key)
    if endpoint is None:
        message = f"Source {key!r} is not known in {environment!r} yet: try again in a second"
        raise RequestError(404, "resource_missing", message)
    source = endpoint.script if wanted.source is None else wanted.source
    if errors := _errors(endpoint, source, wanted):
        raise invalid_fields(errors)
    assert source is not None
    headers = {name.lower(): value for name, value in wanted.headers.items()}
    if wanted.sign:
        headers |= sign_delivery(endpoint, wanted.body)
    delivery = Delivery(wanted.body, headers, now())
    own = verify(endpoint.provider.scheme, delivery, endpoint.secrets)
    try:
        [run] = await run_script(endpoint, source, delivery, own, runtime.scripts)
        return _masked(run, endpoint)
    except Busy as error:
        raise RequestError(503, error.code, str(error), headers={"retry-after": "1"}) from error


def sign_delivery(endpoint: Endpoint, body: bytes) -> dict[str, str]:
    """The headers with which the source's vendor would send this body; none when there is nothing to sign
    with."""
    moment = now()
    usable = [each.value for each in endpoint.secrets if each.valid_at(moment)]
    scheme = endpoint.provider.scheme
    if scheme is None or not usable:
        return {}
    return scheme.sign(body, usable[0], moment, f"msg_{secrets.token_hex(12)}")


def _masked_value(value: Any, hidden: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return mask(value, hidden)
    if isinstance(value, list):
        return [_masked_value(each, hidden) for each in value]
    if isinstance(value, dict):
        return {mask(name, hidden): _masked_value(each, hidden) for name, each in value.items()}
    return value


def _errors(endpoint: Endpoint, source: str | None, wanted: ScriptTrial) -> list[FieldError]:
    errors = []
    if source is None:
        errors.append(FieldError("script", "is required: the source has none in this environment"))
    try:
        exact_json.loads(wanted.body)
    except orjson.JSONDecodeError as error:
        errors.append(FieldError("sample.raw_body", f"is not JSON: {error}"))
    if wanted.sign and not sign_delivery(endpoint, wanted.body):
        errors.append(FieldError("sample.sign", "the source has no signing secret in this environment"))
    return errors


def _masked(run: ScriptRun, endpoint: Endpoint) -> ScriptRun:
    """Without the secrets that a script shows by accident. Who may write scripts can read secrets on
    purpose."""
    hidden = hidden_values(endpoint)
    error = run.error
    return replace(
        run,
        output=_masked_value(run.output, hidden),
        console=[mask(line, hidden) for line in run.console],
        error=ScriptError(mask(error.name, hidden), error.message, error.line) if error else None,
    )
