"""JavaScript of a source, run in processes of its own (`app/scripting/sandbox.py`), never on the event loop.

`quickjs-rs` runs QuickJS in WebAssembly. Two things keep it out of our own process: its interrupts do not
reach loops inside its native functions (`Array.prototype.indexOf` of an endless array-like), which only the
end of the process stops; and it holds the interpreter for milliseconds at a time, which every other sender
would wait for. The processes start when the first script runs, and hold no secret between calls.
"""

import signal
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from app.core import exact_json
from app.scripting.processes import ProcessEnded, ProcessPool, exchange, receive
from app.scripting.turns import MAXIMUM_WAITING, Busy, Owner

TIME_LIMIT = 0.5
# For all events of one delivery: its sender waits for an answer.
DELIVERY_TIME_LIMIT = 8.0
MAXIMUM_CHUNK = 200
OUTPUT_LIMIT = 256 * 1024
# The process ends itself long before this; it is for one that a debugger or the machine has stopped.
CALL_DEADLINE = 10.0
MASK = "[redacted]"
# Shorter values are part of too many words.
MINIMUM_MASKED_LENGTH = 4
_SANDBOX = Path(__file__).with_name("sandbox.py")
# Machine code, 2 MB, once a process has compiled it: that takes 1.5 s of CPU, which those after it are
# spared.
_engine = b""
# Scripts that no source of an environment has yet.
OWN: Owner = ("", "")


@dataclass(frozen=True)
class ScriptError:
    """Why a script has no result: a JavaScript error by its own name, or the limit that stopped it."""

    name: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line else ""
        return f"{self.name}: {self.message}{where}"


@dataclass(frozen=True)
class ScriptInput:
    """What `main(ctx)` gets. `body` is UTF-8, and `content` the JSON in it, which differs for a form;
    `received_at` is the script's clock."""

    body: bytes
    headers: dict[str, str]
    received_at: datetime
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    # The verdict of the source's own scheme: {"verified": true | false | null, "reason": "..."}.
    verification: dict[str, Any] = field(default_factory=dict)
    content: bytes | None = None

    def to_json(self) -> str:
        context = {
            "vars": self.variables,
            # Bytes that are not UTF-8 may be in a part that is refused.
            "rawBody": self.body.decode(errors="replace"),
            "headers": self.headers,
            "secrets": self.secrets,
            "verification": self.verification,
        }
        if self.content is not None and self.content is not self.body:
            context["content"] = self.content.decode(errors="replace")
        return exact_json.dumps(context).decode()


@dataclass(frozen=True)
class ScriptRun:
    """What a script made of an event. `verified` is None when it did not say; `output` is all else that it
    returned."""

    verified: bool | None = None
    output: dict[str, Any] = field(default_factory=dict)
    console: list[str] = field(default_factory=list)
    error: ScriptError | None = None
    duration_ms: float = 0.0


_OUT_OF_TIME = ScriptRun(
    error=ScriptError(
        "TimeLimitExceeded",
        f"the events of the delivery took longer than {DELIVERY_TIME_LIMIT:.0f} s together: send fewer",
    )
)


class Scripts:
    """The processes of one of ours. Bounded: as many calls at once as `processes`, and a bounded number of
    each source that wait."""

    def __init__(self, processes: int, *, maximum_waiting: int = MAXIMUM_WAITING) -> None:
        self._pool = ProcessPool(
            [str(_SANDBOX)],
            processes,
            prepare=_hand_over_engine,
            deadline=CALL_DEADLINE,
            maximum_waiting=maximum_waiting,
        )

    async def run(self, source: str, given: ScriptInput, owner: Owner = OWN) -> ScriptRun:
        """Call `main` of a script, in a context that knows of no other call. It waits for its owner's turn.

        Raises:
            Busy: too many calls of the owner wait already.
        """
        received_at = int(given.received_at.timestamp() * 1000)
        answer = await self._call(owner, source, given.to_json(), received_at)
        return _run_of(answer)

    async def run_each(
        self, source: str, given: ScriptInput, events: Sequence[bytes], owner: Owner = OWN
    ) -> list[ScriptRun]:
        """Call `main` for each event of a delivery, whose bytes are `given.body`. The calls share a context
        with each other and with nothing else; all of them together have `DELIVERY_TIME_LIMIT`.

        Raises:
            Busy: too many calls of the owner wait already.
        """
        received_at = int(given.received_at.timestamp() * 1000)
        end = time.monotonic() + DELIVERY_TIME_LIMIT
        runs: list[ScriptRun] = []
        while len(runs) < len(events) and time.monotonic() < end:
            chunk = [each.decode() for each in events[len(runs) : len(runs) + MAXIMUM_CHUNK]]
            answer = await self._call(owner, source, given.to_json(), received_at, chunk)
            # An answer without runs is the end of the process, at the first event of the chunk.
            runs += map(_run_of, answer.get("runs", [answer]))
        return [*runs, *(_OUT_OF_TIME for _ in events[len(runs) :])]

    async def check(self, source: str, owner: Owner = OWN) -> ScriptError | None:
        """What keeps a script from running at all: its syntax, its first steps, no function `main`."""
        return _error_of(await self._call(owner, source, None, int(time.time() * 1000)))

    async def warm_up(self) -> None:
        """Have one process ready before the first sender waits for it. That it cannot be is found out
        then."""
        with suppress(Busy):
            await self.check("function main() {}")

    async def close(self) -> None:
        """End all processes."""
        await self._pool.close()

    async def _call(
        self,
        owner: Owner,
        source: str,
        given: str | None,
        received_at: int,
        events: list[str] | None = None,
    ) -> dict[str, Any]:
        request = exact_json.dumps(
            {
                "source": source,
                "input": given,
                "received_at": received_at,
                "time_limit": TIME_LIMIT,
                "output_limit": OUTPUT_LIMIT,
                **({} if events is None else {"events": events}),
            }
        )
        try:
            answer, seconds = await self._pool.call(owner, request)
        except ProcessEnded as ended:
            return {"result": None, "console": [], "error": _ending(ended.code, ended.seconds)}
        return {**exact_json.loads(answer), "duration_ms": seconds * 1000}


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """Text without the secrets that it repeats, so that none is shown by accident."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MINIMUM_MASKED_LENGTH:
            text = text.replace(secret, MASK)
    return text


def _run_of(answer: dict[str, Any]) -> ScriptRun:
    error, output = _error_of(answer), {}
    if error is None:
        try:
            output = exact_json.loads(answer["result"])
            exact_json.dumps(output)
        except (orjson.JSONDecodeError, orjson.JSONEncodeError) as problem:
            # Nested too deep, or with half of a surrogate pair in a text.
            error = ScriptError("InvalidOutput", f"main returned what cannot be stored as JSON: {problem}")
            output = {}
    verified = output.pop("verified", None)
    return ScriptRun(
        verified=None if verified is None else verified is True,
        output=output,
        console=answer["console"],
        error=error,
        duration_ms=round(answer.get("duration_ms", 0.0), 1),
    )


def _error_of(answer: dict[str, Any]) -> ScriptError | None:
    error = answer["error"]
    if error is None:
        return None
    # Postgres has no text with U+0000.
    name, message = (error[part].replace("\x00", "\\u0000") for part in ("name", "message"))
    return ScriptError(name, message, error["line"])


def _ending(code: int | None, seconds: float) -> dict[str, Any]:
    """How the end of the process reads: its own timer ends one that nothing inside could interrupt.

    The clock counts too: asyncio does not learn the code (and says 255) when someone else waited for the
    process.
    """
    if code == -signal.SIGALRM or seconds > TIME_LIMIT:
        message = f"the script ran longer than {TIME_LIMIT * 1000:.0f} ms"
        return {"name": "TimeLimitExceeded", "message": message, "line": None}
    message = f"the process that ran the script ended (code {code})"
    return {"name": "SandboxEnded", "message": message, "line": None}


async def _hand_over_engine(process: Process) -> None:
    """Give a new process the engine as the first one compiled it, and wait until it is ready."""
    global _engine
    await exchange(process, _engine)
    _engine = await receive(process) or _engine
