"""What Prometheus gets from a process: its own metrics (`app/runtime/metrics.py`), how much waits in the
event log, and the metrics of the Temporal SDK, all at /metrics of DOORBELL_METRICS_PORT.

The SDK's core serves its metrics itself, in Rust, on a port of loopback that only this module reads: counting
them costs Python nothing, and one address gives everything.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPException
from importlib.metadata import version
from urllib.request import urlopen

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.runtime import metrics, sdk_metrics
from app.runtime.backlog import Backlog, Waiting
from app.runtime.resources import Runtime
from app.runtime.side_server import serve_beside
from app.runtime.upkeep import Upkeep, UpkeepState

logger = logging.getLogger(__name__)

TIMEOUT = 2.0


@asynccontextmanager
async def serve_metrics(runtime: Runtime, *, with_backlog: bool = False) -> AsyncIterator[None]:
    """Count, and serve /metrics, when DOORBELL_METRICS_PORT is set. `with_backlog`: read from
    Postgres what waits, and how the tables are looked after.

    API processes report both: they are up when no worker is.
    """
    settings = runtime.settings
    if settings.metrics_port is None:
        yield
        return
    _watch(runtime)
    app = _application(runtime, with_backlog=with_backlog)
    async with serve_beside(app, settings.metrics_host, settings.metrics_port, "DOORBELL_METRICS_PORT"):
        with metrics.counting(sources=settings.metrics_max_sources):
            yield


def _application(runtime: Runtime, *, with_backlog: bool) -> Starlette:
    backlog, upkeep = Backlog(runtime.engine), Upkeep(runtime.engine)

    async def scrape(request: Request) -> Response:
        if with_backlog:
            _set_backlog(runtime, await backlog.read())
            _set_upkeep(await upkeep.read())
        return Response(
            generate_latest(metrics.REGISTRY) + await asyncio.to_thread(_of_sdk),
            media_type=CONTENT_TYPE_PLAIN_0_0_4,
        )

    return Starlette(routes=[Route("/metrics", scrape)])


def _watch(runtime: Runtime) -> None:
    pool = runtime.engine.sync_engine.pool
    metrics.BUILD.labels(version("doorbell")).set(1)
    metrics.CONFIGURATION_AGE.set_function(lambda: runtime.configuration.age)
    metrics.POOL.labels("in_use").set_function(lambda: pool.checkedout())  # type: ignore[attr-defined]
    metrics.POOL.labels("idle").set_function(lambda: pool.checkedin())  # type: ignore[attr-defined]
    metrics.POOL_LIMIT.set(runtime.settings.database_pool_size)


def _set_backlog(runtime: Runtime, found: dict[str, Waiting] | None) -> None:
    """Say 0 where nothing waits, and nothing when Postgres does not say: an old figure would be taken for a
    new one."""
    gauges = (
        metrics.BACKLOG,
        metrics.BACKLOG_AGE,
        metrics.WAITING_FOR_EARLIER,
        metrics.PROCESSING,
        metrics.OVERDUE,
    )
    for gauge in gauges:
        gauge.clear()
    if found is None:
        return
    for environment in {*runtime.configuration.environments(), *found}:
        waiting = found.get(environment, Waiting())
        values = (
            waiting.received,
            waiting.oldest,
            waiting.for_earlier,
            waiting.processing,
            waiting.overdue,
        )
        for gauge, value in zip(gauges, values, strict=True):
            gauge.labels(environment).set(value)


def _set_upkeep(found: UpkeepState | None) -> None:
    """Say nothing of the partitions when Postgres does not answer."""
    for gauge in (metrics.PARTITIONS_AHEAD, metrics.DEFAULT_ROWS):
        gauge.clear()
    if found is None:
        return
    for table, days in found.days_ahead.items():
        metrics.PARTITIONS_AHEAD.labels(table).set(days)
        metrics.DEFAULT_ROWS.labels(table).set(found.default_rows[table])
    if found.maintained_at is not None:
        metrics.MAINTAINED_AT.set(found.maintained_at.timestamp())


def _of_sdk() -> bytes:
    """The metrics of the Temporal SDK, when this process has a client of it."""
    url = sdk_metrics.url()
    if url is None:
        return b""
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:
            metrics_of_sdk: bytes = answer.read()
    except (OSError, HTTPException) as error:
        logger.warning("sdk_metrics_unreadable", extra={"error": type(error).__name__})
        return b""
    return metrics_of_sdk
