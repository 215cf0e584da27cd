"""Postgres NOTIFY, delivered to callbacks: one connection for each process, reopened when it breaks.

A notification may be missed while the connection is away, so every subscriber is called after a reconnect,
and whoever subscribes also looks on a timer.
"""

import asyncio
import logging
from collections.abc import Callable

import psycopg
from psycopg import sql

from app.core.outages import Outage
from app.core.settings import Settings

logger = logging.getLogger(__name__)

RECONNECT_AFTER = 1.0


class Listener:
    """Calls the subscribers of a channel and payload, on the event loop, for each notification."""

    def __init__(self, settings: Settings) -> None:
        self._url = (settings.database_url or "").replace("postgresql+psycopg://", "postgresql://", 1)
        self._subscribers: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._outage = Outage(logger, "listener_disconnected")

    def subscribe(self, channel: str, callback: Callable[[], None], payload: str = "") -> None:
        """Call `callback` for notifications on `channel` with this payload. Subscribe before `run`."""
        self._subscribers.setdefault((channel, payload), []).append(callback)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                self._outage.goes_on(error=str(error))
            await asyncio.sleep(RECONNECT_AFTER)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=5)
        # Not `async with`: it rolls back first. A task that is cancelled again then leaves it open.
        try:
            for channel in {channel for channel, _ in self._subscribers}:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self._outage.is_over()
            for key in self._subscribers:
                self._call(key)
            async for notification in connection.notifies():
                self._call((notification.channel, notification.payload))
        finally:
            await connection.close()

    def _call(self, key: tuple[str, str]) -> None:
        for callback in self._subscribers.get(key, ()):
            callback()
