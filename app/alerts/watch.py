"""Looks, in the worker, whether the sources of an environment have something to alert about
(`app/alerts/store.py`)."""

import asyncio
import logging
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.alerts.store import make_due_alerts

logger = logging.getLogger(__name__)


class AlertWatch:
    """Looks at one environment's sources. Every worker does: Postgres lets one of them alert."""

    def __init__(self, environment: str, *, engine: AsyncEngine, base_url: str, interval: timedelta) -> None:
        self._environment = environment
        self._engine = engine
        self._base_url = base_url
        self._interval = interval

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                if made := await make_due_alerts(self._engine, self._environment, self._base_url):
                    logger.info("alerts", extra={"environment": self._environment, "made": made})
            except (SQLAlchemyError, OSError) as error:
                logger.warning(
                    "alert_watch_waits",
                    extra={"environment": self._environment, "error": type(error).__name__},
                )
            except Exception:
                # A watch that ends would be noticed when it is too late.
                logger.exception("alert_watch_failed", extra={"environment": self._environment})
            await asyncio.sleep(self._interval.total_seconds())
