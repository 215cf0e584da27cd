"""An event's whole way: from the HTTP request to event log and action log, through real Temporal."""

import asyncio
import base64
import re

import pytest
from starlette.responses import JSONResponse, Response
from temporalio.client import Client, WorkflowExecutionStatus

from tests.bench import Bench, closed_history
from tests.knock import KnockServer, error
from tests.servers import eventually

pytestmark = pytest.mark.usefixtures("worker")

IDENTIFY_AND_TRIGGER = {
    "invoice.paid": [
        (
            "workflows_trigger",
            {"key": "invoice-paid", "recipients": "body.data.object.customer", "data": "body.data.object"},
        ),
        (
            "users_identify",
            {
                "id": "body.data.object.customer",
                "email": "body.data.object.customer_email",
                "properties": {"plan": {"value": "pro"}, "currency": "body.data.object.currency"},
            },
        ),
    ]
}


async def test_identify_then_trigger_against_knock(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url, "sk_test_123")
    source = await bench.source("stripe", mappings=IDENTIFY_AND_TRIGGER)
    event = await bench.final(await source.send("invoice.paid"))
    assert event["status"] == "succeeded", event["error"]
    assert event["workflow_id"].startswith(f"event/{bench.environment}/{source.key}/")
    assert event["lease_expires_at"] is None

    identify, trigger = knock.calls
    assert (identify.method, identify.path) == ("PUT", "/v1/users/cus_QXg1o8vcGmoR32")
    assert identify.body == {"email": "ada@example.com", "plan": "pro", "currency": "usd"}
    assert identify.headers["authorization"] == "Bearer sk_test_123"
    assert trigger.path == "/v1/workflows/invoice-paid/trigger"
    assert trigger.body["recipients"] == ["cus_QXg1o8vcGmoR32"]
    assert trigger.body["data"]["amount_paid"] == 4999
    assert len({identify.idempotency_key, trigger.idempotency_key}) == 2

    first, second = await bench.actions(event["id"])
    assert (first["action_type"], second["action_type"]) == ("users_identify", "workflows_trigger")
    for action in (first, second):
        assert action["status"] == "succeeded"
        assert action["attempts"] == 1
        assert action["started_at"] <= action["finished_at"]
    assert second["result"] == {"workflow_run_id": "123e4567-e89b-12d3-a456-426614174000"}
    assert second["payload"]["recipients"] == ["cus_QXg1o8vcGmoR32"]
    assert second["parameters"]["recipients"] == "body.data.object.customer"


async def test_against_the_embedded_directory(bench: Bench) -> None:
    source = await bench.source("stripe", mappings=IDENTIFY_AND_TRIGGER)
    event = await bench.final(await source.send("invoice.paid"))
    assert event["status"] == "succeeded", await bench.actions(event["id"])
    users = await bench.rows(
        "SELECT * FROM directory_recipients WHERE environment = :slug", slug=bench.environment
    )
    assert [user["id"] for user in users] == ["cus_QXg1o8vcGmoR32"]
    assert users[0]["properties"]["email"] == "ada@example.com"


async def test_run_is_findable_and_tells_no_payload(bench: Bench, temporal: Client) -> None:
    source = await bench.source("stripe", mappings=IDENTIFY_AND_TRIGGER)
    event = await bench.final(await source.send("invoice.paid"))
    history = (await closed_history(temporal, event)).to_json()
    description = await temporal.get_workflow_handle(event["workflow_id"], run_id=event["run_id"]).describe()
    assert await description.static_summary() == f"{source.key}: invoice.paid"
    query = f"DoorbellSource = '{source.key}' AND DoorbellEventType = 'invoice.paid'"

    async def found() -> bool:
        return [each.id async for each in temporal.list_workflows(query)] == [event["workflow_id"]]

    await eventually(found)
    names = ["verify_event", "map_event", "users_identify", "workflows_trigger", "record_outcome"]
    shown = history + "".join(
        base64.b64decode(each).decode(errors="replace") for each in re.findall(r'"data": "([^"]+)"', history)
    )
    for name in names:
        assert name in shown
    for secret in ("ada@example.com", "cus_QXg1o8vcGmoR32", source.secret or "-", "4999"):
        assert secret not in shown


@pytest.mark.parametrize(
    "answer",
    [
        error(500, "internal_error", "something broke"),
        error(429, "too_many_requests", "slow down", retry_after="1"),
        error(409, "conflict", "try again"),
        Response("gateway says no", status_code=502),
    ],
    ids=["500", "429", "409", "502"],
)
async def test_passing_trouble_is_retried_with_the_same_request(
    bench: Bench, knock: KnockServer, answer: Response
) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe")
    knock.answers.append(answer)
    knock.answers.append(answer)
    event = await bench.final(await source.send("invoice.paid"))
    assert event["status"] == "succeeded"
    assert len(knock.calls) == 3
    assert len({call.idempotency_key for call in knock.calls}) == 1
    assert knock.calls[0].body == knock.calls[1].body == knock.calls[2].body
    action = (await bench.actions(event["id"]))[0]
    assert action["attempts"] == 3
    assert action["error"] is None


async def test_retries_are_visible_while_they_last(
    bench: Bench, knock: KnockServer, temporal: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe")
    # Until all was seen.
    knock.answers.extend(
        error(503, "unavailable", "down for maintenance", retry_after="1") for _ in range(99)
    )
    identifier = await source.send("invoice.paid")

    async def pending() -> str | None:
        event = await bench.event(identifier)
        actions = await bench.actions(identifier)
        if not actions or actions[0]["error"] is None:
            return None
        assert actions[0]["status"] == "pending"
        assert event["status"] == "processing"
        return str(actions[0]["error"])

    assert await eventually(pending) == "503 unavailable: down for maintenance"

    async def seen_in_temporal() -> bool:
        found = [each async for each in temporal.list_workflows(f"DoorbellSource = '{source.key}'")]
        if not found:
            return False
        description = await temporal.get_workflow_handle(found[0].id).describe()
        activities = description.raw_description.pending_activities
        return bool(activities) and activities[0].activity_type.name == "workflows_trigger"

    await eventually(seen_in_temporal)
    knock.answers.clear()
    assert (await bench.final(identifier))["status"] == "succeeded"
    assert not [each for each in caplog.records if each.name == "temporalio.activity"], "no traceback of them"


async def test_timeouts_and_dropped_connections_are_retried(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination("http://127.0.0.1:9")
    source = await bench.source("stripe")
    identifier = await source.send("invoice.paid")

    async def refused() -> bool:
        actions = await bench.actions(identifier)
        return bool(actions) and "no connection" in (actions[0]["error"] or "")

    await eventually(refused)
    await bench.use_destination(knock.url)
    event = await bench.final(identifier)
    assert event["status"] == "succeeded"


async def test_refused_by_knock_fails_at_once_with_its_text(
    bench: Bench, knock: KnockServer, temporal: Client
) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=IDENTIFY_AND_TRIGGER)
    knock.answers.append(error(422, "invalid_params", "email is not an address"))
    event = await bench.final(await source.send("invoice.paid"))
    assert event["status"] == "failed"
    assert event["error"] == "1 action failed: users_identify: 422 invalid_params: email is not an address"
    identify, trigger = await bench.actions(event["id"])
    assert identify["status"] == "failed"
    assert identify["error"] == "422 invalid_params: email is not an address"
    assert trigger["status"] == "succeeded", "one failure does not stop the others"

    async def failed_in_temporal() -> bool:
        description = await temporal.get_workflow_handle(event["workflow_id"]).describe()
        return description.status is WorkflowExecutionStatus.FAILED

    await eventually(failed_in_temporal)


async def test_missing_field_skips_that_action_and_names_it(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    mappings = {
        "invoice.paid": [
            ("users_identify", {"id": "body.data.object.nobody", "email": "body.data.object.customer_email"}),
            ("workflows_trigger", {"key": "paid", "recipients": "body.data.object.customer"}),
        ]
    }
    source = await bench.source("stripe", mappings=mappings)
    event = await bench.final(await source.send("invoice.paid"))
    assert event["status"] == "succeeded"
    actions = {each["action_type"]: each for each in await bench.actions(event["id"])}
    assert actions["users_identify"]["status"] == "skipped"
    assert actions["users_identify"]["error"] == (
        "id is required and body.data.object.nobody has no value in this event"
    )
    assert actions["workflows_trigger"]["status"] == "succeeded"
    assert len(knock.calls) == 1


async def test_mismatch_fails_that_action_and_names_it(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    mappings = {
        "invoice.paid": [("users_identify", {"id": "body.data", "email": "body.data.object.customer"})]
    }
    source = await bench.source("stripe", mappings=mappings)
    event = await bench.final(await source.send("invoice.paid"))
    assert event["status"] == "failed"
    action = (await bench.actions(event["id"]))[0]
    assert action["error"].startswith("id: body.data is an object with 1 entries, expected an id")
    assert not knock.calls


async def test_unmapped_event_is_ignored_with_a_run_to_look_at(bench: Bench, temporal: Client) -> None:
    source = await bench.source("stripe")
    event = await bench.final(await source.send("invoice.paid", type="charge.refunded"))
    assert event["status"] == "ignored"
    assert event["error"] == "no active mapping for this event type"
    await closed_history(temporal, event)


async def test_many_at_once(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=IDENTIFY_AND_TRIGGER)
    customers = [{"object": {"customer": f"cus_{number}"}} for number in range(40)]
    identifiers = await asyncio.gather(*(source.send("invoice.paid", data=each) for each in customers))
    events = [await bench.final(identifier) for identifier in identifiers]
    assert {event["status"] for event in events} == {"succeeded"}
    assert len(knock.calls) == 80


async def test_answers_that_are_no_json_count_as_permanent(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe")
    knock.answers.append(JSONResponse({"unexpected": True}, 404))
    event = await bench.final(await source.send("invoice.paid"))
    assert event["status"] == "failed"
    assert (await bench.actions(event["id"]))[0]["error"].startswith("404")
