"""The process that runs scripts for `app/scripting/pool.py`, one call after another, each in a fresh QuickJS
context.

Started as a file by an isolated Python, so that it imports nothing of Doorbell and knows nothing of its
settings. Requests and answers go over standard input and output: four bytes of length, then JSON. A call that
no limit inside QuickJS stops ends the whole process by a signal of the kernel's timer; the parent starts
another one.

The first thing to come is the engine's machine code, or nothing; the first to go, after `{"ready": true}`, is
that code if this process compiled it. It goes before any script runs: no script has a say in what the next
process runs.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import quickjs_rs._engine as quickjs
import quickjs_rs._wasmtime as artifacts
import wasmtime
from quickjs_rs import Context, DeadlockError, Handle, JSError, MemoryLimitError, QuickJSError, Runtime
from quickjs_rs import TimeoutError as ScriptTimeout

MEMORY_LIMIT = 32 * 1024 * 1024
# What WebAssembly itself takes beside the script's heap: the engine's code tables and stack.
WASM_MEMORY_LIMIT = MEMORY_LIMIT + 8 * 1024 * 1024
STACK_LIMIT = 512 * 1024
CONSOLE_LINES = 100
CONSOLE_LENGTH = 16 * 1024
MESSAGE_LENGTH = 500
# How much longer than the limit a call may take that QuickJS does not interrupt, before the process ends.
GRACE = 0.25
# Seconds that QuickJS takes at most to find that no job is left, well under those for a full round of jobs.
NOTHING_LEFT = 0.02

PRELUDE = Path(__file__).with_name("prelude.js").read_text()
# The engine has one name for all modules: lines of a script that is one come after those of the prelude.
PRELUDE_LINES = PRELUDE.count("\n") + 1
_LINE = re.compile(r"(eval_script|<module>):(\d+)")

Answer = dict[str, Any]
WARM_UP: Answer = {
    "source": "async function main() { return { verified: true }; }",
    "input": '{"rawBody": "{}"}',
    "received_at": 0,
    "time_limit": 30.0,
    "output_limit": 1024,
}


class Failure(Exception):
    """A script that has no result: the error's name and message, and the line of the script if it is
    known."""

    def __init__(self, name: str, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.message = message[:MESSAGE_LENGTH]
        self.line = line


class Console:
    """What a script logged, up to a limit."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._left = CONSOLE_LENGTH

    def log(self, line: str) -> None:
        if len(self.lines) == CONSOLE_LINES or self._left <= 0:
            return
        self.lines.append(line[: self._left])
        self._left -= len(line) + 1

    def take(self) -> list[str]:
        """What was logged since the last time."""
        lines, self.lines, self._left = self.lines, [], CONSOLE_LENGTH
        return lines


class Script:
    """A script in a context of its own."""

    def __init__(self, request: Answer, console: Console, runner: asyncio.Runner) -> None:
        self._request = request
        self._runner = runner
        self._runtime = Runtime(memory_limit=MEMORY_LIMIT, stack_limit=STACK_LIMIT)
        self._context = self._runtime.new_context(timeout=request["time_limit"])
        # quickjs-rs has no option for it, and its own limit does not count array buffers.
        self._context._engine_ctx._inst.store.set_limits(memory_size=WASM_MEMORY_LIMIT)
        self._call = _prepare(self._context, request["received_at"], console)
        self._is_evaluated = False
        self._main: Handle | None = None

    def call(self, *given: str | None) -> str:
        """The result of `main` as JSON text; the script itself is evaluated first.

        Raises:
            Failure: there is none.
        """
        deadline = time.monotonic() + self._request["time_limit"]
        try:
            if not self._is_evaluated:
                self._main = _evaluate(self._context, self._request["source"])
                self._is_evaluated = True
            message, event = (*given, None)[:2]
            text = _settled(self._call.call(message, event, self._main), self._runner, deadline)
        except (QuickJSError, wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise _failure(error, self._context, self._request["time_limit"]) from None
        return _checked(text, self._request["output_limit"])

    def close(self) -> None:
        """Free its memory."""
        self._context.close()
        self._runtime.close()


def run(request: Answer, runner: asyncio.Runner) -> Answer:
    """Run a script: its result as JSON text or its error, and what it logged. For several events of one
    delivery, as many of them as the time limit of one allows, and at least one."""
    if "events" not in request:
        return _run_once(request, (request["input"],), runner)
    began = time.monotonic()
    runs: list[Answer] = []
    console = Console()
    script = Script(request, console, runner)
    try:
        for event in request["events"]:
            if runs and time.monotonic() - began > request["time_limit"]:
                break
            signal.setitimer(signal.ITIMER_REAL, request["time_limit"] + GRACE)
            runs.append(_answer(script, (request["input"], event), console))
            if runs[-1]["error"] is not None:
                # What stopped it may have left the context in any state.
                script.close()
                script = Script(request, console, runner)
    finally:
        script.close()
    return {"runs": runs}


def _run_once(request: Answer, given: tuple[str | None, ...], runner: asyncio.Runner) -> Answer:
    console = Console()
    script = Script(request, console, runner)
    try:
        return _answer(script, given, console)
    finally:
        script.close()


def _answer(script: Script, given: tuple[str | None, ...], console: Console) -> Answer:
    result, error = None, None
    try:
        result = script.call(*given)
    except Failure as failure:
        error = {"name": failure.name, "message": failure.message, "line": failure.line}
    return {"result": result, "error": error, "console": console.take()}


def _prepare(context: Context, received_at: int, console: Console) -> Handle:
    """Give the context its helpers and its clock; the function that calls `main`."""
    functions = {**HOST_FUNCTIONS, "log": console.log}
    # One function for all: each that is registered costs a quarter of a millisecond.
    context.register("host", lambda name, *arguments: functions[name](*arguments))
    return context.eval_handle(PRELUDE, module=True).get("default").call(received_at)


def _evaluate(context: Context, source: str) -> Handle | None:
    """Evaluate a script. Its main, unless that is a global function: a module exports it, and a script that
    returns at its top is the body of one that takes `event`."""
    try:
        context.eval(source)
    except JSError as error:
        if error.name == "SyntaxError" and error.message.startswith("unsupported keyword: export"):
            return _exported(context.eval_handle("\n" * PRELUDE_LINES + source, module=True))
        if error.name == "SyntaxError" and error.message.startswith("return not in a function"):
            return context.eval_handle(f"(async (event) => {{{source}\n}})")
        raise
    return None


def _exported(module: Handle) -> Handle | None:
    """The function `main` of a module, else its default."""
    for name in ("main", "default"):
        found = module.get(name)
        if found.type_of == "function":
            return found
    return None


def _settled(promise: Handle, runner: asyncio.Runner, deadline: float) -> str:
    """The value of a promise. QuickJS runs a bounded number of jobs at a time: it goes on while there are
    some."""
    while True:
        began = time.monotonic()
        try:
            text: str = runner.run(promise.await_promise(timeout=max(deadline - began, 0.001))).to_python()
            return text
        except DeadlockError:
            ended = time.monotonic()
            if ended >= deadline:
                # An interrupted async function leaves its promise unsettled.
                raise ScriptTimeout from None
            if ended - began < NOTHING_LEFT:
                raise


def _checked(text: str, limit: int) -> str:
    """The result when it is one; the prelude says `"main"` and `"output"` for what is wrong with it."""
    if text == '"main"':
        raise Failure("MainMissing", "the script has no function main")
    if text == '"output"':
        raise Failure("InvalidOutput", "main must return an object, for example { verified: true }")
    if (length := len(text.encode())) > limit:
        raise Failure("OutputTooLarge", f"main returned {length} bytes of JSON, allowed are {limit}")
    return text


def _failure(error: Exception, context: Context, time_limit: float) -> Failure:
    """What stopped a script, by the limit's name or by JavaScript's own."""
    if isinstance(error, ScriptTimeout):
        return Failure("TimeLimitExceeded", f"the script ran longer than {time_limit * 1000:.0f} ms")
    if isinstance(error, DeadlockError):
        return Failure("PromiseNeverSettled", "main waits for a promise that nothing settles")
    if isinstance(error, wasmtime.Trap | wasmtime.WasmtimeError):
        return Failure("StackLimitExceeded", "the script calls itself too deeply")
    if isinstance(error, MemoryLimitError) or _is_out_of_memory(error, context):
        return Failure("MemoryLimitExceeded", f"the script needs more than {MEMORY_LIMIT // 2**20} MB")
    if isinstance(error, JSError):
        return Failure(error.name[:100], error.message, _line_of(error.stack or ""))
    return Failure("InvalidOutput", f"main returned what is not JSON ({error})")


def _line_of(stack: str) -> int | None:
    """The line of the script that an error comes from."""
    for kind, number in _LINE.findall(stack):
        line = int(number) - (PRELUDE_LINES if kind == "<module>" else 0)
        if line > 0:
            return line
    return None


def _is_out_of_memory(error: Exception, context: Context) -> bool:
    """Whether memory ran out so far that QuickJS could not make the error that says so, and threw null."""
    threw_null = isinstance(error, JSError) and error.message in ("", "null", "out of memory")
    return threw_null and context._engine_ctx._inst._mem_size() > MEMORY_LIMIT * 0.75


def _digest(algorithm: str, data: bytes) -> bytes:
    return hashlib.new(algorithm.replace("-", ""), data).digest()


def _hmac(algorithm: str, key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, algorithm.replace("-", ""))


def _decode(data: bytes, fatal: bool) -> str | None:
    try:
        return data.decode("utf-8", "strict" if fatal else "replace")
    except UnicodeDecodeError:
        return None


def _unbase64(text: str) -> bytes | None:
    """Bytes of base64 in either alphabet, padded or not."""
    compact = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None


HOST_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "digest": _digest,
    "hmac": _hmac,
    "equal": hmac.compare_digest,
    "random": os.urandom,
    "encode": str.encode,
    "decode": _decode,
    "base64": lambda data: base64.b64encode(data).decode(),
    "unbase64": _unbase64,
}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the parent is gone."""
    is_compiled = _load_engine(_receive(requests) or b"")
    with asyncio.Runner() as runner:
        # The first run compiles the engine, unless it is loaded: no script should pay for that.
        _write(answers, {"ready": run(WARM_UP, runner)["error"] is None})
        _send(answers, b"" if is_compiled else quickjs._quickjs_artifact().module.serialize())
        while (request := _read(requests)) is not None:
            signal.setitimer(signal.ITIMER_REAL, request["time_limit"] + GRACE)
            answer = run(request, runner)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _write(answers, answer)


def _load_engine(code: bytes) -> bool:
    """Take the engine as another process compiled it; False when there is none, or it is of another
    version."""
    # quickjs-rs compiles it for each process; to keep it is not among its options.
    engine = artifacts.shared_wasmtime_engine()
    with suppress(wasmtime.WasmtimeError):
        artifacts._SHARED_ARTIFACTS["quickjs"] = artifacts.SharedWasmArtifact(
            module=wasmtime.Module.deserialize(engine, code),
            linker=quickjs._build_shared_linker(engine),
            build_id=hashlib.sha256(quickjs._read_guest_wasm()).digest(),
        )
        return True
    return False


def _read(stream: BinaryIO) -> Answer | None:
    data = _receive(stream)
    request: Answer | None = None if data is None else json.loads(data)
    return request


def _write(stream: BinaryIO, answer: Answer) -> None:
    _send(stream, json.dumps(answer, separators=(",", ":")).encode())


def _receive(stream: BinaryIO) -> bytes | None:
    header = stream.read(4)
    return stream.read(struct.unpack(">I", header)[0]) if len(header) == 4 else None


def _send(stream: BinaryIO, data: bytes | bytearray) -> None:
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def main() -> None:
    """Take the pipes for ourselves, warm the engine up, and serve."""
    # Ctrl-C in a terminal reaches every process of the group: the parent ends us by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
