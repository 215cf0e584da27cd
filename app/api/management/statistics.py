"""What happened over time in an environment: events, actions and latencies. Doorbell's own."""

from collections import Counter
from datetime import timedelta
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.dependencies import SessionDep
from app.api.management.dependencies import EnvironmentDep, ReadAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import Timestamp, example
from app.logs.statistics import PERCENTILES, Interval, Latencies, Point, Statistics, read_statistics
from app.models.types import Moment, now

router = APIRouter(prefix="/statistics", tags=["Statistics"], route_class=ManagementRoute)

Key = TypeVar("Key")
DEFAULT_TIME = timedelta(days=1)
_LATENCY = {"count": 1200, "p50_ms": 38.1, "p95_ms": 92.4, "p99_ms": 210.7}


class LatencyResponse(BaseModel):
    """How long events took from their acceptance to the end of their last action, estimated from counts in
    steps."""

    count: int = Field(description="How many events were measured: those that succeeded or failed.")
    p50_ms: float | None = Field(description="Half of them took at most this long; null without events.")
    p95_ms: float | None
    p99_ms: float | None


class PointResponse(BaseModel):
    """One piece of the time."""

    starts_at: Timestamp
    events: dict[str, int] = Field(description="How many events, by status.")
    actions: dict[str, int] = Field(description="How many actions of these events, by status.")
    latency: LatencyResponse


class EventTypeResponse(BaseModel):
    """An event type of a source."""

    source: str
    event: str | None = Field(
        description="Null: events without a type, or with one beyond the most frequent of the source."
    )
    events: dict[str, int] = Field(description="How many, by status.")


class SourceStatisticsResponse(BaseModel):
    """A source."""

    source: str
    events: dict[str, int] = Field(description="How many, by status.")


class StatisticsResponse(BaseModel):
    """What happened, in points and as totals. The statuses are those of the log."""

    model_config = example(
        interval="hour",
        events={"succeeded": 1180, "failed": 20},
        actions={"succeeded": 2360, "failed": 20},
        latency=_LATENCY,
        sources=[{"source": "stripe", "events": {"succeeded": 1180, "failed": 20}}],
        event_types=[
            {"source": "stripe", "event": "invoice.paid", "events": {"succeeded": 1180, "failed": 20}}
        ],
        points=[
            {
                "starts_at": "2026-01-15T12:00:00Z",
                "events": {"succeeded": 1180, "failed": 20},
                "actions": {"succeeded": 2360, "failed": 20},
                "latency": _LATENCY,
            }
        ],
        rolled_up_to="2026-01-15T12:58:00Z",
    )

    interval: Interval
    events: dict[str, int] = Field(description="How many events, by status.")
    actions: dict[str, int] = Field(description="How many actions of these events, by status.")
    latency: LatencyResponse
    sources: list[SourceStatisticsResponse] = Field(description="By source, most events first.")
    event_types: list[EventTypeResponse] = Field(description="By event type, most events first.")
    points: list[PointResponse]
    rolled_up_to: Timestamp | None = Field(
        description="What came before is counted ahead by a worker; what came up to 15 minutes ago is read "
        "from the log. If this is older, no worker has counted since, and what lies between is missing."
    )


@router.get("", summary="Show statistics")
async def show_statistics(
    access: ReadAccess,
    session: SessionDep,
    environment: EnvironmentDep,
    source: Annotated[str | None, Query(description="Only this source.")] = None,
    starting_at: Annotated[
        Moment | None, Query(description="The points from this time on; by default, a day before the end.")
    ] = None,
    ending_at: Annotated[
        Moment | None, Query(description="The points up to this time; by default, now.")
    ] = None,
    interval: Annotated[
        Interval,
        Query(
            description="How long a point is. Minutes are kept for 2 days, quarters of an hour for 8, "
            "hours for 36, days (in UTC) for 400; an answer has 750 points at most."
        ),
    ] = Interval.HOUR,
) -> StatisticsResponse:
    """Events and actions by outcome, latencies, and the most frequent event types, over time.

    An event counts at the time at which it was received, with the status that it has by now.
    """
    ends = ending_at or now()
    starts = starting_at or ends - DEFAULT_TIME
    return _response(await read_statistics(session, environment, interval, starts, ends, source))


def _response(found: Statistics) -> StatisticsResponse:
    return StatisticsResponse(
        interval=found.interval,
        events=found.events,
        actions=found.actions,
        latency=_latency(found.latencies),
        sources=[
            SourceStatisticsResponse(source=key, events=counts) for key, counts in _most_first(found.sources)
        ],
        event_types=[
            EventTypeResponse(source=key, event=name or None, events=counts)
            for (key, name), counts in _most_first(found.event_types)
        ],
        points=[_point(each) for each in found.points],
        rolled_up_to=found.rolled_up_to,
    )


def _point(point: Point) -> PointResponse:
    return PointResponse(
        starts_at=point.starts_at,
        events=point.events,
        actions=point.actions,
        latency=_latency(point.latencies),
    )


def _latency(found: Latencies) -> LatencyResponse:
    values = {f"p{percent}_ms": found.percentile(percent) for percent in PERCENTILES}
    return LatencyResponse.model_validate(
        {"count": found.events, **{name: value and round(value, 1) for name, value in values.items()}}
    )


def _most_first(counts: dict[Key, Counter[str]]) -> list[tuple[Key, Counter[str]]]:
    return sorted(counts.items(), key=lambda each: -each[1].total())
