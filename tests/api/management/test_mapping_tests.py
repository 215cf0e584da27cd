"""Mappings tested on payloads, stored events and samples: what the test shows is what a worker does."""

from typing import Any

import httpx
import orjson
import pytest

from tests.api.management.conftest import fields
from tests.bench import Bench, BenchSource
from tests.knock import KnockServer

MAPPINGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "invoice.paid": [
        (
            "workflows_trigger",
            {
                "key": "paid",
                "recipients": "body.data.object.customer",
                "data": {"amount": "body.data.object.amount_paid", "kind": {"value": "invoice"}},
                "tenant": "body.nowhere",
            },
        ),
        ("users_identify", {"id": "body.data.object.customer", "email": "body.data.object.customer_email"}),
    ]
}


def invoice(**customer: Any) -> dict[str, Any]:
    paid = {"customer": "cus_1", "customer_email": "ada@example.com", "amount_paid": 5, **customer}
    return {"id": "evt_1", "type": "invoice.paid", "data": {"object": paid}}


async def ask(
    source: BenchSource, event_type: str, environment: str | None = None, **on: Any
) -> httpx.Response:
    return await source.bench.api.post(
        f"/v1/sources/{source.key}/mappings/test",
        params={"environment": environment or source.bench.environment},
        json={"event_type": event_type, **on},
    )


async def evaluated(source: BenchSource, event_type: str, **on: Any) -> dict[str, Any]:
    answer = await ask(source, event_type, **on)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def by_name(mapping: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in mapping["parameters"]}


async def test_each_parameter_of_a_payload_in_the_order_of_execution(bench: Bench) -> None:
    source = await bench.source("stripe", mappings=MAPPINGS)
    found = await evaluated(source, "invoice.paid", payload={"body": invoice(), "headers": {"X-A": "1"}})
    assert (found["origin"], found["log_id"], found["identified_as"]) == ("payload", None, "invoice.paid")
    identify, trigger = found["mappings"]
    assert (identify["action_type"], identify["status"]) == ("users_identify", "runs")
    assert (trigger["action_type"], trigger["status"], trigger["error"]) == (
        "workflows_trigger",
        "runs",
        None,
    )
    assert trigger["payload"] == {
        "key": "paid",
        "recipients": ["cus_1"],
        "data": {"amount": 5, "kind": "invoice"},
    }
    parameters = by_name(trigger)
    assert parameters["recipients"]["template"] == "body.data.object.customer"
    assert parameters["recipients"]["value"] == ["cus_1"]
    assert (parameters["tenant"]["has_value"], parameters["tenant"]["error"]) == (False, None)
    assert "cancellation_key" not in parameters
    assert await bench.rows("SELECT id FROM events") == []
    assert await bench.rows("SELECT id FROM actions") == []


async def test_all_that_is_wrong_is_named_not_the_first_only(bench: Bench) -> None:
    source = await bench.source(
        "stripe",
        mappings={
            "invoice.paid": [
                (
                    "workflows_trigger",
                    {
                        "key": "body.none",
                        "recipients": "body.data.object.customer",
                        "data": "body.type",
                    },
                )
            ]
        },
    )
    found = await evaluated(source, "invoice.paid", payload=invoice(customer=True))
    [mapping] = found["mappings"]
    parameters = by_name(mapping)
    assert (mapping["status"], mapping["payload"]) == ("skipped", None)
    assert mapping["error"] == parameters["key"]["error"]
    assert "body.none has no value" in parameters["key"]["error"]
    assert "body.data.object.customer is a boolean (true)" in parameters["recipients"]["error"]
    assert "body.type is a string" in parameters["data"]["error"]
    # The worker's first is what decides: without the missing key, the action fails for the next.
    other = await evaluated(source, "invoice.paid", payload={**invoice(customer=True), "none": "paid"})
    assert other["mappings"][0]["status"] == "failed"


@pytest.mark.usefixtures("worker")
async def test_a_test_says_what_the_worker_then_does(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=MAPPINGS)
    before = await evaluated(source, "invoice.paid")
    assert before["origin"] == "example"
    event_id = await source.send("invoice.paid")
    await bench.final(event_id)
    found = await evaluated(source, "invoice.paid", log_id=event_id)
    assert (found["origin"], found["log_id"]) == ("received", event_id)
    rows = await bench.rows("SELECT mapping_id, payload FROM actions")
    assert {str(row["mapping_id"]): row["payload"] for row in rows} == {
        each["mapping_id"]: each["payload"] for each in found["mappings"]
    }
    assert [each["payload"] for each in before["mappings"]] == [each["payload"] for each in found["mappings"]]
    latest = await evaluated(source, "invoice.paid")
    assert (latest["origin"], latest["log_id"]) == ("received", event_id)


async def test_the_script_of_now_preprocesses(bench: Bench) -> None:
    source = await bench.source(
        "custom_http",
        secret=None,
        enforce_verification=False,
        event_type_path="body.kind",
        preprocess_script=(
            "function main({ body }) { return { verified: true, upper: body.name.toUpperCase() } }"
        ),
        mappings={"joined": [("users_identify", {"id": "body.id", "name": "preprocess.upper"})]},
    )
    payload = {"kind": "joined", "id": "u1", "name": "ada"}
    found = await evaluated(source, "joined", payload=payload)
    assert found["preprocess"] == {"upper": "ADA"}
    assert found["mappings"][0]["payload"] == {"id": "u1", "name": "ADA"}
    failed = await evaluated(source, "joined", payload={"kind": "joined", "id": "u1"})
    assert "script failed" in failed["error"]
    assert by_name(failed["mappings"][0])["name"]["has_value"] is False


async def test_a_part_of_a_batch_is_preprocessed_by_itself(bench: Bench) -> None:
    source = await bench.source(
        "segment",
        secret=None,
        preprocess_script="function main({ body }) { return { verified: true, size: body.userId.length } }",
        mappings={
            "identify": [("users_identify", {"id": "body.userId", "properties": {"size": "preprocess.size"}})]
        },
    )
    call = {"type": "identify", "timestamp": "2026-01-15T12:00:00Z"}
    batch = [{**call, "userId": f"u{n}", "messageId": f"m{n}"} for n in range(3)]
    answer = await source.post(orjson.dumps(batch), {})
    assert answer.status_code == 200, answer.text
    found = await evaluated(source, "identify", log_id=answer.json()["ids"][1])
    assert (found["identified_as"], found["error"]) == ("identify", None)
    assert found["mappings"][0]["payload"] == {"id": "u1", "properties": {"size": 2}}


async def test_sensitive_values_are_not_there(bench: Bench) -> None:
    source = await bench.source(
        "supabase",
        mappings={
            "auth.users.INSERT": [
                ("users_identify", {"id": "body.record.id", "name": "body.record.encrypted_password"})
            ]
        },
    )
    record = {"id": "u1", "encrypted_password": "$2a$10$secret"}
    payload = {"type": "INSERT", "table": "users", "schema": "auth", "record": record, "old_record": None}
    answer = await ask(source, "auth.users.INSERT", payload=payload)
    assert answer.status_code == 200, answer.text
    assert "$2a$10$secret" not in answer.text
    assert answer.json()["mappings"][0]["payload"] == {"id": "u1"}


async def test_inactive_mappings_are_tested_and_say_so(bench: Bench) -> None:
    source = await bench.source("stripe", mappings=MAPPINGS)
    where = {"environment": bench.environment}
    url = f"/v1/sources/{source.key}/mappings"
    mapping = (await bench.api.get(url, params=where)).json()["entries"][0]
    changed = {"mapping": {**mapping, "active": False}}
    assert (await bench.api.put(f"{url}/{mapping['id']}", params=where, json=changed)).status_code == 200
    found = await evaluated(source, "invoice.paid", payload=invoice())
    assert {each["mapping_id"]: each["active"] for each in found["mappings"]}[mapping["id"]] is False
    assert sorted(each["active"] for each in found["mappings"]) == [False, True]


async def test_another_type_or_none(bench: Bench) -> None:
    source = await bench.source("stripe", mappings=MAPPINGS)
    other = await evaluated(source, "invoice.paid", payload={"type": "charge.failed"})
    assert other["identified_as"] == "charge.failed"
    assert {each["status"] for each in other["mappings"]} == {"skipped"}
    none = await evaluated(source, "charge.failed", payload={"type": "charge.failed"})
    assert none["mappings"] == []


async def test_what_cannot_be_tested(bench: Bench) -> None:
    source = await bench.source("stripe", mappings=MAPPINGS)
    gone = "01a20df1-e8fc-72f9-a988-19f172a42afd"
    assert (await ask(source, "invoice.paid", log_id=gone)).status_code == 404
    assert (await ask(source, "never.seen")).status_code == 404
    assert fields(await ask(source, "invoice.paid", payload={"body": 1})) == ["payload.body"]
    assert fields(await ask(source, "invoice.paid", environment="nowhere")) == ["environment"]
    assert fields(await ask(source, "", payload={})) == ["event_type"]

    event_id = await source.send("invoice.paid")
    stranger = await bench.source("stripe")
    assert (await ask(stranger, "invoice.paid", log_id=event_id)).status_code == 404

    async with bench.runtime.engine.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM event_payloads")
    assert (await ask(source, "invoice.paid", log_id=event_id)).status_code == 409
