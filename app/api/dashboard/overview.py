"""The overview: what happened over time, what waits, what fails and why, and whether everything can be
reached.

Its numbers renew themselves: `/overview/live` is the same part of the page again, with the data of the
charts, which take it without being drawn anew.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Response

from app.api.dashboard.pages import Visit
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit
from app.logs.overview import (
    Answers,
    Cause,
    OpenEvents,
    find_causes,
    read_answers,
    read_backlog,
    read_rate_limit_waits,
)
from app.logs.statistics import PERCENTILES, Interval, Statistics, read_statistics
from app.logs.timeline import Timelines
from app.models.status import ActionStatus, EventStatus
from app.models.types import now
from app.runtime.health import services_problems
from app.sources.store import list_sources

router = APIRouter(route_class=PageRoute)

TOP_TYPES = 8
TOP_FAILING = 6
ANSWERS_SINCE = timedelta(days=7)
# The layers of the stacked charts, from below: status, what it is called, and the colour it has.
EVENT_LAYERS = (
    (EventStatus.SUCCEEDED, "Succeeded", "good"),
    (EventStatus.FAILED, "Failed", "bad"),
    (EventStatus.REJECTED, "Rejected", "warning"),
    (EventStatus.IGNORED, "Ignored", "text-faint"),
    (EventStatus.IDEMPOTENT, "Repeated", "line-strong"),
    (EventStatus.PROCESSING, "Processing", "busy"),
    (EventStatus.RECEIVED, "Waiting", "accent"),
)
ACTION_LAYERS = (
    (ActionStatus.SUCCEEDED, "Succeeded", "good"),
    (ActionStatus.FAILED, "Failed", "bad"),
    (ActionStatus.SKIPPED, "Skipped", "warning"),
    (ActionStatus.PENDING, "Pending", "busy"),
)
_LATENCY_TONES = {50: "good", 95: "busy", 99: "bad"}
_LATENCY_DASHES: dict[int, list[int]] = {50: [], 95: [6, 4], 99: [2, 3]}


class Range(StrEnum):
    """How far back the overview looks."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


_RANGES = {
    Range.HOUR: (timedelta(hours=1), Interval.MINUTE),
    Range.DAY: (timedelta(days=1), Interval.QUARTER_HOUR),
    Range.WEEK: (timedelta(days=7), Interval.HOUR),
    Range.MONTH: (timedelta(days=30), Interval.DAY),
}
# As the filters of the log name them.
_LOG_PERIODS = {Range.HOUR: "1h", Range.DAY: "24h", Range.WEEK: "7d", Range.MONTH: "30d"}


@dataclass(frozen=True)
class Failing:
    """A source that fails: how many of its events, and why most of the latest did."""

    key: str
    failed: int
    events: int
    cause: Cause | None


@dataclass(frozen=True)
class Overview:
    """What the page shows."""

    range: Range
    since: datetime
    statistics: Statistics
    failing: list[Failing]
    backlog: OpenEvents
    answers: Answers
    waits: list[tuple[str, float]]

    @property
    def event_types(self) -> list[tuple[str, str, int, int]]:
        """The most frequent event types: source, type, how many, how many of them failed."""
        ranked = sorted(self.statistics.event_types.items(), key=lambda each: -each[1].total())
        return [(key, name, found.total(), _failed(found)) for (key, name), found in ranked[:TOP_TYPES]]

    @property
    def failed(self) -> int:
        """How many events failed or were rejected."""
        return _failed(self.statistics.events)

    @property
    def is_behind(self) -> bool:
        """Whether counts are missing, because no worker has made them for a while."""
        counted = self.statistics.rolled_up_to
        return counted is not None and counted < now() - timedelta(minutes=15)

    @property
    def log_period(self) -> str:
        """The same time, as the log's page calls it."""
        return _LOG_PERIODS[self.range]

    @property
    def percentiles(self) -> list[tuple[int, float | None]]:
        """The latency of all events, in seconds."""
        return [(percent, _seconds(self.statistics.latencies.percentile(percent))) for percent in PERCENTILES]

    @property
    def charts(self) -> dict[str, dict[str, Any]]:
        """The data of the charts, by their names."""
        points = self.statistics.points
        return {
            "events": _stacked("events", EVENT_LAYERS, points, [each.events for each in points]),
            "actions": _stacked("actions", ACTION_LAYERS, points, [each.actions for each in points]),
            "latency": {
                "times": _times(points),
                "unit": "ms",
                "stacked": False,
                "series": [
                    {
                        "label": f"p{percent}",
                        "tone": _LATENCY_TONES[percent],
                        "dash": _LATENCY_DASHES[percent],
                        "values": [_rounded(each.latencies.percentile(percent)) for each in points],
                    }
                    for percent in PERCENTILES
                ],
            },
        }


@router.get("/")
async def show(visit: ReadVisit, range: Range = Range.DAY) -> Response:
    """The overview; for a new installation, where to begin."""
    if not await list_sources(visit.session):
        return visit.page("overview/welcome.html")
    return visit.page("overview/page.html", overview=await _overview(visit, range), ranges=list(Range))


@router.get("/overview/live")
async def show_live(visit: ReadVisit, range: Range = Range.DAY) -> Response:
    """The part of it that renews itself."""
    return visit.part("overview/live.html", overview=await _overview(visit, range), is_update=True)


@router.get("/overview/reachable")
async def show_reachable(visit: ReadVisit) -> Response:
    """Whether Postgres and Temporal can be reached: apart, because asking may take as long as people wait."""
    timelines: Timelines = visit.request.app.state.timelines
    problems = await services_problems(visit.runtime, timelines.client)
    return visit.part("overview/reachable.html", problems=problems)


async def _overview(visit: Visit, range: Range) -> Overview:
    length, interval = _RANGES[range]
    session, environment, moment = visit.session, visit.environment.slug, now()
    since = moment - length
    found = await read_statistics(session, environment, interval, since, moment)
    failing = sorted(found.sources.items(), key=lambda each: -_failed(each[1]))[:TOP_FAILING]
    keys = [key for key, counts in failing if _failed(counts)]
    causes = await find_causes(session, environment, keys, since)
    destination = visit.runtime.configuration.destination(environment)
    return Overview(
        range=range,
        since=since,
        statistics=found,
        failing=[
            Failing(key, _failed(found.sources[key]), found.sources[key].total(), causes.get(key))
            for key in keys
        ],
        backlog=await read_backlog(session, environment),
        answers=await read_answers(session, environment, moment - ANSWERS_SINCE),
        waits=await read_rate_limit_waits(session, destination.account),
    )


def _failed(counts: Any) -> int:
    return int(counts[EventStatus.FAILED] + counts[EventStatus.REJECTED])


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)


def _times(points: list[Any]) -> list[int]:
    return [int(each.starts_at.timestamp()) for each in points]


def _stacked(unit: str, layers: Any, points: list[Any], counts: list[Any]) -> dict[str, Any]:
    """Only layers in which there is something."""
    present = [each for each in layers if any(count[each[0]] for count in counts)] or layers[:2]
    return {
        "times": _times(points),
        "unit": unit,
        "stacked": True,
        "series": [
            {"label": label, "tone": tone, "values": [count[status] for count in counts]}
            for status, label, tone in present
        ],
    }
