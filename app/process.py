"""The life of a process: signals ask it to stop, and it leaves without finalising the interpreter."""

import asyncio
import logging
import os
import signal
import sys
from typing import NoReturn


def stop_requested() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Call it on the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return stop


def leave(code: int) -> NoReturn:
    """Flush and exit, without finalising the interpreter.

    Temporal's native bridge may abort there, after all work is done (temporalio/sdk-python issue 300), and turn
    a clean exit into code 134 or 139. Call it last, when workers and clients are shut down.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
