"""The process that renders templates for `app/scripting/templates.py`, one call after another.

Requests and answers go over standard input and output: four bytes of length, then JSON. A call that takes
more CPU than it may ends the whole process, by a signal of the kernel's timer; so does one that needs more
memory. The parent starts another one.
"""

import gc
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

import orjson

from app.core import exact_json
from app.core.errors import InvalidTemplate, Permanent
from app.scripting import liquid, markup

# Seconds of CPU for all that one call is asked for.
CPU_LIMIT = 1.0
# Address space, of which Python and what it has loaded take 60 MB.
MEMORY_LIMIT = 320 * 1024 * 1024
OUTPUT_LIMIT = 4 * 1024 * 1024

Json = dict[str, Any]


class OutOfMemory(Exception):
    """The call needs more memory than the process has: what is left of it is not relied on."""


def answer(request: bytes) -> bytes:
    """The answer to a request: a result, or why there is none.

    Raises:
        OutOfMemory: the process has to end, after an answer that says so.
    """
    try:
        asked: Json = exact_json.loads(request)
        result = _KINDS[asked["kind"]](asked)
        found = orjson.dumps({"result": result})
    except Permanent as error:
        return orjson.dumps({"error": str(error)})
    except MemoryError:
        raise OutOfMemory from None
    if len(found) > OUTPUT_LIMIT:
        return orjson.dumps({"error": f"the result has more than {OUTPUT_LIMIT // 2**20} MB"})
    return found


def _render(asked: Json) -> list[str]:
    """Texts of templates. The data is at the top of the scope too, below the names that are there."""
    scope = {**(asked["scope"].get("data") or {}), **asked["scope"]}
    return [liquid.render(source, scope, html=html) for source, html in asked["templates"]]


def _check(asked: Json) -> list[str | None]:
    """What is wrong with each of these templates."""
    return [_problem(source) for source in asked["templates"]]


def _problem(source: str) -> str | None:
    try:
        liquid.parse(source)
    except InvalidTemplate as error:
        return str(error)
    return None


_KINDS: dict[str, Callable[[Json], Any]] = {
    "render": _render,
    "check": _check,
    "markdown": lambda asked: markup.html_of(asked["text"]),
    "text": lambda asked: markup.text_of(asked["text"]),
}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the parent is gone."""
    while len(header := requests.read(4)) == 4:
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT)
        try:
            found = answer(requests.read(struct.unpack(">I", header)[0]))
        except OutOfMemory:
            _send(answers, b'{"error":"needs more than %d MB of memory"}' % (MEMORY_LIMIT // 2**20))
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(answers, found)
        gc.collect()


def _send(stream: BinaryIO, data: bytes) -> None:
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def main() -> None:
    """Take the pipes for ourselves, warm up, and serve."""
    # Ctrl-C in a terminal reaches every process of the group: the parent ends us by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # macOS knows this limit by name only.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    markup.html_of("")
    # Collecting between calls is enough, and during one it would take much of its time.
    gc.disable()
    gc.freeze()
    _send(answers, b"")
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
