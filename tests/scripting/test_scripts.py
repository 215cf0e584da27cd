"""Scripts of sources: at the edge, for the verdict of record, rehearsed; and the variables that they read."""

from typing import Any

import orjson
import pytest

from app.providers.registry import providers
from tests.api.reverse_etl.keys import Caller, source_key
from tests.bench import Api, Bench, BenchSource
from tests.servers import eventually

BODY = orjson.dumps({"type": "user.identified", "user_id": "ada", "plan": "pro"})
PLAN = "function main({ body, verification }) { return { verified: verification.verified, plan: body.plan } }"
VARIABLE = """
function main({ vars, headers }) {
  const secret = vars["CUSTOM_HTTP_SIGNING_SECRET"];
  return { verified: Boolean(secret) && headers["x-webhook-secret"] === secret };
}
"""
HEADERS = {"x-webhook-secret": "open-sesame"}


async def custom(bench: Bench, script: str, **settings: Any) -> BenchSource:
    return await bench.source("custom_http", secret="open-sesame", preprocess_script=script, **settings)


async def logged(bench: Bench, source: BenchSource) -> dict[str, Any]:
    """The newest event of a source, with its payload."""
    rows = await bench.rows(
        "SELECT * FROM events JOIN event_payloads USING (id) WHERE source_key = :key ORDER BY id DESC",
        key=source.key,
    )
    return rows[0]


async def set_variable(api: Api, key: str, **variable: Any) -> Any:
    answer = await api.put(f"/v1/variables/{key}", json={"variable": variable})
    assert answer.status_code == 200, answer.text
    return answer.json()["variable"]


@pytest.mark.usefixtures("worker")
async def test_a_script_from_the_edge_to_the_action(bench: Bench) -> None:
    mappings = {
        "user.identified": [
            ("users_identify", {"id": "body.user_id", "properties": {"plan": "preprocess.plan"}})
        ]
    }
    source = await custom(bench, PLAN, mappings=mappings)
    answer = await source.post(BODY, HEADERS)
    assert answer.status_code == 200, answer.text
    event = await bench.final(answer.json()["id"])
    assert (event["status"], event["verification_status"]) == ("succeeded", "enforced:verified")
    assert (await logged(bench, source))["preprocess_output"] == {"plan": "pro"}
    [action] = await bench.actions(event["id"])
    assert action["payload"]["properties"] == {"plan": "pro"}


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("function main() { return { verified: false } }", "failed", "the source's script says so"),
        ("function main() { return { plan: 1 } }", "failed", "did not return verified"),
        (
            "function main({ secrets }) {\n throw new TypeError(`bad ${secrets[0]}`)\n}",
            "failed",
            "TypeError: bad [redacted] (line 2)",
        ),
        # Postgres has no U+0000 in texts: such an event would take those with it that are written at once.
        ("function main() { throw new Error('nul \\0') }", "failed", "Error: nul \\u0000 (line 1)"),
        (
            "function main() { throw Object.assign(new Error('x'), { name: 'N\\0' }) }",
            "failed",
            "N\\u0000: x",
        ),
        ("function main() { while (true); }", "failed", "TimeLimitExceeded"),
    ],
)
async def test_an_enforced_script_that_does_not_verify(
    bench: Bench, script: str, status: str, reason: str
) -> None:
    source = await custom(bench, script)
    answer = await source.post(BODY, HEADERS)
    assert answer.status_code == 401
    assert answer.json()["code"] == "verification_failed"
    # The sender learns the error's name, not what it says.
    assert "bad" not in answer.text
    event = await logged(bench, source)
    assert (event["status"], event["verification_status"]) == ("rejected", f"enforced:{status}")
    assert reason in event["verification_reason"]


@pytest.mark.parametrize(
    ("script", "status", "error"),
    [
        ("function main() { return { verified: false } }", "not_enforced:failed", None),
        ("function main() { return { plan: 1 } }", "not_enforced:unverified", None),
        ("function main() { null.x }", "not_enforced:unverified", "the source's script failed: TypeError"),
    ],
)
async def test_a_script_that_is_not_enforced(
    bench: Bench, script: str, status: str, error: str | None
) -> None:
    source = await custom(bench, script, enforce_verification=False)
    answer = await source.post(BODY, {})
    assert answer.status_code == 200
    event = await logged(bench, source)
    assert event["verification_status"] == status
    assert event["error"] is None if error is None else error in event["error"]


async def test_a_body_that_is_not_json_never_reaches_the_script(bench: Bench) -> None:
    source = await custom(bench, "function main() { return { verified: true } }")
    answer = await source.post(b"not json", HEADERS)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


async def test_values_of_the_provider_stay_beside_those_of_the_script(bench: Bench) -> None:
    source = await bench.source(
        "clerk",
        preprocess_script="function main() { return { verified: true, name: 'Changed', more: 1 } }",
    )
    assert (await source.post(source.example("user.created"))).status_code == 200
    output = (await logged(bench, source))["preprocess_output"]
    assert output["email"] == "ada@example.com"
    assert (output["name"], output["more"]) == ("Changed", 1)


async def test_the_default_script_says_what_the_scheme_says(bench: Bench) -> None:
    script = providers()["custom_http"].script
    assert script is not None
    source = await custom(bench, script)
    assert (await source.post(BODY, HEADERS)).status_code == 200
    wrong: tuple[Any, ...] = (
        {},
        {"x-webhook-secret": ""},
        {"x-webhook-secret": "open-sesam"},
        {"x-webhook-secret": "open-sésame".encode("latin-1")},
    )
    for headers in wrong:
        assert (await source.post(BODY, headers)).status_code == 401


async def test_a_script_written_for_knock_with_a_variable(bench: Bench, api: Api) -> None:
    source = await custom(bench, VARIABLE)
    assert (await source.post(BODY, HEADERS)).status_code == 401
    await set_variable(api, "CUSTOM_HTTP_SIGNING_SECRET", type="secret", value="open-sesame")

    async def accepted() -> bool:
        return (await source.post(BODY, HEADERS)).status_code == 200

    await eventually(accepted)
    event = await logged(bench, source)
    assert "x-webhook-secret" not in event["headers"]
    await set_variable(api, "CUSTOM_HTTP_SIGNING_SECRET", environment_values={"production": "another"})
    assert await accepted()


async def test_headers_in_which_a_script_finds_a_secret_are_not_kept_in_the_clear(bench: Bench) -> None:
    source = await custom(bench, "function main() { return { verified: true } }")
    assert (await source.post(BODY, {"x-mine": "key=open-sesame", "x-other": "seen"})).status_code == 200
    event = await logged(bench, source)
    assert "x-mine" not in event["headers"]
    assert event["headers"]["x-other"] == "seen"


@pytest.mark.usefixtures("worker")
async def test_the_verdict_of_record(bench: Bench) -> None:
    """What a script that changed between receipt and execution says counts; that it fails does not."""
    source = await custom(bench, "function main() { return { verified: true } }", start_unmapped=True)
    answer = await source.post(BODY, HEADERS)
    assert (await bench.final(answer.json()["id"]))["verification_status"] == "enforced:verified"
    for script, status in (
        ("function main() { return { verified: Date.now() > 1e15 } }", "rejected"),
        ("function main() { throw 1 }", "succeeded"),
    ):
        event = await received_under_another_script(bench, source, script)
        assert event["status"] == status, event


async def received_under_another_script(bench: Bench, source: BenchSource, script: str) -> dict[str, Any]:
    """An event that a script verified at the edge, processed when the source has this one."""
    endpoint = bench.runtime.configuration.endpoint(bench.environment, source.key)
    assert endpoint is not None
    async with bench.runtime.engine.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE source_environments SET preprocess_script = %(script)s WHERE source_key = %(key)s",
            {"script": script, "key": source.key},
        )
    await bench.runtime.configuration.refresh()
    return await insert_and_wait(bench, source)


async def insert_and_wait(bench: Bench, source: BenchSource) -> dict[str, Any]:
    from app.events.inbox import Inbox
    from app.events.reception import ReceivedEvent
    from app.models.status import EventStatus, VerificationStatus
    from app.models.types import new_id, now

    event = ReceivedEvent(
        id=new_id(),
        environment=bench.environment,
        source_key=source.key,
        status=EventStatus.RECEIVED,
        verification_status=VerificationStatus.ENFORCED_VERIFIED,
        verification_reason=None,
        received_at=now(),
        body=BODY,
        headers={},
        sensitive_headers=None,
        event_type="user.identified",
    )
    await Inbox(bench.runtime.engine, maximum_queued=10, maximum_bytes=2**20).accept(event)
    return await bench.final(event.id)


async def test_saved_shown_and_refused(bench: Bench, api: Api) -> None:
    async def put(script: Any) -> Any:
        settings = {"settings": {"preprocess_script": script}}
        body = {"source": {"name": "Mine", "environment_settings": {bench.environment: settings}}}
        return await api.put("/v1/sources/mine", params={"environment": bench.environment}, json=body)

    script = {"language": "javascript", "source": PLAN}
    saved = (await put(script)).json()["source"]["environment_settings"]
    assert saved[bench.environment]["settings"]["preprocess_script"] == script
    assert saved["production"]["settings"]["preprocess_script"] is None
    field = f"source.environment_settings.{bench.environment}.settings.preprocess_script"
    for wrong, where in (
        ({"language": "javascript", "source": "function main( {"}, f"{field}.source"),
        ({"language": "javascript", "source": "const x = 1"}, f"{field}.source"),
        ({"language": "python", "source": PLAN}, f"{field}.language"),
        ({"language": "javascript"}, f"{field}.source"),
    ):
        refused = await put(wrong)
        assert (refused.status_code, [each["field"] for each in refused.json()["errors"]]) == (422, [where])
    assert (await put(None)).json()["source"]["environment_settings"][bench.environment]["settings"][
        "preprocess_script"
    ] is None


async def test_rehearsal(bench: Bench, api: Api) -> None:
    source = await custom(bench, PLAN)
    url = f"/v1/sources/{source.key}/script/rehearse"

    async def rehearse(**body: Any) -> Any:
        return await api.post(url, params={"environment": bench.environment}, json=body)

    sample = {"body": {"plan": "pro"}, "headers": {"X-Thing": "1"}}
    saved = (await rehearse(sample={**sample, "sign": True})).json()
    assert {**saved, "duration_ms": 0} == {
        "verified": True,
        "preprocess": {"plan": "pro"},
        "console": [],
        "error": None,
        "duration_ms": 0,
    }
    other = (
        "function main({ headers, secrets, rawBody }) {\n"
        " console.log(headers['x-thing'], secrets[0], rawBody);\n null.x\n}"
    )
    failed = (await rehearse(script={"language": "javascript", "source": other}, sample=sample)).json()
    assert failed["console"] == ['1 [redacted] {"plan":"pro"}']
    assert (failed["error"]["name"], failed["error"]["line"]) == ("TypeError", 3)
    bad = await rehearse(sample={"raw_body": "{"})
    assert [each["field"] for each in bad.json()["errors"]] == ["sample.raw_body"]
    assert await bench.rows("SELECT 1 FROM events WHERE source_key = :key", key=source.key) == []


async def test_variables(api: Api) -> None:
    assert (await api.get("/v1/variables/PLAN")).status_code == 404
    public = await set_variable(
        api, "PLAN", value="pro", description="The plan", environment_values={"production": "max"}
    )
    assert {name: public[name] for name in ("type", "value", "environment_values")} == {
        "type": "public",
        "value": "pro",
        "environment_values": {"production": "max"},
    }
    secret = await set_variable(
        api, "TOKEN", type="secret", value="open-sesame", environment_values={"production": "barley"}
    )
    assert (secret["value"], secret["environment_values"]) == ("[redacted]", {"production": "[redacted]"})
    # What is not given stays.
    assert (await set_variable(api, "TOKEN", description="x"))["value"] == "[redacted]"

    listed = await api.get("/v1/variables", params={"environment": "production"})
    assert "sesame" not in listed.text
    assert "barley" not in listed.text
    assert [(each["key"], each["value"]) for each in listed.json()["entries"]] == [
        ("PLAN", "max"),
        ("TOKEN", "[redacted]"),
    ]
    assert listed.json()["entries"][0].keys() == {
        "key",
        "type",
        "description",
        "value",
        "inserted_at",
        "updated_at",
    }
    only = await api.get("/v1/variables", params={"environment": "production", "type": "secret", "limit": 1})
    assert [each["key"] for each in only.json()["entries"]] == ["TOKEN"]
    assert (await api.get("/v1/variables/PLAN")).json() == public

    for key, variable, field in (
        ("TOKEN", {"type": "public"}, "variable.type"),
        ("1x", {"value": "a"}, "key"),
        ("PLAN", {"environment_values": {"nowhere": "a"}}, "variable.environment_values.nowhere"),
        ("PLAN", {"value": 5}, "variable.value"),
        ("PLAN", {"valeu": "a"}, "variable.valeu"),
    ):
        refused = await api.put(f"/v1/variables/{key}", json={"variable": variable})
        assert [each["field"] for each in refused.json()["errors"]] == [field], refused.text
    assert (await api.delete("/v1/variables/PLAN")).status_code == 204
    assert (await api.delete("/v1/variables/PLAN")).status_code == 404


async def test_variables_are_encrypted_at_rest(bench: Bench, api: Api) -> None:
    await set_variable(api, "TOKEN", type="secret", value="open-sesame")
    [row] = await bench.rows("SELECT ciphertext FROM variables")
    assert b"open-sesame" not in row["ciphertext"]
    await bench.runtime.configuration.refresh()
    source = await custom(bench, PLAN)
    endpoint = bench.runtime.configuration.endpoint(bench.environment, source.key)
    assert endpoint is not None
    assert endpoint.variables.values == {"TOKEN": "open-sesame"}
    assert "open-sesame" not in repr(endpoint)


KIND = "function main({ body, rawBody }) { return { verified: rawBody.startsWith('['), kind: body.type } }"


@pytest.mark.usefixtures("worker")
async def test_a_part_of_a_batch_keeps_on_replay_what_the_script_made_of_it(bench: Bench) -> None:
    source = await bench.source("segment", secret=None, preprocess_script=KIND)
    common = {"type": "identify", "timestamp": "2026-01-01T00:00:00Z"}
    batch = [{**common, "userId": f"u{n}", "messageId": f"m{n}"} for n in range(3)]
    answer = await source.post(orjson.dumps(batch), {})
    replayed = await replay(source, answer.json()["ids"][1])
    assert (replayed["status"], replayed["error"]) == ("succeeded", None)
    assert replayed["received_through"] == "batch"
    assert (await logged(bench, source))["preprocess_output"]["kind"] == "identify"


@pytest.mark.usefixtures("worker")
async def test_a_replay_of_a_call_runs_no_script_either(bench: Bench) -> None:
    identify = [("users_identify", {"id": "body.user_id"})]
    script = "function main() { throw new Error('a call has no signature') }"
    source = await bench.source(
        "census", secret=None, preprocess_script=script, mappings={"users:identify": identify}
    )
    call = Caller(bench, await source_key(source))

    async def accepted() -> bool:
        return (await call("PUT", "/v1/users/u1", json={})).status_code == 200

    await eventually(accepted)
    replayed = await replay(source, (await logged(bench, source))["id"])
    assert (replayed["status"], replayed["error"]) == ("succeeded", None)
    assert replayed["received_through"] == "source_key"


async def replay(source: BenchSource, event_id: object) -> dict[str, Any]:
    """The event that a replay with the mappings of now made, when it is over."""
    path = f"/v1/sources/{source.key}/logs/{event_id}/replay"
    answer = await source.bench.api.post(path, json={"replay": {"mappings": "current"}})
    assert answer.status_code == 201, answer.text
    return await source.bench.final(answer.json()["replay"]["log_id"])


DERIVES = """
let calls = 0;
function main({ body, rawBody, headers, verification }) {
  if (body.type === "broken") throw new Error("broken");
  calls += 1;
  const verified = headers["x-key"] === "open-sesame" && rawBody.includes(body.messageId);
  return { verified, type: `${body.type}/${body.name ?? "none"}`.toLowerCase() };
}
"""


def derived(*names: str) -> list[dict[str, str]]:
    common = {"type": "Track", "timestamp": "2026-01-01T00:00:00Z"}
    return [{**common, "name": each, "userId": f"u-{each}", "messageId": f"m-{each}"} for each in names]


async def deriving(bench: Bench, provider: str = "segment", **settings: Any) -> BenchSource:
    """A source whose script makes the event type."""
    mappings = {"track/a": [("users_identify", {"id": "body.userId"})]}
    given = {"mappings": mappings, "event_type_path": "preprocess.type", "enforce_verification": True}
    given |= settings
    return await bench.source(provider, secret=None, preprocess_script=DERIVES, **given)


async def types_of(bench: Bench, source: BenchSource) -> list[tuple[str | None, str]]:
    rows = await bench.rows(
        "SELECT event_type, status FROM events WHERE source_key = :key ORDER BY id", key=source.key
    )
    return [(row["event_type"], row["status"]) for row in rows]


async def test_the_script_runs_for_each_event_of_an_array(bench: Bench) -> None:
    source = await deriving(bench)
    answer = await source.post(orjson.dumps(derived("A", "B")), {"x-key": "open-sesame"})
    assert answer.status_code == 200, answer.text
    assert await types_of(bench, source) == [("track/a", "received"), ("track/b", "received")]
    row = await logged(bench, source)
    assert (row["verification_status"], row["error"]) == ("enforced:verified", None)
    # All of them must verify, and one that fails is no way around.
    assert (await source.post(orjson.dumps(derived("A", "B")), {})).status_code == 401
    broken = [*derived("A"), {"type": "broken", "messageId": "x"}]
    refused = await source.post(orjson.dumps(broken), {"x-key": "open-sesame"})
    assert refused.status_code == 401
    assert "the source's script failed with Error" in refused.json()["message"]


async def test_an_event_whose_script_fails_is_noted_alone(bench: Bench) -> None:
    source = await deriving(bench, enforce_verification=False)
    batch = [*derived("A"), {"type": "broken", "messageId": "x"}, *derived("B")]
    assert (await source.post(orjson.dumps(batch), {"x-key": "open-sesame"})).status_code == 200
    assert [each[0] for each in await types_of(bench, source)] == ["track/a", None, "track/b"]
    rows = await bench.rows(
        "SELECT error FROM events WHERE source_key = :key AND event_type IS NULL", key=source.key
    )
    assert "the source's script failed: Error: broken (line 4)" in rows[0]["error"]


@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch"])
async def test_the_script_runs_for_each_event_of_a_library(bench: Bench, path: str) -> None:
    source = await deriving(bench)
    events = derived("A") if path == "/v1/track" else derived("A", "B")
    body = events[0] if path == "/v1/track" else {"batch": events}
    headers = {"x-write-key": source.token}
    refused = await bench.api.post(path, json=body, headers=headers)
    assert refused.status_code == 401
    answer = await bench.api.post(path, json=body, headers={**headers, "x-key": "open-sesame"})
    assert answer.status_code == 200, answer.text
    expected = [("track/a", "received"), ("track/b", "received")][: len(events)]
    assert (await types_of(bench, source))[1:] == expected


async def test_a_large_batch_costs_a_few_calls(bench: Bench) -> None:
    source = await deriving(bench, start_unmapped=False)
    names = [f"N{number}" for number in range(60)]
    answer = await source.post(orjson.dumps(derived(*names)), {"x-key": "open-sesame"})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["ids"]) == 60
    assert (await types_of(bench, source))[-1] == ("track/n59", "ignored")


async def test_a_batch_that_takes_its_script_too_long_is_refused_with_the_limit(bench: Bench) -> None:
    slow = "function main() { const end = 2e6; let n = 0; while (n < end) n += 1; return { verified: true } }"
    source = await bench.source("segment", secret=None, preprocess_script=slow, enforce_verification=True)
    answer = await source.post(orjson.dumps(derived(*map(str, range(4000)))), {})
    assert answer.status_code == 401
    assert "TimeLimitExceeded" in answer.json()["message"]
