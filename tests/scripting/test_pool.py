"""Scripts in their sandbox: what they can do, what stops them, and that nothing stays behind."""

import asyncio
import base64
import hashlib
import hmac
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from app.models.types import now
from app.scripting import pool as scripting
from app.scripting.pool import TIME_LIMIT, ScriptInput, ScriptRun, Scripts, mask
from app.scripting.turns import Busy

KEY, TEXT = "kéy", "héllo, wörld \N{GRINNING FACE}"


@pytest.fixture(scope="module")
async def scripts() -> AsyncIterator[Scripts]:
    scripts = Scripts(1)
    yield scripts
    await scripts.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, scripts that are no test of the time limit do not come to it."""
    monkeypatch.setattr(scripting, "TIME_LIMIT", 60.0)
    monkeypatch.setattr(scripting, "CALL_DEADLINE", 120.0)


def given(body: Any = None, **fields: Any) -> ScriptInput:
    raw = body if isinstance(body, bytes) else orjson.dumps(body or {})
    return ScriptInput(**{"body": raw, "headers": {}, "received_at": now(), **fields})


async def output(scripts: Scripts, expression: str, **fields: Any) -> Any:
    """What an expression (which may await) gives inside main."""
    run = await scripts.run(f"async function main(ctx) {{ return {{ x: {expression} }} }}", given(**fields))
    assert run.error is None, run.error
    return run.output["x"]


async def test_main_gets_its_context_and_its_result_is_split(scripts: Scripts) -> None:
    source = """
    const main = async ({ vars, body, rawBody, headers, secrets, verification }) => {
      console.log("seen", body, undefined, new Error("no"));
      const { verified } = verification;
      return { verified: true, all: [vars.A, body.a.b, rawBody, headers["x-y"], secrets, verified] };
    };
    """
    run = await scripts.run(
        source,
        given(
            {"a": {"b": 1}},
            headers={"x-y": "z"},
            variables={"A": "v"},
            secrets=("s",),
            verification={"verified": False, "reason": "r"},
        ),
    )
    assert run.verified is True
    assert run.output == {"all": ["v", 1, '{"a":{"b":1}}', "z", ["s"], False]}
    assert run.console == ['seen {"a":{"b":1}} undefined Error: no']
    assert run.error is None


@pytest.mark.parametrize(
    ("returned", "verified"),
    [("true", True), ("false", False), ("1", False), ("'true'", False), ("null", None), ("undefined", None)],
)
async def test_only_true_verifies(scripts: Scripts, returned: str, verified: bool | None) -> None:
    run = await scripts.run(f"function main() {{ return {{ verified: {returned} }} }}", given())
    assert (run.verified, run.output, run.error) == (verified, {}, None)


@pytest.mark.parametrize("name", ["SHA-1", "SHA-256", "SHA-384", "SHA-512"])
async def test_web_crypto_agrees_with_python(scripts: Scripts, name: str) -> None:
    source = """
    async function main({ body: { name, key, text } }) {
      const bytes = (text) => new TextEncoder().encode(text);
      const algorithm = { name: "HMAC", hash: name };
      const imported = await crypto.subtle.importKey("raw", bytes(key), algorithm, false, ["sign", "verify"]);
      const signature = await crypto.subtle.sign("HMAC", imported, bytes(text));
      return {
        digest: toHex(await crypto.subtle.digest({ name }, bytes(text))),
        signature: toHex(signature),
        genuine: await crypto.subtle.verify("HMAC", imported, signature, bytes(text)),
        forged: await crypto.subtle.verify(
          "HMAC", imported, new Uint8Array(signature).map((b) => b ^ 1), bytes(text)),
        short: await crypto.subtle.verify(
          "HMAC", imported, new Uint8Array(signature).subarray(1), bytes(text)),
        helpers: [hash(name, text), hmac(name, key, text), hmac(name, bytes(key), bytes(text), "base64")],
      };
    }
    """
    run = await scripts.run(source, given({"name": name, "key": KEY, "text": TEXT}))
    algorithm = name.replace("-", "").lower()
    digest = hashlib.new(algorithm, TEXT.encode()).hexdigest()
    signed = hmac.digest(KEY.encode(), TEXT.encode(), algorithm)
    assert run.error is None
    assert run.output == {
        "digest": digest,
        "signature": signed.hex(),
        "genuine": True,
        "forged": False,
        "short": False,
        "helpers": [digest, signed.hex(), base64.b64encode(signed).decode()],
    }


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("toBase64(ctx.body.t)", base64.b64encode(TEXT.encode()).decode()),
        (f"new TextDecoder().decode(fromBase64('{base64.b64encode(TEXT.encode()).decode()}'))", TEXT),
        ("[...fromBase64('_-8')]", [0xFF, 0xEF]),
        ("[...fromHex('00fF')]", [0, 255]),
        ("toHex(new TextEncoder().encode('\\ud800'))", "efbfbd"),
        ("[atob('aGk='), btoa('hi')]", ["hi", "aGk="]),
        ("new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61, 0xff]))", "a\ufffd"),
        (
            "[timingSafeEqual('é', 'é'), timingSafeEqual('a', 'b'), timingSafeEqual(undefined, undefined)]",
            [True, False, False],
        ),
        ("crypto.getRandomValues(new Uint8Array(8)).length", 8),
        ("/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]/.test(crypto.randomUUID())", True),
        ("[typeof host, typeof setTimeout, typeof fetch, typeof process, typeof require]", ["undefined"] * 5),
    ],
)
async def test_helpers(scripts: Scripts, expression: str, value: Any) -> None:
    assert await output(scripts, expression, body=orjson.dumps({"t": TEXT})) == value


async def test_the_clock_stands_at_the_receipt(scripts: Scripts) -> None:
    moment = now()
    milliseconds = int(moment.timestamp() * 1000)
    expression = "[Date.now(), new Date().getTime(), new Date(5).getTime(), new Date() instanceof Date]"
    assert await output(scripts, expression, received_at=moment) == [milliseconds, milliseconds, 5, True]


@pytest.mark.parametrize(
    ("source", "name", "line"),
    [
        ("function main() {\n while (true);\n}", "TimeLimitExceeded", None),
        ("while (true);", "TimeLimitExceeded", None),
        ("async function main() { while (true) await null }", "TimeLimitExceeded", None),
        ("function main() { return { get verified() { while (true); } } }", "TimeLimitExceeded", None),
        ("function main() { /(a+)+$/.test('a'.repeat(60) + 'b'); return {} }", "TimeLimitExceeded", None),
        # Loops inside the engine's own functions, which it does not interrupt.
        ("function main() { [].indexOf.call({ length: 2 ** 52 }, 1) }", "TimeLimitExceeded", None),
        (
            "function main() { const a = []; while (true) a.push(new Array(1e4).fill(1)) }",
            "MemoryLimitExceeded",
            None,
        ),
        (
            "function main() { const a = []; while (true) a.push(new Uint8Array(1e6)) }",
            "MemoryLimitExceeded",
            None,
        ),
        ("function main() { return main() + 1 }", "StackLimitExceeded", None),
        ("function main() { return JSON.parse('['.repeat(1e6)) }", "StackLimitExceeded", None),
        ("function main() { return new Promise(() => {}) }", "PromiseNeverSettled", None),
        ("function main() { return { x: 'a'.repeat(300000) } }", "OutputTooLarge", None),
        ("function main() { return 5 }", "InvalidOutput", None),
        ("function main() { return [true] }", "InvalidOutput", None),
        ("function main() { return { toJSON() { return null } } }", "InvalidOutput", None),
        ("function main() { return { x: '\\ud800' } }", "InvalidOutput", None),
        ("function main() { return { '\\ud800': 1 } }", "InvalidOutput", None),
        (
            "function main() { let x = 1; for (let i = 0; i < 400; i++) x = [x]; return { x } }",
            "InvalidOutput",
            None,
        ),
        (
            "function main() { let x = 1; for (let i = 0; i < 1200; i++) x = [x]; return { x } }",
            "InvalidOutput",
            None,
        ),
        ("function main() { const a = {}; a.a = a; return a }", "TypeError", None),
        ("let x = 1", "MainMissing", None),
        ("\n\nlet x = ;", "SyntaxError", 3),
        ("function main() {\n\n  throw new RangeError('far')\n}", "RangeError", 3),
        ("function main() {\n  hmac('md5', '', '')\n}", "NotSupportedError", 2),
        ("function main() { throw 'text' }", "Thrown", None),
        ("async function main() { await import('fs') }", "ReferenceError", None),
    ],
)
async def test_what_goes_wrong_has_a_name(
    scripts: Scripts, source: str, name: str, line: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if name == "TimeLimitExceeded":
            patch.setattr(scripting, "TIME_LIMIT", TIME_LIMIT)
        run = await scripts.run(source, given())
    assert run.error is not None
    assert (run.error.name, run.error.line) == (name, line), run.error
    assert (run.verified, run.output) == (None, {})
    # And the next one is served as if nothing had been.
    assert (await scripts.run("function main() { return { verified: true } }", given())).verified is True


async def test_nothing_stays_from_one_call_to_the_next(scripts: Scripts) -> None:
    source = """
    Object.prototype.verified = true; Array.prototype.push = null;
    JSON.stringify = () => "{}"; hmac = () => "";
    globalThis.seen = (globalThis.seen ?? 0) + 1;
    function main() { return { verified: false, seen } }
    """
    for _ in range(2):
        run = await scripts.run(source, given())
        assert (run.verified, run.output) == (False, {"seen": 1})
    assert await output(scripts, "[typeof seen, hmac('SHA-1', 'k', '').length, ({}).verified ?? null]") == [
        "undefined",
        40,
        None,
    ]


async def test_a_body_cannot_reach_prototypes(scripts: Scripts) -> None:
    body = b'{"__proto__": {"verified": true}, "constructor": {"prototype": {"verified": true}}}'
    run = await scripts.run("function main({ body }) { return { ...body } }", given(body=body))
    assert run.verified is None


async def test_the_console_is_bounded(scripts: Scripts) -> None:
    run = await scripts.run(
        "function main() { for (let n = 0; n < 100; n++) console.log('x'.repeat(1000)); return {} }", given()
    )
    assert run.error is None
    assert len("".join(run.console)) <= 16 * 1024


async def test_a_process_that_dies_is_replaced_and_knows_none_of_our_settings(scripts: Scripts) -> None:
    await scripts.run("function main() { return {} }", given())
    child = next(each for each in psutil.Process().children() if "sandbox" in " ".join(each.cmdline()))
    assert not [name for name in child.environ() if name.startswith("DOORBELL_")]
    os.kill(child.pid, signal.SIGKILL)
    psutil.wait_procs([child], timeout=60)
    # The first call may still meet the dead one, and says so.
    runs: list[ScriptRun] = [
        await scripts.run("function main() { return { verified: true } }", given()) for _ in range(2)
    ]
    assert runs[-1].verified is True
    assert runs[0].error is None or runs[0].error.name == "SandboxEnded"


async def test_the_engine_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripting, "_engine", b"of another version")
    engines = []
    for _ in range(2):
        scripts = Scripts(1)
        run = await scripts.run("function main() { return { verified: true } }", given())
        await scripts.close()
        assert run.verified is True
        engines.append(scripting._engine)
    assert engines[0].startswith(b"\x7fELF")
    assert engines[1] is engines[0]


async def test_what_waits_is_bounded() -> None:
    scripts = Scripts(1, maximum_waiting=0)
    try:
        calls = (scripts.run("function main() { return {} }", given()) for _ in range(2))
        _, second = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(second, Busy)
    finally:
        await scripts.close()


async def test_check(scripts: Scripts) -> None:
    assert await scripts.check("const main = async () => ({})") is None
    error = await scripts.check("function main( {")
    assert error is not None
    assert str(error).startswith("SyntaxError: ")


async def test_one_source_s_slow_script_does_not_starve_the_others() -> None:
    """Its calls wait for each other; a call of another source, even of the same environment, is next."""
    scripts, done, first = Scripts(2), 0, asyncio.Event()

    async def slow() -> None:
        nonlocal done
        await scripts.run("function main() { while (true); }", given(), ("production", "slow"))
        done += 1
        first.set()

    attack = [asyncio.create_task(slow()) for _ in range(12)]
    await first.wait()
    before = done
    for number in range(6):
        owner = ("production", f"other-{number}")
        run = await scripts.run("function main() { return { verified: true } }", given(), owner)
        assert run.verified is True
    # Each may have found all places taken once, never a queue before it.
    assert done - before <= 6 < len(attack) - before
    for each in attack:
        each.cancel()
    await asyncio.gather(*attack, return_exceptions=True)
    await scripts.close()


def documented(containing: str) -> str:
    """The example in the documentation that contains this text."""
    text = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text()
    [found] = [each for each in re.findall(r"```js\n(.*?)```", text, re.DOTALL) if containing in each]
    return str(found)


async def test_the_documented_check_of_a_signature(scripts: Scripts) -> None:
    source = documented("crypto.subtle.importKey")
    body, moment = b'{"a":"\xc3\xa9"}', now()

    async def verified(stamp: int, secret: str, sent: bytes = body, **headers: str) -> bool | None:
        signature = hmac.digest(secret.encode(), f"{stamp}.".encode() + sent, "sha256").hex()
        headers = headers or {"x-signature": f"t={stamp},v1={'0' * 64},v1={signature},v0=x"}
        run = await scripts.run(
            source, given(body=body, headers=headers, secrets=("new", "old"), received_at=moment)
        )
        assert run.error is None, run.error
        return run.verified

    stamp = int(moment.timestamp())
    assert await verified(stamp, "new")
    assert await verified(stamp, "old")
    assert not await verified(stamp, "other")
    assert not await verified(stamp, "new", b"{}")
    assert not await verified(stamp - 400, "new")
    assert not await verified(stamp, "new", **{"x-other": "1"})
    assert not await verified(stamp, "new", **{"x-signature": f"t={stamp},v1=zz"})


async def test_the_documented_check_with_a_variable(scripts: Scripts) -> None:
    source = documented("PARTNER_SECRET")
    signature = base64.b64encode(hmac.digest(b"key", b"{}", "sha256")).decode()
    for variables, sent, verified in (
        ({"PARTNER_SECRET": "key"}, signature, True),
        ({"PARTNER_SECRET": "key"}, "x", False),
        ({}, base64.b64encode(hmac.digest(b"", b"{}", "sha256")).decode(), False),
    ):
        headers = {"x-partner-hmac": sent}
        run = await scripts.run(source, given(headers=headers, variables=variables))
        assert run.verified is verified, run


def test_mask() -> None:
    assert mask("a sesame-2 and sesame", ("sesame", "sesame-2", "a")) == "a [redacted] and [redacted]"
