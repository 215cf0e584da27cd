"""Whole numbers keep their digits: in the log, in payloads, at the destination, through scripts."""

import re

import pytest

from tests.bench import Bench, BenchSource
from tests.knock import KnockServer

pytestmark = pytest.mark.usefixtures("api", "worker")

WEI = [
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1" + "0" * 76,
]
IDENTIFY = {"t": [("users_identify", {"id": "id", "properties": {"wei": "wei", "all": "body"}})]}
COPY = "function main({ body }) { return { verified: true, wei: body.wei } }"
BIGINT = """
function main({ rawBody }) {
  const wei = BigInt(/"wei":(-?[0-9]+)/.exec(rawBody)[1]);
  return { verified: true, wei, within: [{ wei }, `${wei}n`] };
}
"""


async def source_of(bench: Bench, script: str | None = None) -> BenchSource:
    return await bench.source(
        "custom_http",
        secret=None,
        enforce_verification=False,
        mappings=IDENTIFY,
        preprocess_script=script,
    )


@pytest.mark.parametrize("wei", WEI)
async def test_digits_arrive_and_are_shown_as_sent(bench: Bench, knock: KnockServer, wei: str) -> None:
    await bench.use_destination(knock.url)
    source = await source_of(bench)
    body = b'{"type":"t","id":%s,"wei":%s,"list":[{"wei":%s}]}' % ((wei.encode(),) * 3)
    event = await bench.final((await source.post(body, {})).json()["id"])
    assert (event["status"], event["error"]) == ("succeeded", None)
    [call] = knock.calls
    assert call.path == f"/v1/users/{wei}"
    assert call.raw.count(wei.encode()) == 4
    shown = await bench.api.get(f"/v1/sources/{source.key}/logs/{event['id']}")
    assert shown.status_code == 200
    # The body, and the payload, in which it is once more.
    assert len(re.findall(rf'"wei": ?{wei}[,}}]', shown.text)) == 5


@pytest.mark.parametrize("wei", WEI)
async def test_the_built_in_directory_keeps_digits(bench: Bench, wei: str) -> None:
    source = await source_of(bench)
    body = b'{"type":"t","id":"ada","wei":%s}' % wei.encode()
    event = await bench.final((await source.post(body, {})).json()["id"])
    assert event["status"] == "succeeded", await bench.actions(event["id"])
    rows = await bench.rows(
        "SELECT properties->>'wei' AS wei FROM directory_recipients "
        "WHERE environment = :environment AND id = 'ada'",
        environment=bench.environment,
    )
    assert rows == [{"wei": wei}]


async def test_tracking_calls_keep_digits(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("segment", secret=None, enforce_verification=False)
    body = b'{"type":"identify","userId":"ada","messageId":"m1","traits":{"wei":18446744073709551616}}'
    answer = await bench.api.post("/v1/identify", content=body, headers={"x-write-key": source.token})
    assert answer.status_code == 200, answer.text
    [row] = await bench.rows("SELECT id FROM events WHERE source_key = :key", key=source.key)
    assert (await bench.final(row["id"]))["status"] == "succeeded"
    assert b'"wei":18446744073709551616' in knock.calls[0].raw.replace(b": ", b":")


async def test_a_rounded_number_is_no_id(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await source_of(bench)
    event = await bench.final((await source.post(b'{"type":"t","id":9007199254740993.0}', {})).json()["id"])
    assert event["status"] == "failed"
    assert "id: id is a number" in event["error"]
    assert "send its digits alone" in event["error"]
    assert knock.calls == []


async def test_a_script_that_cannot_hold_a_number_is_noted(bench: Bench) -> None:
    source = await source_of(bench, COPY)
    body = b'{"type":"t","id":"ada","wei":18446744073709551616}'
    event = await bench.final((await source.post(body, {})).json()["id"])
    assert event["error"] == (
        "script: JavaScript rounds the whole number at body.wei; paths into body keep its digits, and the "
        "script finds them in ctx.rawBody"
    )
    [action] = await bench.actions(event["id"])
    assert action["payload"]["properties"]["wei"] == 18446744073709551616


@pytest.mark.parametrize("wei", WEI)
async def test_a_script_may_return_a_big_integer(bench: Bench, wei: str) -> None:
    source = await source_of(bench, BIGINT)
    answer = await source.post(b'{"type":"t","id":"ada","wei":%s}' % wei.encode(), {})
    rows = await bench.rows(
        "SELECT preprocess_output::text AS output FROM event_payloads WHERE id = :id",
        id=(await bench.final(answer.json()["id"]))["id"],
    )
    assert rows[0]["output"] == f'{{"wei":{wei},"within":[{{"wei":{wei}}},"{wei}n"]}}'
