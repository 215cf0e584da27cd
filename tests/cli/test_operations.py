"""The commands for people who run Doorbell, over HTTP against the real application."""

import asyncio
import os
import pty
import re
import signal
import sys
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import text
from temporalio.client import Client
from typer.testing import CliRunner

from app.api.management import follow
from app.cli import logs
from app.cli.commands import cli
from app.core.errors import CommandError
from app.replays.many import MAXIMUM_RATE
from app.runtime.resources import Runtime
from app.worker.main import run_workers
from tests.bench import Api, Bench, BenchSource
from tests.conftest import ADMIN_TOKEN
from tests.knock import KnockServer, error
from tests.servers import eventually

Doorbell = Callable[..., Awaitable[tuple[int, str]]]
MAIN = "import sys; sys.argv[0] = 'doorbell'; from app.cli.main import main; main()"
MAPPINGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "invoice.paid": [
        ("users_identify", {"id": "body.data.object.customer", "email": "body.data.object.customer_email"}),
        ("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"}),
    ]
}
GONE = "01a20df1-e8fc-72f9-a988-19f172a42afd"


@pytest.fixture
def doorbell(bench: Bench) -> Doorbell:
    """Run `doorbell` against the application, in the test's environment; its exit code and standard output.

    A command that cannot raises its CommandError.
    """

    async def run(
        *arguments: str, typed: str | None = None, anywhere: bool = False, columns: int = 200
    ) -> tuple[int, str]:
        where = [] if anywhere else ["--environment", bench.environment]
        given = [*arguments, *where, "--url", str(bench.api.base_url), "--token", ADMIN_TOKEN]
        invoke = CliRunner().invoke
        result = await asyncio.to_thread(invoke, cli, given, input=typed, env={"COLUMNS": str(columns)})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout

    return run


@pytest.fixture
async def source(bench: Bench, knock: KnockServer) -> BenchSource:
    """A Stripe source with two actions, against the stand-in for Knock."""
    await bench.use_destination(knock.url)
    return await bench.source("stripe", mappings=MAPPINGS)


def connection(api: Api) -> list[str]:
    return ["--url", str(api.base_url), "--token", ADMIN_TOKEN]


async def start(*arguments: str, **options: Any) -> Process:
    """`doorbell` in a process of its own."""
    given: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, **options}
    return await asyncio.create_subprocess_exec(sys.executable, "-c", MAIN, *arguments, **given)


def json_lines(output: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in output.splitlines()]


async def test_a_piped_secret_verifies_and_is_never_shown(
    bench: Bench, source: BenchSource, doorbell: Doorbell
) -> None:
    code, said = await doorbell(
        "secret", "add", source.key, "--expire-others-in", "3600", typed="whsec_bmV3LXNlY3JldA==\n"
    )
    assert code == 0
    assert f"to {source.key} in {bench.environment}" in said
    assert "verify for 3600 seconds" in said
    body = source.example("invoice.paid")
    answer = await source.post(body, source.signed(body, "whsec_bmV3LXNlY3JldA=="))
    assert answer.status_code == 200, answer.text

    code, listed = await doorbell("secret", "list", source.key, "--json")
    newest, oldest = json_lines(listed)
    assert newest["id"] in said
    assert (newest["expires_at"], oldest["expires_at"] is None) == (None, False)
    code, table = await doorbell("secret", "list", source.key)
    assert code == 0
    assert re.search(rf"{newest['id']} +\S+ \S+Z +never", table)
    _, narrow = await doorbell("secret", "list", source.key, columns=80)
    assert {newest["id"], oldest["id"]} <= {*narrow.split()}
    assert "bmV3" not in said + listed + table


async def test_no_secret_is_taken_from_nothing_or_from_an_argument(
    source: BenchSource, doorbell: Doorbell
) -> None:
    with pytest.raises(CommandError, match="pipe it"):
        await doorbell("secret", "add", source.key, typed="\n")
    assert (await doorbell("secret", "add", source.key, "whsec_argument", typed="x"))[0] == 2
    assert len(json_lines((await doorbell("secret", "list", source.key, "--json"))[1])) == 1


async def test_a_terminal_is_asked_without_echo(bench: Bench, source: BenchSource) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    shown = b""

    def read() -> bytes:
        nonlocal shown
        with suppress(BlockingIOError):
            shown += os.read(ours, 4096)
        return shown

    where = ["--environment", bench.environment, *connection(bench.api)]
    process = await start("secret", "add", source.key, *where, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        await eventually(lambda: b"Signing secret:" in read())
        # What is typed before the echo is off is thrown away.
        await eventually(lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO)
        os.write(ours, b"typed-secret\n")
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await eventually(lambda: b"Added secret" in read())
        assert b"typed-secret" not in shown
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
        os.close(theirs)


async def test_sources_and_what_they_received(bench: Bench, source: BenchSource, doorbell: Doorbell) -> None:
    quiet = await bench.source("clerk")
    await source.send("invoice.paid")
    await source.send("invoice.paid")
    code, said = await doorbell("sources", "--json")
    found = {each["key"]: each for each in json_lines(said)}
    assert code == 0
    assert (found[source.key]["provider"], found[source.key]["events_count"]) == ("stripe", 2)
    assert found[source.key]["mappings_count"] == 2
    assert (found[quiet.key]["events_count"], found[quiet.key]["last_event_received"]) == (0, None)
    _, table = await doorbell("sources")
    assert re.search(rf"{source.key} +stripe +2 +2 +20\d\d-\S+ \S+Z", table)
    assert re.search(rf"{quiet.key} +clerk +\d+ +0 +never", table)
    _, elsewhere = await doorbell("sources", "--environment", "production", anywhere=True)
    assert re.search(rf"{quiet.key} .*not set up in production", elsewhere)


@pytest.mark.usefixtures("worker")
async def test_statistics(bench: Bench, source: BenchSource, doorbell: Doorbell) -> None:
    await bench.final(await source.send("invoice.paid"))
    code, output = await doorbell("stats", "--source", source.key, "--period", "hour", "--json")
    assert code == 0
    (found,) = json_lines(output)
    assert found["events"] == {"succeeded": 1}
    await source.post(source.example("invoice.paid"), headers={})
    code, output = await doorbell("stats", "--period", "hour", columns=80)
    assert code == 0
    above, heading, *points = output.splitlines()
    assert above.strip() == "failed or"
    assert " ".join(heading.split()) == "from events rejected actions failed p50 ms p95 ms p99 ms"
    assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\dZ +\d", points[0])
    assert re.search(r"^all +2 +1 +2 +0 ", output, re.MULTILINE), output
    assert re.search(rf"^{source.key} +invoice\.paid +1 +0", output, re.MULTILINE), output


async def test_event_types(source: BenchSource, doorbell: Doorbell) -> None:
    assert "doorbell send" in (await doorbell("events", source.key))[1]
    await source.send("invoice.paid")
    await source.send("customer.created")
    code, said = await doorbell("events", source.key, "--json")
    assert code == 0
    assert [each["event"] for each in json_lines(said)] == ["customer.created", "invoice.paid"]
    assert re.search(r"invoice\.paid +20\d\d-", (await doorbell("events", source.key))[1])


@pytest.mark.usefixtures("worker")
async def test_logs_show_the_newest_last_with_their_actions(
    bench: Bench, source: BenchSource, doorbell: Doorbell, knock: KnockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "PAGE_SIZE", 2)
    ids = [await source.send("customer.created") for _ in range(3)]
    ids.append(await source.send("invoice.paid"))
    for each in ids:
        await bench.final(each)
    code, said = await doorbell("logs", source.key, "--json")
    assert code == 0
    assert [each["id"] for each in json_lines(said)] == ids
    assert [len(each["actions"]) for each in json_lines(said)] == [0, 0, 0, 2]
    assert json_lines((await doorbell("logs", source.key, "--json", "--limit", "3"))[1])[0]["id"] == ids[1]

    code, shown = await doorbell("logs", source.key, "--event", "invoice.paid", "--status", "succeeded")
    event, identify, trigger = shown.splitlines()
    assert re.fullmatch(rf"\S+ \S+Z  invoice\.paid  succeeded  enforced:verified  \d+ ms  {ids[3]}", event)
    assert identify.startswith("    └ users_identify  success  ")
    assert '"workflow_run_id":"123e4567-e89b-12d3-a456-426614174000"' in trigger
    assert (await doorbell("logs", source.key, "--status", "failed")) == (0, "")
    assert (await doorbell("logs", source.key, "--status", "odd"))[0] == 2


async def test_logs_say_once_why_an_event_was_rejected(source: BenchSource, doorbell: Doorbell) -> None:
    await source.post(source.example("invoice.paid"), headers={})
    _, said = await doorbell("logs", source.key)
    event, *reasons = said.splitlines()
    assert "rejected" in event
    assert reasons == ["    the event could not be verified: header stripe-signature is missing"]


async def test_what_senders_write_moves_no_cursor_and_is_no_markup(
    source: BenchSource, doorbell: Doorbell
) -> None:
    await source.send("invoice.paid", type="\x1b[2J[red]evil[/red]\n")
    _, said = await doorbell("logs", source.key)
    assert "\\x1b[2J[red]evil[/red]\\n" in said
    assert "\x1b" not in said


@pytest.mark.usefixtures("worker")
async def test_following_through_streams_that_end_until_interrupted(
    bench: Bench, source: BenchSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LONGEST_STREAM", timedelta(seconds=0.6))
    before = await source.send("invoice.paid")
    await bench.final(before)
    where = ["--environment", bench.environment, *connection(bench.api)]
    process = await start("logs", source.key, "--follow", "--json", *where)
    try:
        assert process.stdout is not None
        seen = []

        async def read_until(identifier: str) -> dict[str, Any]:
            assert process.stdout is not None
            while True:
                line = await asyncio.wait_for(process.stdout.readline(), 60)
                assert line, "the command ended"
                entry: dict[str, Any] = orjson.loads(line)
                seen.append((entry["id"], entry["status"]))
                if seen[-1] == (identifier, "succeeded"):
                    return entry

        await read_until(before)
        for _ in range(3):
            identifier = await source.send("invoice.paid")
            assert len((await read_until(identifier))["actions"]) == 2
            await eventually(partial(follow._streams.isdisjoint, set(follow._streams)))
        assert len(seen) == len(set(seen)), "nothing is shown twice"
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.usefixtures("worker")
async def test_a_replay_shows_what_became_of_it(
    bench: Bench, source: BenchSource, doorbell: Doorbell, knock: KnockServer
) -> None:
    event_id = await source.send("invoice.paid")
    await bench.final(event_id)
    code, said = await doorbell("replay", source.key, event_id, "--json")
    [entry] = json_lines(said)
    assert (code, entry["replay_of"], entry["status"]) == (0, event_id, "succeeded")
    assert len(knock.calls) == 4

    knock.answers.extend(error(422, "invalid", "no such workflow") for _ in range(2))
    code, said = await doorbell("replay", source.key, event_id, "--mappings", "original")
    assert code == 1
    assert "invoice.paid  failed" in said
    assert "(replay)" in said
    assert "no such workflow" in said


async def test_a_replay_that_nobody_runs_says_so(source: BenchSource, doorbell: Doorbell) -> None:
    event_id = await source.send("invoice.paid")
    code, said = await doorbell("replay", source.key, event_id, "--wait", "0")
    assert code == 1
    assert "worker" in said
    with pytest.raises(CommandError, match=f"404 .*no log entry {GONE}"):
        await doorbell("replay", source.key, GONE)
    assert (await doorbell("replay", source.key, "no-id"))[0] == 2


async def test_an_event_of_another_environment_is_not_replayed(
    bench: Bench, source: BenchSource, doorbell: Doorbell
) -> None:
    event_id = await source.send("invoice.paid")
    with pytest.raises(CommandError) as refused:
        await doorbell("replay", source.key, event_id, anywhere=True)
    assert str(refused.value) == (
        f"event {event_id} is of {bench.environment}, not of development: pass -e {bench.environment}"
    )
    assert [each["id"] for each in json_lines((await doorbell("logs", source.key, "--json"))[1])] == [
        event_id
    ]
    with pytest.raises(CommandError, match="404 There is no source 'nosuch'"):
        await doorbell("replay", "nosuch", event_id)


@pytest.mark.usefixtures("worker")
async def test_many_events_are_counted_asked_about_and_replayed(
    bench: Bench, source: BenchSource, doorbell: Doorbell, knock: KnockServer
) -> None:
    knock.answers.extend(error(422, "invalid", "no such workflow") for _ in range(4))
    failed = [str((await bench.final(await source.send("invoice.paid")))["id"]) for _ in range(2)]
    await bench.final(await source.send("invoice.paid"))
    many = ("replay", source.key, "--status", "failed")
    code, said = await doorbell(*many, "--dry-run")
    assert (code, said) == (0, f"2 events match:\n    {failed[0]}\n    {failed[1]}\n")
    with pytest.raises(CommandError, match="--yes"):
        await doorbell(*many)
    with pytest.raises(CommandError, match="not both"):
        await doorbell(*many, failed[0])
    assert len(knock.calls) == 6, "nothing was replayed yet"

    code, said = await doorbell(*many, "--yes", "--mappings", "original", "--rate", "100", "--json")
    [replay] = json_lines(said)
    assert (code, replay["replayed"], replay["outcomes"]) == (0, 2, {"succeeded": 2})
    assert (replay["mappings"], replay["rate_limit_per_second"]) == ("original", 100)
    code, said = await doorbell("logs", source.key, "--replay", replay["id"], "--json")
    assert [each["replay_of"] for each in json_lines(said)] == failed

    # The two are made good. One more fails, and fails again.
    knock.answers.extend(error(422, "invalid", "still not") for _ in range(4))
    await bench.final(await source.send("invoice.paid"))
    code, said = await doorbell(*many, "--yes")
    assert code == 1
    assert "completed 3 of 3 replayed" in said
    assert "failed 1" in said
    assert "idempotent 2" in said
    code, said = await doorbell("replay", source.key, "--status", "rejected", "--yes")
    assert (code, said) == (0, "0 events match\n")


@pytest.mark.usefixtures("worker")
async def test_an_event_without_a_payload_is_counted_by_itself(
    bench: Bench, source: BenchSource, doorbell: Doorbell, runtime: Runtime
) -> None:
    event_id = await source.send("invoice.paid")
    await bench.final(event_id)
    async with runtime.engine.begin() as connection:
        for statement in (
            "DELETE FROM event_payloads WHERE id = :id",
            "UPDATE events SET erased_at = now() WHERE id = :id",
        ):
            await connection.execute(text(statement), {"id": UUID(event_id)})
    code, said = await doorbell("replay", source.key, "--dry-run")
    assert (code, said) == (0, f"1 event matches:\n    {event_id}\n")
    code, said = await doorbell("replay", source.key, "--yes")
    assert code == 1
    assert "    1 has no payload any more: retention or an erasure took it\n" in said


async def test_events_that_retention_deleted_during_a_replay_are_said(
    bench: Bench, source: BenchSource, doorbell: Doorbell, runtime: Runtime, temporal: Client
) -> None:
    ids = [UUID(await source.send("invoice.paid")) for _ in range(2)]
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE events SET status = 'failed', finished_at = now()"))
    replaying = asyncio.create_task(doorbell("replay", source.key, "--yes"))
    await eventually(lambda: bench.rows("SELECT id FROM replays"))
    async with runtime.engine.begin() as connection:
        await connection.execute(text("DELETE FROM events WHERE id = :id"), {"id": ids[0]})
    async with run_workers(runtime, temporal, [bench.environment]):
        code, said = await replaying
    assert code == 1
    assert "completed 1 of 2 replayed" in said
    assert "    1 is no longer in the log: deleted by retention during the replay\n" in said


async def test_options_of_a_replay_that_are_wrong_are_named(source: BenchSource, doorbell: Doorbell) -> None:
    dry = ("replay", source.key, "--dry-run")

    async def refusal(*options: str) -> str:
        invoke = CliRunner().invoke
        result = await asyncio.to_thread(invoke, cli, [*dry, *options], env={"COLUMNS": "200"})
        assert result.exit_code == 2
        return result.stderr

    for option, value in (("--starting-at", "yesterday"), ("--ending-at", "25:00")):
        assert f"'{option}': '{value}' is not a time like 2026-01-15T12:00Z" in await refusal(option, value)
    assert "Invalid value for '--rate': " in await refusal("--rate", str(MAXIMUM_RATE + 1))
    await source.send("invoice.paid")
    times = ("--starting-at", "2026-01-15T12:00Z", "--ending-at", "2026-01-15")
    assert await doorbell(*dry, *times, "--rate", str(MAXIMUM_RATE)) == (0, "0 events match\n")


async def test_ctrl_c_leaves_the_replay_to_the_server(
    bench: Bench, source: BenchSource, doorbell: Doorbell
) -> None:
    await source.post(source.example("invoice.paid"), headers={})
    where = ("--environment", bench.environment, *connection(bench.api))
    process = await start("replay", source.key, "--status", "rejected", "--yes", *where)
    assert process.stderr is not None
    assert b"1 event has begun" in await asyncio.wait_for(process.stderr.readline(), 60)
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    [row] = await bench.rows("SELECT id FROM replays")
    assert process.returncode == 1
    assert (
        f"goes on at the server. Cancel it with `doorbell replay {source.key} -e {bench.environment} "
        f"--cancel {row['id']}`"
    ) in said.decode()
    with pytest.raises(CommandError, match=f"is of {bench.environment}, not of development: pass -e "):
        await doorbell("replay", source.key, "--cancel", str(row["id"]), anywhere=True)
    code, shown = await doorbell("replay", source.key, "--cancel", str(row["id"]))
    assert code == 0
    assert "cancelled 0 of 1 replayed" in shown
    with pytest.raises(CommandError, match=r"409 .*is over"):
        await doorbell("replay", source.key, "--cancel", str(row["id"]))


async def test_mappings_on_a_sample_an_event_and_files(
    source: BenchSource, doorbell: Doorbell, tmp_path: Path
) -> None:
    code, said = await doorbell("mappings", "test", source.key, "invoice.paid")
    assert code == 0
    assert "the provider's example" in said
    assert "users_identify  runs" in said
    assert re.search(r'recipients +body\.data\.object\.customer +\["cus_\w+"\]', said)

    event_id = await source.send("invoice.paid")
    code, said = await doorbell("mappings", "test", source.key, "invoice.paid", "--event-id", event_id)
    assert code == 0
    assert f"a received event, {event_id}" in said

    file = tmp_path / "event.json"
    paid = {"type": "invoice.paid", "data": {"object": {"customer": False}}}
    for content in (paid, {"body": paid, "headers": {"x-a": "1"}}):
        file.write_bytes(orjson.dumps(content))
        code, said = await doorbell("mappings", "test", source.key, "invoice.paid", "--payload", str(file))
        assert code == 1
        assert "workflows_trigger  failed" in said
        assert re.search(r"email +body\.data\.object\.customer_email +no value, left out", said)
        assert "body.data.object.customer is a boolean (false), expected an id" in said
    code, said = await doorbell(
        "mappings", "test", source.key, "invoice.paid", "--payload", str(file), "--json"
    )
    assert code == 1
    assert {each["status"] for each in orjson.loads(said)["mappings"]} == {"failed"}


async def test_mappings_that_are_not_there_and_events_that_are_none(
    source: BenchSource, doorbell: Doorbell, tmp_path: Path
) -> None:
    file = tmp_path / "event.json"
    file.write_text('{"type": "charge.failed"}')
    on_it = ["--payload", str(file)]
    code, said = await doorbell("mappings", "test", source.key, "charge.failed", *on_it)
    assert code == 1
    assert "maps no charge.failed" in said
    assert "it maps invoice.paid" in said
    code, said = await doorbell("mappings", "test", source.key, "invoice.paid", *on_it)
    assert code == 1
    assert "This event is of type charge.failed" in said
    for content, reason in ((b"{", "is not JSON"), (b"[]", "not an object"), (b"\xff", "is not JSON")):
        file.write_bytes(content)
        with pytest.raises(CommandError, match=reason):
            await doorbell("mappings", "test", source.key, "invoice.paid", *on_it)
    with pytest.raises(CommandError, match="cannot be read"):
        await doorbell("mappings", "test", source.key, "invoice.paid", "--payload", str(tmp_path / "none"))
    with pytest.raises(CommandError, match="two different events"):
        await doorbell("mappings", "test", source.key, "invoice.paid", *on_it, "--event-id", GONE)
    with pytest.raises(CommandError, match="`doorbell events SOURCE` the event types of one"):
        await doorbell("mappings", "test", source.key, "no.such")


async def test_what_cannot_be_done_leaves_with_2_and_the_next_step(api: Api) -> None:
    async def said(*arguments: str) -> tuple[int | None, str]:
        process = await start(*arguments)
        _, errors = await process.communicate()
        return process.returncode, errors.decode()

    nobody, stranger, unknown = await asyncio.gather(
        said("sources", "--url", "http://127.0.0.1:9", "--token", "x"),
        said("sources", "--url", str(api.base_url), "--token", "dbl_st_wrong"),
        said("logs", "a/b", *connection(api)),
    )
    assert nobody[0] == stranger[0] == unknown[0] == 2
    assert "nobody answers at http://127.0.0.1:9" in nobody[1]
    assert "doorbell dev" in nobody[1]
    assert "doorbell token create" in stranger[1]
    assert "404" in unknown[1]
    assert "`doorbell sources` lists" in unknown[1]
    assert "Traceback" not in nobody[1] + stranger[1] + unknown[1]


async def test_shells_complete_commands() -> None:
    words = {"COMP_WORDS": "doorbell mappi", "COMP_CWORD": "1", "_DOORBELL_COMPLETE": "complete_bash"}
    process = await start(env={**os.environ, **words})
    output, _ = await process.communicate()
    assert output.decode().split() == ["mappings"]


@pytest.mark.parametrize(
    "command",
    ["secret add", "secret list", "sources", "events", "logs", "replay", "mappings test"],
)
def test_help_has_an_example(command: str) -> None:
    shown = CliRunner().invoke(cli, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"Example: doorbell {command}" in shown.output


async def test_the_shell_completes_what_the_server_has(
    doorbell: Doorbell, bench: Bench, source: BenchSource
) -> None:
    await source.send("invoice.paid")
    api = connection(bench.api)

    async def offered(*words: str) -> list[str]:
        line = " ".join(["doorbell", *words])
        given = {"_DOORBELL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        process = await start(stdin=None, env={**os.environ, **given})
        output, complaint = await process.communicate()
        assert complaint == b""
        return output.decode().split()

    assert await offered("logs", *api, source.key[:7]) == [source.key]
    assert bench.environment in await offered("logs", *api, "-e", "test-")
    assert await offered("mappings", "test", *api, "-e", bench.environment, source.key, "inv") == [
        "invoice.paid"
    ]
    # An option's value, while the arguments before it are only words.
    assert await offered("logs", *api, "-e", bench.environment, source.key, "--event", "inv") == [
        "invoice.paid"
    ]
    assert await offered("stats", *api, "--source", source.key[:7]) == [source.key]
    assert await offered("logs", "--url", "http://127.0.0.1:1", "--token", "x", source.key[:7]) == []


async def test_the_doctor_lists_what_was_saved_and_cannot_work(
    bench: Bench, source: BenchSource, doorbell: Doorbell
) -> None:
    code, output = await doorbell("doctor", anywhere=True)
    assert (code, "No problems in" in output) == (0, True), output
    ill = await bench.source(
        "custom_http",
        timestamp_path="$.at",
        mappings={"t": [("users_identify", {"id": "{{ body.id }}", "properties": {"a": "items[0]"}})]},
    )
    code, output = await doorbell("doctor", "--json", anywhere=True)
    assert code == 1
    found = json_lines(output)
    assert {each["source"] for each in found} == {ill.key}
    assert [(each["place"], each["problem"].partition(": ")[2]) for each in found] == [
        ("timestamp_path", "write body.at"),
        ("t users_identify.id", "write body.id"),
        ("t users_identify.properties", "write items.0"),
    ]
    code, output = await doorbell("doctor", anywhere=True)
    assert code == 1
    assert "t users_identify.id" in output
