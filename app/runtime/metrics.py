"""What this process counts and measures, for Prometheus. One registry a process; `app/runtime/scrape.py`
serves it.

Code on the way of an event calls one function here a time. They do nothing unless the process has
DOORBELL_METRICS_PORT. Labels have few values, whatever events hold: docs/observability.md lists all.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from app.core.errors import Permanent, Refused, Retryable
from app.models.status import ActionStatus, EventStatus, ReceivedThrough
from app.models.types import now
from app.sources.live import Endpoint

# A series more for each counter, that nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
OTHER = "other"
UNKNOWN = "unknown"

# A sender waits for the answer; a few milliseconds are usual.
_EDGE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CALL = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
# An event takes milliseconds, or the days that its destination is down.
_EVENT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400)
_BATCH = (1, 2, 5, 10, 20, 50, 100, 200, 500)

BUILD = Gauge(
    "doorbell_build_info", "Always 1; the label says which version runs.", ["version"], registry=REGISTRY
)
ACCEPTED = Counter(
    "doorbell_events_accepted_total",
    "Events that were committed to the event log.",
    ["environment", "source", "through"],
    registry=REGISTRY,
)
REJECTED = Counter(
    "doorbell_requests_rejected_total",
    "Requests of senders that were refused, by the code of the answer.",
    ["environment", "source", "reason"],
    registry=REGISTRY,
)
ACCEPT_DURATION = Histogram(
    "doorbell_accept_duration_seconds",
    "From an event's receipt, its body read, to its commit.",
    ["environment"],
    buckets=_EDGE,
    registry=REGISTRY,
)
BATCH_EVENTS = Histogram(
    "doorbell_inbox_batch_events",
    "Rows that one statement wrote to the event log.",
    buckets=_BATCH,
    registry=REGISTRY,
)
QUEUED_EVENTS = Gauge(
    "doorbell_inbox_queued_events", "Events that wait for their commit in this process.", registry=REGISTRY
)
QUEUED_BYTES = Gauge(
    "doorbell_inbox_queued_bytes",
    "Bytes of the events that wait, or are being written.",
    registry=REGISTRY,
)
BACKLOG = Gauge(
    "doorbell_backlog_events",
    "Events in the event log that no worker has claimed; at most 100,000 of a source are counted.",
    ["environment"],
    registry=REGISTRY,
)
BACKLOG_AGE = Gauge(
    "doorbell_backlog_oldest_age_seconds",
    "Since when the oldest of them waits; 0 when none does.",
    ["environment"],
    registry=REGISTRY,
)
WAITING_FOR_EARLIER = Gauge(
    "doorbell_events_waiting_for_earlier",
    "Events of the backlog that wait for an earlier one of their ordering key; at most 100,000 are counted.",
    ["environment"],
    registry=REGISTRY,
)
PROCESSING = Gauge(
    "doorbell_events_processing",
    "Events that were claimed and have no outcome yet; at most 100,000 are counted.",
    ["environment"],
    registry=REGISTRY,
)
OVERDUE = Gauge(
    "doorbell_events_overdue",
    "Those of them whose lease ran out over a minute ago and that no worker looks after.",
    ["environment"],
    registry=REGISTRY,
)
PARTITIONS_AHEAD = Gauge(
    "doorbell_partitions_ahead_days",
    "Days in a row, today the first, for which a table has partitions; 8 after each maintenance.",
    ["table"],
    registry=REGISTRY,
)
DEFAULT_ROWS = Gauge(
    "doorbell_default_partition_rows",
    "Rows of days that had no partition when they came; at most 100,000 are counted.",
    ["table"],
    registry=REGISTRY,
)
MAINTAINED_AT = Gauge(
    "doorbell_maintenance_success_timestamp_seconds",
    "When the last hourly maintenance succeeded, in seconds since 1970.",
    registry=REGISTRY,
)
CLAIM_DELAY = Histogram(
    "doorbell_claim_delay_seconds",
    "From an event's receipt to its first claim by a worker.",
    ["environment"],
    buckets=_EVENT,
    registry=REGISTRY,
)
DISPATCHED = Counter(
    "doorbell_events_dispatched_total",
    "Workflows that were started for events.",
    ["environment"],
    registry=REGISTRY,
)
IN_FLIGHT = Gauge(
    "doorbell_events_in_flight",
    "Events that hold a slot of this worker's dispatcher.",
    ["environment"],
    registry=REGISTRY,
)
IN_FLIGHT_LIMIT = Gauge(
    "doorbell_events_in_flight_limit", "How many slots it has.", ["environment"], registry=REGISTRY
)
FINISHED = Counter(
    "doorbell_events_finished_total",
    "Events that got their outcome; `ignored` ones had no active mapping.",
    ["environment", "source", "outcome"],
    registry=REGISTRY,
)
EVENT_DURATION = Histogram(
    "doorbell_event_duration_seconds",
    "From an event's receipt to its recorded outcome, a few milliseconds after its last action.",
    ["environment", "outcome"],
    buckets=_EVENT,
    registry=REGISTRY,
)
ACTIONS = Counter(
    "doorbell_actions_finished_total",
    "Actions that got their outcome.",
    ["environment", "action_type", "outcome"],
    registry=REGISTRY,
)
RETRIES = Counter(
    "doorbell_action_retries_total",
    "Attempts after which an action is tried again, by the reason.",
    ["environment", "action_type", "reason"],
    registry=REGISTRY,
)
CALLS = Counter(
    "doorbell_destination_calls_total",
    "Calls to the destination, by the class of their status, or by what failed.",
    ["environment", "action_type", "status"],
    registry=REGISTRY,
)
CALL_DURATION = Histogram(
    "doorbell_destination_call_duration_seconds",
    "How long the destination took for a call.",
    ["environment", "action_type"],
    buckets=_CALL,
    registry=REGISTRY,
)
RATE_LIMIT_WAIT = Histogram(
    "doorbell_rate_limit_wait_seconds",
    "How long a call waited for its turn under the destination's rate limit, or until it was sent away.",
    ["environment", "action_type"],
    buckets=_EDGE,
    registry=REGISTRY,
)
CONFIGURATION_AGE = Gauge(
    "doorbell_configuration_age_seconds",
    "How long ago this process read its configuration from Postgres.",
    registry=REGISTRY,
)
POOL = Gauge(
    "doorbell_database_pool_connections",
    "Connections of this process to Postgres, in use or idle.",
    ["state"],
    registry=REGISTRY,
)
POOL_LIMIT = Gauge("doorbell_database_pool_limit", "How many of them there may be.", registry=REGISTRY)
ProcessCollector(registry=REGISTRY)


class Received(Protocol):
    """A row of the event log that is being written."""

    @property
    def environment(self) -> str: ...
    @property
    def source_key(self) -> str: ...
    @property
    def status(self) -> EventStatus: ...
    @property
    def received_at(self) -> datetime: ...
    @property
    def received_through(self) -> ReceivedThrough: ...


class _Names:
    """A label's values: the first so many that come keep their name, later ones share `other`."""

    def __init__(self) -> None:
        self._limit, self._known = 0, set[str]()

    def allow(self, limit: int) -> None:
        self._limit = limit
        self._known.clear()

    def __call__(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name


_source, _environment = _Names(), _Names()
_is_on = False


@contextmanager
def counting(*, sources: int) -> Iterator[None]:
    """Count while the block runs. `sources` and as many environments get a name of their own in labels."""
    global _is_on
    _source.allow(sources)
    _environment.allow(sources)
    _is_on = True
    try:
        yield
    finally:
        _is_on = False


def count_received(events: Sequence[Received]) -> None:
    """Events of one statement are in the event log."""
    if not _is_on:
        return
    BATCH_EVENTS.observe(len(events))
    moment, accepted = now(), Tally[tuple[str, str, str]]()
    for each in events:
        if each.status is EventStatus.REJECTED:
            continue
        accepted[each.environment, each.source_key, each.received_through.value] += 1
        ACCEPT_DURATION.labels(_environment(each.environment)).observe(
            (moment - each.received_at).total_seconds()
        )
        if each.status is EventStatus.IGNORED:
            count_finished(each.environment, each.source_key, each.status, each.received_at)
    for (environment, source, through), number in accepted.items():
        ACCEPTED.labels(_environment(environment), _source(source), through).inc(number)


def count_rejected(endpoint: Endpoint | None, reason: str) -> None:
    """A request of a sender was refused. No endpoint: its address or key opens nothing."""
    if _is_on and endpoint is None:
        REJECTED.labels(UNKNOWN, UNKNOWN, reason).inc()
    elif _is_on and endpoint is not None:
        REJECTED.labels(_environment(endpoint.environment), _source(endpoint.source_key), reason).inc()


def count_claimed(environment: str, received: Iterable[datetime]) -> None:
    """Events that came at these moments were claimed, each for the first time."""
    if not _is_on:
        return
    moment, delay = now(), CLAIM_DELAY.labels(_environment(environment))
    for each in received:
        delay.observe((moment - each).total_seconds())


def count_dispatched(environment: str) -> None:
    """A workflow was started."""
    if _is_on:
        DISPATCHED.labels(_environment(environment)).inc()


def count_finished(environment: str, source: str, outcome: EventStatus, received_at: datetime) -> None:
    """An event got its outcome."""
    if _is_on:
        name = _environment(environment)
        FINISHED.labels(name, _source(source), outcome.value).inc()
        EVENT_DURATION.labels(name, outcome.value).observe((now() - received_at).total_seconds())


def count_idempotent(environment: str, source: str, number: int) -> None:
    """Events shared the success of another one."""
    if _is_on:
        FINISHED.labels(_environment(environment), _source(source), EventStatus.IDEMPOTENT.value).inc(number)


def count_action(environment: str, action_type: str, outcome: ActionStatus) -> None:
    """An action got its outcome, unless it is still pending."""
    if _is_on and outcome is not ActionStatus.PENDING:
        ACTIONS.labels(_environment(environment), action_type, outcome.value).inc()


def count_gave_up(environment: str, action_types: Iterable[str]) -> None:
    """Temporal stopped retrying actions of these types."""
    if _is_on:
        for each in action_types:
            ACTIONS.labels(_environment(environment), each, "gave_up").inc()


def count_retry(environment: str, action_type: str, reason: str) -> None:
    """An attempt failed, or was not its turn, and the action is tried again."""
    if _is_on:
        RETRIES.labels(_environment(environment), action_type, reason).inc()


@contextmanager
def destination_call(environment: str, action_type: str) -> Iterator[None]:
    """Measure a call to the destination."""
    if not _is_on:
        yield
        return
    began, status = time.perf_counter(), "2xx"
    try:
        yield
    except Retryable as error:
        status = _status_class(error.code)
        raise
    except Refused as error:
        status = _status_class(f"http_{error.status}")
        raise
    except Permanent:
        status = "unreadable"
        raise
    except BaseException:
        # The activity's own time limit, or a worker that stops.
        status = "cancelled"
        raise
    finally:
        name = _environment(environment)
        CALLS.labels(name, action_type, status).inc()
        CALL_DURATION.labels(name, action_type).observe(time.perf_counter() - began)


@contextmanager
def rate_limit_wait(environment: str, action_type: str) -> Iterator[None]:
    """Measure a wait for the destination's rate limit."""
    if not _is_on:
        yield
        return
    began = time.perf_counter()
    try:
        yield
    finally:
        RATE_LIMIT_WAIT.labels(_environment(environment), action_type).observe(time.perf_counter() - began)


def watch_queue(events: Callable[[], float], size: Callable[[], float]) -> None:
    """Read at each scrape how much waits for its commit."""
    if _is_on:
        QUEUED_EVENTS.set_function(events)
        QUEUED_BYTES.set_function(size)


def watch_dispatcher(environment: str, in_flight: Callable[[], float], limit: int) -> None:
    """Read at each scrape how many slots are in use."""
    if _is_on:
        IN_FLIGHT.labels(_environment(environment)).set_function(in_flight)
        IN_FLIGHT_LIMIT.labels(_environment(environment)).set(limit)


def _status_class(code: str) -> str:
    """`http_503` is `5xx`; 429, a connection's end and a time-out keep their name."""
    number = code.removeprefix("http_")
    return number if number == "429" or not number.isdigit() else f"{number[0]}xx"
