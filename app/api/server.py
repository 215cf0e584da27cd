"""The HTTP server of an API process. It leaves in two steps, so that load balancers lose no request."""

import signal
import time
from datetime import timedelta
from types import FrameType

import uvicorn
from fastapi import FastAPI


class Server(uvicorn.Server):
    """After SIGTERM it says that it is not ready and goes on for `notice`; then it stops to listen and
    finishes what is in flight. A second signal, and SIGINT, end the notice."""

    def __init__(self, config: uvicorn.Config, application: FastAPI, notice: timedelta) -> None:
        super().__init__(config)
        self._application = application
        self._notice = notice.total_seconds()
        self._leave_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._application.state.is_stopping = True
        if sig == signal.SIGTERM and self.started and self._leave_at is None:
            self._leave_at = time.monotonic() + self._notice
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._leave_at is not None and not self.should_exit and time.monotonic() >= self._leave_at:
            super().handle_exit(signal.SIGTERM, None)
        return await super().on_tick(counter)
