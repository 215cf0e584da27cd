"""Promotion of a source from one environment to another, with a look at the differences first. Doorbell's
own."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import IfMatch, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import WrappedRequest, example
from app.runtime.resources import save
from app.sources import edits as source_edits
from app.sources.promotion import Promotion
from app.sources.versions import source_version

router = APIRouter(prefix="/sources/{key}", tags=["Sources"], route_class=ManagementRoute)


class PromotionRequest(BaseModel):
    """From where to where."""

    model_config = ConfigDict(extra="forbid")

    origin: str = Field(alias="from", description="The environment whose configuration is taken.")
    target: str = Field(alias="to", description="The environment that gets it.")
    dry_run: bool = Field(False, description="Whether only to say what would change.")


class WrappedPromotionRequest(WrappedRequest):
    """A promotion under the key `promotion`."""

    model_config = example(promotion={"from": "development", "to": "production", "dry_run": True})

    promotion: PromotionRequest


class DifferenceResponse(BaseModel):
    """One setting or mapping that is different. A mapping without `before` is added, without `after`
    removed."""

    field: str
    before: Any
    after: Any


class PromotionResponse(BaseModel):
    """What is different, and whether it was made the same."""

    origin: str = Field(alias="from")
    target: str = Field(alias="to")
    applied: bool
    differences: list[DifferenceResponse]


class WrappedPromotionResponse(BaseModel):
    """A promotion under the key `promotion`."""

    model_config = example(
        promotion={
            "from": "development",
            "to": "production",
            "applied": False,
            "differences": [{"field": "settings.timestamp_path", "before": None, "after": "body.created"}],
        }
    )

    promotion: PromotionResponse


def _response(asked: PromotionRequest, done: Promotion) -> WrappedPromotionResponse:
    shown = PromotionResponse(
        **{"from": asked.origin, "to": asked.target},
        applied=not asked.dry_run,
        differences=[
            DifferenceResponse(field=each.field, before=each.before, after=each.after)
            for each in done.differences
        ],
    )
    return WrappedPromotionResponse(promotion=shown)


@router.post(
    "/promote",
    summary="Promote a source",
    responses={404: RESPONSES[404], 412: RESPONSES[412]},
)
async def promote_source(
    key: str,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    body: WrappedPromotionRequest,
    response: Response,
    if_match: IfMatch = None,
) -> WrappedPromotionResponse:
    """Settings and mappings become those of another environment; endpoint and secrets stay. A dry run's
    `ETag`, sent as `If-Match`, makes sure that what is promoted is what was shown."""
    asked = body.promotion
    done = await source_edits.promote_source(
        session, access, key, asked.origin, asked.target, dry_run=asked.dry_run, if_match=if_match
    )
    await save(session, runtime)
    response.headers["etag"] = source_version(done.source)
    return _response(asked, done)
