"""Before stage 1 of an event: how many each source may send, as one API process counts it.

A token bucket for each source and environment, in memory. With n API processes a source gets at most n times
its rate: the limit protects the process and its database connections, and needs no round trip to do so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.sources.live import Endpoint


@dataclass
class Bucket:
    """What is left to spend, as of a moment. It holds one second's worth at most, which is the largest
    burst."""

    tokens: float
    filled_at: float

    def spend(self, rate: int, moment: float) -> float:
        """Take a token: 0.0, or the seconds until there is one."""
        self.tokens = min(float(rate), self.tokens + (moment - self.filled_at) * rate)
        self.filled_at = moment
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / rate


class SourceRateLimits:
    """The buckets of this process. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def spend(self, endpoint: Endpoint) -> float:
        """Count one event of a source: 0.0 when it may come in, else the seconds until one may."""
        rate = endpoint.rate_limit_per_second
        if rate is None:
            return 0.0
        moment = self._clock()
        bucket = self._buckets.setdefault(
            (endpoint.environment, endpoint.source_key), Bucket(float(rate), moment)
        )
        return bucket.spend(rate, moment)
