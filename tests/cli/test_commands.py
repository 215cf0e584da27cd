"""`doorbell send` and `doorbell listen` over a real stack: HTTP, Postgres, Temporal, a worker."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from app.cli.commands import cli
from app.cli.listen import listen, replay_file
from app.cli.requests import Output, record_of, recorded_requests, send
from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.providers.registry import providers
from app.replays.examples import Request, example_request
from app.stack.installation import find_installation
from tests.bench import Api, Bench, BenchSource
from tests.servers import eventually

Printed = Callable[[], list[dict[str, Any]]]
JSON = Output(as_json=True)


@pytest.fixture
def here(settings: Settings, api: Api) -> Settings:
    """The settings of a command on the machine of the stack under test."""
    return Settings(
        _env_file=None,
        database_url=settings.database_url,
        secret_key=settings.secret_key,
        public_url=str(api.base_url),
    )


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return lambda: [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


async def ring(here: Settings, source: BenchSource, event_type: str | None = None, **options: Any) -> bool:
    given: dict[str, Any] = {"payload": None, "count": 1, "output": JSON, **options}
    return await send(here, source.key, event_type, environment=source.bench.environment, **given)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("provider", ["stripe", "clerk", "custom_http"])
async def test_examples_are_sent_as_the_vendor_would(
    bench: Bench, here: Settings, printed: Printed, provider: str
) -> None:
    source = await bench.source(provider)
    assert await ring(here, source, count=2)
    first, second = printed()
    for each in (first, second):
        assert each["status"] == 200
        assert each["event"]["verification_status"] == "enforced:verified"
        # The second is an event of its own, not a repeat of the first.
        assert each["event"]["status"] == "succeeded", each
        assert [action["status"] for action in each["event"]["actions"]] == ["succeeded"]
    assert first["event"]["id"] == first["answer"]["id"] != second["event"]["id"]


@pytest.mark.usefixtures("worker")
async def test_a_payload_of_your_own_goes_byte_for_byte(
    bench: Bench, here: Settings, printed: Printed, tmp_path: Path
) -> None:
    source = await bench.source("stripe")
    payload = tmp_path / "mine.json"
    payload.write_bytes(b'{ "type": "mine",\n "id": "evt_1" }')
    assert await ring(here, source, payload=payload)
    [sent] = printed()
    assert (sent["event"]["event_type"], sent["event"]["status"]) == ("mine", "ignored")
    rows = await bench.rows("SELECT body FROM event_payloads")
    assert [row["body"] for row in rows] == [payload.read_bytes()]


async def test_a_refusal_is_shown_with_its_reason(
    bench: Bench, here: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    source = await bench.source("stripe", secret=None)
    assert not await ring(here, source, output=Output())
    shown = capsys.readouterr().out
    assert "401" in shown
    assert "rejected" in shown
    assert "no signing secret is set" in " ".join(shown.split())


async def test_an_event_that_nobody_processes_is_shown_as_it_is(
    bench: Bench, here: Settings, printed: Printed
) -> None:
    source = await bench.source("stripe")
    assert not await ring(here, source, output=Output(as_json=True, wait=0))
    assert printed()[0]["event"]["status"] == "received"


async def test_what_cannot_be_sent(bench: Bench, here: Settings, tmp_path: Path) -> None:
    source = await bench.source("stripe")
    with pytest.raises(ConfigurationError, match=r"no example of 'x'; there are customer\.created"):
        await ring(here, source, "x")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await ring(here, source, payload=tmp_path / "none")
    with pytest.raises(ConfigurationError, match="no source 'nope'"):
        await send(here, "nope", None, environment="development", payload=None, count=1, output=JSON)
    nowhere = here.model_copy(update={"public_url": "http://127.0.0.1:9", "base_url": "http://127.0.0.1:9"})
    with pytest.raises(ConfigurationError, match="does not answer"):
        await ring(nowhere, source)


def test_no_doorbell_is_found(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="no Doorbell found"):
        find_installation(Settings(_env_file=None, data_dir=tmp_path))
    with pytest.raises(ConfigurationError, match="DOORBELL_SECRET_KEY is not"):
        find_installation(Settings(_env_file=None, database_url=settings.database_url))


async def test_fresh_examples_have_a_key_and_a_time_of_their_own(bench: Bench) -> None:
    source = await bench.source("stripe")
    endpoint = bench.runtime.configuration.endpoint(bench.environment, source.key)
    assert endpoint is not None
    declared = providers()["stripe"].examples["invoice.paid"][0].body
    first, second = (orjson.loads(example_request(endpoint, "invoice.paid").body) for _ in range(2))
    assert len({declared["id"], first["id"], second["id"]}) == 3
    assert first["created"] > declared["created"]
    assert first["data"] == declared["data"]


@pytest.mark.usefixtures("worker")
async def test_listen_forwards_unchanged_and_keeps_a_record(
    bench: Bench, here: Settings, printed: Printed, tmp_path: Path
) -> None:
    source = await bench.source("stripe")
    record = tmp_path / "record.jsonl"
    urls: list[str] = []
    listening = asyncio.create_task(
        listen(
            here,
            source.key,
            environment=bench.environment,
            port=0,
            record=record,
            output=JSON,
            on_ready=urls.append,
        )
    )
    await eventually(lambda: urls or listening.done())
    body = source.example("invoice.paid")
    async with httpx.AsyncClient(timeout=60) as vendor:
        accepted = await vendor.post(urls[0] + "/webhook", content=body, headers=source.signed(body))
        refused = await vendor.post(urls[0], content=body, headers={"stripe-signature": "t=1,v1=00"})
    assert (accepted.status_code, refused.status_code) == (200, 401)
    assert accepted.json()["success"] is True
    await bench.final(accepted.json()["id"])
    shown: list[dict[str, Any]] = []

    def both() -> bool:
        shown.extend(printed())
        return len(shown) == 2

    await eventually(both)
    assert {each["event"]["status"] for each in shown} == {"succeeded", "rejected"}
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(listening, 60)

    # Recorded bytes and signature pass again as they are; the event is then a repeat.
    assert [each.body for each in recorded_requests(record)] == [body, body]
    record.write_bytes(record.read_bytes().splitlines(keepends=True)[0])
    assert await replay_file(
        here, source.key, environment=bench.environment, path=record, sign=False, output=JSON
    )
    assert printed()[0]["event"]["status"] == "idempotent"


@pytest.mark.usefixtures("worker")
async def test_recorded_requests_signed_anew(
    bench: Bench, here: Settings, printed: Printed, tmp_path: Path
) -> None:
    source = await bench.source("stripe")
    file = tmp_path / "recorded.jsonl"
    old = {"Stripe-Signature": "t=1,v1=00"}
    file.write_bytes(orjson.dumps({"headers": old, "body": {"type": "a", "id": "evt_old"}}) + b"\n\n")
    for sign in (False, True):
        done = await replay_file(
            here, source.key, environment=bench.environment, path=file, sign=sign, output=JSON
        )
        assert done is sign
    assert [each["status"] for each in printed()] == [401, 200]


@pytest.mark.parametrize("body", [b'{"a": "\xc3\xa9"}', b"\x1f\x8b\xff\x00"])
def test_a_record_keeps_every_byte(tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "recorded.jsonl"
    file.write_bytes(record_of(Request(body, {"content-encoding": "gzip"})))
    assert list(recorded_requests(file)) == [Request(body, {"content-encoding": "gzip"})]


@pytest.mark.parametrize("line", [b"no", b"[]", b'{"headers": {}}', b'{"headers": {"a": 1}, "body": {}}'])
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "recorded.jsonl"
    file.write_bytes(record_of(Request(b"{}")) + line)
    with pytest.raises(ConfigurationError, match="line 2"):
        list(recorded_requests(file))


@pytest.mark.parametrize("command", ["send", "listen"])
def test_help_has_an_example(command: str) -> None:
    shown = CliRunner().invoke(cli, [command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"Example: doorbell {command} stripe" in shown.output
