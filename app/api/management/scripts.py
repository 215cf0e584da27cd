"""Rehearsal of a script on a sample: nothing is saved, logged or run because of it. Doorbell's own."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import EnvironmentDep, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Json, example
from app.core import exact_json
from app.replays.script_trials import ScriptTrial, rehearse
from app.sources.changes import ScriptChange
from app.sources.store import get_configured

router = APIRouter(
    prefix="/sources/{key}/script",
    tags=["Scripts"],
    route_class=ManagementRoute,
    responses={status: RESPONSES[status] for status in (404, 503)},
)

MAXIMUM_HEADERS = 200


class ScriptSample(BaseModel):
    """An event to rehearse with."""

    model_config = ConfigDict(extra="forbid")

    body: Json | None = Field(None, description="The body, as JSON. Or `raw_body`.")
    raw_body: str | None = Field(None, description="The body byte for byte, for a signature made elsewhere.")
    headers: Annotated[dict[str, str], Field(max_length=MAXIMUM_HEADERS)] = Field(
        {}, description="The headers; their names reach the script in lower case."
    )
    sign: bool = Field(
        False, description="Whether to sign it as the vendor would, with the source's newest signing secret."
    )


class ScriptTrialRequest(BaseModel):
    """A script and a sample."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "script": {
                    "language": "javascript",
                    "source": "function main({ body, verification }) {\n"
                    "  return { verified: verification.verified, plan: body.plan ?? 'free' };\n}",
                },
                "sample": {"body": {"type": "user.identified"}, "headers": {}, "sign": True},
            }
        },
    )

    script: ScriptChange | None = Field(None, description="The script; without it, the one that is saved.")
    sample: ScriptSample


class RehearsalError(BaseModel):
    """Why the script has no result."""

    name: Annotated[str, StringConstraints(max_length=100)] = Field(
        description="JavaScript's own name, or the limit's."
    )
    message: str
    line: int | None = Field(description="The line of the script, if it is known.")


class ScriptTrialResponse(BaseModel):
    """What the script made of the sample. Secrets in it are masked where they stand as they are."""

    model_config = example(
        verified=True, preprocess={"plan": "free"}, console=["hello"], error=None, duration_ms=3.2
    )

    verified: bool | None = Field(description="What the script returned as `verified`; null if nothing.")
    preprocess: Json = Field(description="All else that it returned: mappings read it as `preprocess.*`.")
    console: list[str] = Field(description="What it logged.")
    error: RehearsalError | None
    duration_ms: float


@router.post("/rehearse", summary="Rehearse a script")
async def rehearse_script(
    key: str,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    environment: EnvironmentDep,
    body: ScriptTrialRequest,
) -> ScriptTrialResponse:
    """Run a script on a sample, with the source's secrets and variables. It is not saved."""
    await get_configured(session, key, environment)
    sample = body.sample
    raw = exact_json.dumps(sample.body or {}) if sample.raw_body is None else sample.raw_body.encode()
    rehearsal = ScriptTrial(
        source=body.script.source if body.script else None, body=raw, headers=sample.headers, sign=sample.sign
    )
    run = await rehearse(runtime, environment, key, rehearsal)
    return ScriptTrialResponse(
        verified=run.verified,
        preprocess=run.output,
        console=run.console,
        error=RehearsalError(**vars(run.error)) if run.error else None,
        duration_ms=run.duration_ms,
    )
