"""The life of a process: signals ask it to stop, and it leaves without finalising the interpreter."""

import asyncio
import gc
import logging
import os
import signal
import sys
from typing import NoReturn

# Objects made before the collector looks at them (Python's own number is 700), and after how many looks it
# looks at those that survived one, and two.
SELDOM = (5_000, 20, 20)
# For a worker: Temporal's SDK leaves 70 objects and 26 kB of each workflow that ended in a cycle, for the
# collector.
WORKFLOWS = (2_000, 5, 5)


def stop_requested() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Call it on the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return stop


def collect_seldom(thresholds: tuple[int, int, int] = SELDOM) -> None:
    """Keep the garbage collector away from what lives as long as the process. Call it when all is imported.

    Modules, routes and models are hundreds of thousands of objects: each look at them stops the process for
    some hundred milliseconds. A request's and an event's own are freed by their reference counts, or soon,
    when they are in cycles: few of the edge, some 2,000 of a page of the log, whose statement SQLAlchemy
    builds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds)


def leave(code: int) -> NoReturn:
    """Flush and exit, without finalising the interpreter.

    Temporal's native bridge may abort there, after all work is done (temporalio/sdk-python issue 300), and
    turn a clean exit into code 134 or 139. Call it last, when workers and clients are shut down.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
