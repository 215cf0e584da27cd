"""A part that others wait for, as the process logs tell of it: when it goes, once a minute meanwhile, when it
is back."""

import logging
import time

SAY_EVERY = 60.0


class Outage:
    """One for each loop that waits for something. `message` names what it does then."""

    def __init__(self, logger: logging.Logger, message: str, **extra: object) -> None:
        self._logger = logger
        self._message = message
        self._extra = extra
        self._began: float | None = None
        self._say_next = 0.0

    def goes_on(self, **extra: object) -> None:
        """It was tried, and in vain."""
        moment = time.monotonic()
        if self._began is None:
            self._began = self._say_next = moment
        if moment >= self._say_next:
            self._say_next = moment + SAY_EVERY
            seconds = round(moment - self._began)
            self._logger.warning(self._message, extra={**self._extra, **extra, "for_seconds": seconds})

    def is_over(self) -> None:
        """It worked."""
        if self._began is not None:
            seconds = round(time.monotonic() - self._began)
            self._began = None
            self._logger.warning(f"{self._message}_no_more", extra={**self._extra, "after_seconds": seconds})
