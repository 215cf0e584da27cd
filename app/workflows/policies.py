"""Timeouts and retry policies, each with its reason. All times are Temporal's: they count from scheduling."""

from datetime import timedelta
from typing import Any

from temporalio.common import RetryPolicy

# A step (verify, map, record) needs Postgres only and takes milliseconds. As a local activity it costs no
# round trip; half a minute of trying spans a restart of Postgres.
LOCAL_STEP: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=10),
    "schedule_to_close_timeout": timedelta(seconds=30),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(milliseconds=200),
        backoff_coefficient=2,
        maximum_interval=timedelta(seconds=5),
    ),
}

# A longer outage is better seen: the step goes on as a regular activity, pending in Temporal's UI with its
# error.
STEP: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=30),
    "schedule_to_close_timeout": timedelta(days=7),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=1)
    ),
}

# The first try of everything, once. It holds a workflow task, of which Temporal allows ten seconds.
FIRST_TRY: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=9),
    "retry_policy": RetryPolicy(maximum_attempts=1),
}

# An action's first try, once: longer than a healthy destination needs, short enough not to hold a workflow
# task.
LOCAL_ACTION: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=5),
    "retry_policy": RetryPolicy(maximum_attempts=1),
}

# From the second try on: longer than the destination client's own timeout, spaced up to five minutes so that
# a destination that returns is found soon and one that is down for days is not worn out.
ACTION: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=30),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=5)
    ),
}

# Between the first try and the second, when the destination names no time.
ACTION_FIRST_BACKOFF = timedelta(seconds=1)

# A hundred changes of a bulk operation, which take a fraction of a second. A database that is away is waited
# for, and the operation is given up before the history of its workflow is.
BULK_CHUNK: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=1),
    "schedule_to_close_timeout": timedelta(days=1),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(milliseconds=200),
        backoff_coefficient=2,
        maximum_interval=timedelta(minutes=1),
    ),
}

# A page of a fan-out takes a fraction of a second: one whose worker died is soon made by another. A trigger
# is worth a week of waiting for the database.
FAN_OUT_PAGE: dict[str, Any] = {
    **BULK_CHUNK,
    "start_to_close_timeout": timedelta(seconds=15),
    "schedule_to_close_timeout": timedelta(days=7),
}

# Twenty events of a replay, which take a fraction of a second without a script. A heartbeat each second shows
# that the worker lives, so that a crash costs seconds.
REPLAY_CHUNK: dict[str, Any] = {**BULK_CHUNK, "heartbeat_timeout": timedelta(seconds=5)}

# A fetch holds up its run: half an hour spans a deployment of the service asked; later its data is stale.
FETCH: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=30),
    "schedule_to_close_timeout": timedelta(minutes=30),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=3, maximum_interval=timedelta(minutes=1)
    ),
}

# An email or a webhook: a day spans most outages, and a message older than that is better not sent at all.
SEND: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=30),
    "schedule_to_close_timeout": timedelta(hours=24),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=5)
    ),
}
