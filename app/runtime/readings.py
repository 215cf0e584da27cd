"""What metrics read from Postgres when somebody asks, and not again for a while."""

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

KEPT = 15.0
TIMEOUT = 3.0


class Reading(ABC, Generic[Found]):
    """The last reading, for `KEPT` seconds. Callers at the same time share one."""

    # What the process logs when it cannot be read.
    unreadable: str

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = asyncio.Lock()
        self._found: Found | None = None
        self._until = 0.0

    async def read(self) -> Found | None:
        """What was found; None when Postgres does not answer."""
        async with self._reading:
            clock = asyncio.get_running_loop().time
            if clock() >= self._until:
                self._found = await self._read()
                self._until = clock() + KEPT
            return self._found

    async def _read(self) -> Found | None:
        try:
            async with asyncio.timeout(TIMEOUT), self._engine.connect() as connection:
                return await self._find(connection)
        except (SQLAlchemyError, OSError) as error:
            logger.warning(self.unreadable, extra={"error": type(error).__name__})
            return None

    @abstractmethod
    async def _find(self, connection: AsyncConnection) -> Found:
        """Read it."""
