"""Rehearsals, replays and the detail of an event, over HTTP and through real Temporal."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.settings import Settings
from app.models.environment import Environment
from app.models.types import new_id
from app.replays import one as reruns
from app.runtime.resources import Runtime
from tests.api.management.conftest import fields
from tests.bench import Api, Bench, BenchSource
from tests.conftest import ADMIN_TOKEN, serve_api
from tests.knock import KnockServer, error
from tests.servers import eventually

TRIGGER = {"key": "paid", "recipients": "body.data.object.customer"}
MAPPINGS = {
    "invoice.paid": [
        ("users_identify", {"id": "body.data.object.customer", "email": "body.data.object.customer_email"}),
        ("workflows_trigger", TRIGGER),
    ]
}


@pytest.fixture
async def source(bench: Bench, knock: KnockServer) -> BenchSource:
    """A Stripe source with two actions, against the stand-in for Knock."""
    await bench.use_destination(knock.url)
    return await bench.source("stripe", mappings=MAPPINGS)


async def rehearse(source: BenchSource, payload: Any) -> httpx.Response:
    return await source.bench.api.post(
        f"/v1/sources/{source.key}/rehearse",
        params={"environment": source.bench.environment},
        json={"payload": payload},
    )


async def replayed(source: BenchSource, event_id: object, **how: str) -> dict[str, Any]:
    """The event that a replay made, when it is over."""
    answer = await source.bench.api.post(
        f"/v1/sources/{source.key}/logs/{event_id}/replay", json={"replay": how}
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["replay"]["replay_of"] == str(event_id)
    return await source.bench.final(answer.json()["replay"]["log_id"])


def invoice(customer: str = "cus_1", **changes: Any) -> dict[str, Any]:
    paid = {"customer": customer, "customer_email": "ada@example.com"}
    return {"id": "evt_1", "type": "invoice.paid", "data": {"object": paid}, **changes}


@pytest.mark.usefixtures("worker")
async def test_a_rehearsal_goes_the_whole_way_each_time(source: BenchSource, knock: KnockServer) -> None:
    for _ in range(2):
        answer = await rehearse(source, {"body": invoice(), "headers": {"Content-Type": "application/json"}})
        assert answer.status_code == 200, answer.text
        result = answer.json()
        log_id = result.pop("log_id")
        assert result == {
            "status": "ok",
            "action_logs_count": 2,
            "successful_action_logs_count": 2,
            "failed_action_logs_count": 0,
            "errors": None,
        }
    assert len(knock.calls) == 4, "idempotency holds no rehearsal back"
    assert len({call.idempotency_key for call in knock.calls}) == 4
    logs = await source.bench.api.get(
        f"/v1/sources/{source.key}/logs", params={"environment": source.bench.environment, "id": log_id}
    )
    (entry,) = logs.json()["entries"]
    assert (entry["source"], entry["status"]) == ("rehearsal", "succeeded")
    assert entry["verification_status"] == "not_enforced:failed"
    assert entry["headers"] == {"content-type": "application/json"}


@pytest.mark.usefixtures("worker")
async def test_a_rehearsal_names_what_failed(source: BenchSource, knock: KnockServer) -> None:
    knock.answers.append(error(422, "invalid_params", "email is not an address"))
    result = (await rehearse(source, invoice())).json()
    assert result["status"] == "error"
    assert (result["action_logs_count"], result["failed_action_logs_count"]) == (2, 1)
    assert result["errors"] == [
        {"field": "users_identify", "message": "422 invalid_params: email is not an address"}
    ]
    result = (await rehearse(source, {"id": "evt_2", "created": 1_767_225_600})).json()
    assert result["status"] == "error"
    assert result["errors"] == [
        {"field": "event", "message": "event type: body.type has no value in this event"}
    ]
    unmapped = (await rehearse(source, invoice(type="charge.refunded"))).json()
    assert (unmapped["status"], unmapped["action_logs_count"], unmapped["errors"]) == ("ok", 0, None)


async def test_a_rehearsal_without_a_worker_says_so(
    source: BenchSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reruns, "REHEARSAL_DEADLINE", 0.3)
    result = (await rehearse(source, invoice())).json()
    assert result["status"] == "error"
    assert result["log_id"] is not None
    assert "is a worker that serves" in result["errors"][0]["message"]


async def test_rehearsals_that_are_refused(source: BenchSource, runtime: Runtime) -> None:
    assert fields(await rehearse(source, {"body": [], "headers": {"a": 1}, "x": 1})) == [
        "payload.x",
        "payload.body",
        "payload.headers.a",
    ]
    path = f"/v1/sources/{source.key}/rehearse"
    api = source.bench.api
    assert fields(await api.post(path, json={})) == ["environment", "payload"]
    async with AsyncSession(runtime.engine) as session:
        (await session.get_one(Environment, source.bench.environment)).is_production = True
        await session.commit()
    assert fields(await rehearse(source, invoice())) == ["environment"]
    assert await source.bench.rows("SELECT id FROM events WHERE source_key = :key", key=source.key) == []
    missing = await api.post("/v1/sources/none/rehearse?environment=development", json={"payload": {}})
    assert missing.status_code == 404


@pytest.mark.usefixtures("worker")
async def test_a_replay_runs_the_mappings_of_now(source: BenchSource, knock: KnockServer) -> None:
    original = await source.bench.final(await source.send("invoice.paid"))
    async with source.bench.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE mappings SET active = (action_type = 'users_identify')"))
    await source.bench.runtime.configuration.refresh()
    async with source.bench.runtime.engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM mappings WHERE active")) == 1
    event = await replayed(source, original["id"], mappings="current")
    assert event["status"] == "succeeded"
    assert (event["origin"], event["replay_of"]) == ("replay", original["id"])
    assert event["idempotency_key"] == original["idempotency_key"]
    assert event["workflow_id"] != original["workflow_id"]
    assert event["verification_status"] == "enforced:verified"
    assert [each["action_type"] for each in await source.bench.actions(event["id"])] == ["users_identify"]
    first, *_, last = knock.calls
    assert first.body == last.body
    assert first.idempotency_key != last.idempotency_key, "asked for by hand, it is sent again"


@pytest.mark.usefixtures("worker")
async def test_a_replay_as_then_sends_what_did_not_arrive(source: BenchSource, knock: KnockServer) -> None:
    knock.answers.append(error(422, "invalid_params", "not yet"))
    original = await source.bench.final(await source.send("invoice.paid"))
    assert original["status"] == "failed"
    async with source.bench.runtime.engine.begin() as connection:
        await connection.execute(text("DELETE FROM mappings"))
    event = await replayed(source, original["id"], mappings="original")
    assert event["status"] == "succeeded"
    identify, _, again = knock.calls
    assert (again.path, again.body, again.idempotency_key) == (
        identify.path,
        identify.body,
        identify.idempotency_key,
    )
    whole = await replayed(source, event["id"], mappings="original")
    assert whole["status"] == "succeeded"
    assert knock.calls[-1].body == identify.body
    assert knock.calls[-1].idempotency_key != identify.idempotency_key


@pytest.mark.usefixtures("worker")
async def test_a_rejected_event_is_replayed_once_it_verifies(source: BenchSource, runtime: Runtime) -> None:
    body = source.example("invoice.paid")
    new_secret = "whsec_bmV3LXNlY3JldC1vZi10aGUtc2VuZGVy"
    answer = await source.post(body, source.signed(body, new_secret))
    assert answer.status_code == 401
    (rejected,) = await source.bench.rows("SELECT * FROM events WHERE source_key = :k", k=source.key)
    path = f"/v1/sources/{source.key}/logs/{rejected['id']}/replay"
    assert fields(await source.bench.api.post(path)) == ["id"]
    added = await source.bench.api.post(
        f"/v1/sources/{source.key}/secrets?environment={source.bench.environment}",
        json={"secret": {"value": new_secret}},
    )
    assert added.status_code == 201, added.text
    event = await replayed(source, rejected["id"])
    assert (event["status"], event["verification_status"]) == ("succeeded", "enforced:verified")


async def test_replays_that_are_refused(source: BenchSource) -> None:
    api = source.bench.api
    missing = await api.post(f"/v1/sources/{source.key}/logs/{new_id()}/replay")
    assert missing.status_code == 404
    identifier = await source.send("invoice.paid")
    elsewhere = await api.post(f"/v1/sources/none/logs/{identifier}/replay")
    assert elsewhere.status_code == 404
    path = f"/v1/sources/{source.key}/logs/{identifier}/replay"
    assert fields(await api.post(path, json={"replay": {"mappings": "old"}})) == ["replay.mappings"]
    assert fields(await api.post(path, json={"replay": {"mappings": "original"}})) == ["id"]
    async with source.bench.runtime.engine.begin() as connection:
        await connection.execute(text("DELETE FROM event_payloads"))
    gone = await api.post(path)
    assert (gone.status_code, gone.json()["code"]) == (409, "payload_missing")
    (count,) = await source.bench.rows("SELECT count(*) FROM events")
    assert count == {"count": 1}, "a refused replay leaves nothing behind"


# The first statement that adds actions is cancelled, as by a server that shuts down.
FAIL_ONCE = (
    "CREATE SEQUENCE failures",
    """CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('failures') = 1 THEN RAISE EXCEPTION 'shutting down' USING ERRCODE = 'admin_shutdown'; END IF;
    RETURN NULL; END $$""",
    "CREATE TRIGGER fails_once BEFORE INSERT ON actions FOR EACH STATEMENT EXECUTE FUNCTION fail_once()",
)


async def detail(source: BenchSource, identifier: object, api: Api | None = None) -> dict[str, Any]:
    answer = await (api or source.bench.api).get(f"/v1/sources/{source.key}/logs/{identifier}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.usefixtures("worker")
async def test_the_timeline_shows_every_attempt(source: BenchSource, knock: KnockServer) -> None:
    # Until a wait for the next attempt was seen.
    knock.answers.extend(error(503, "unavailable", "down", retry_after="1") for _ in range(99))
    identifier = await source.send("invoice.paid")

    async def waiting() -> dict[str, Any] | None:
        shown = (await detail(source, identifier))["timeline"]
        retried = [each for each in shown["pending"] if each["next_attempt_at"] is not None]
        return {**shown, "retried": retried} if retried else None

    shown = await eventually(waiting)
    assert shown["status"] == "running"
    (pending,) = shown["retried"]
    assert pending["name"] == "users_identify"
    assert pending["last_failure"].startswith("http_503")
    assert pending["attempt"] > 1
    knock.answers.clear()

    event = await source.bench.final(identifier)
    assert event["status"] == "succeeded"

    async def closed() -> dict[str, Any] | None:
        shown = await detail(source, identifier)
        return shown if shown["timeline"]["status"] == "completed" else None

    entry = await eventually(closed)
    assert entry["headers"]["stripe-signature"]
    assert [each["action_status"] for each in entry["actions"]] == ["success", "success"]
    steps = [(each["kind"], each["name"], each["status"]) for each in entry["timeline"]["steps"]]
    assert steps == [
        ("workflow", "ProcessEvent", "started"),
        ("local_activity", "verify_event", "completed"),
        ("local_activity", "map_event", "completed"),
        ("local_activity", "users_identify", "failed"),
        ("timer", "waits 1 s", "completed"),
        ("activity", "users_identify", "completed"),
        ("local_activity", "workflows_trigger", "completed"),
        ("local_activity", "record_outcome", "completed"),
        ("workflow", "closes", "completed"),
    ]
    regular = entry["timeline"]["steps"][5]
    first_try, *attempts, _trigger = knock.calls
    assert (first_try.method, regular["attempt"]) == ("PUT", len(attempts))
    assert regular["failure"].startswith("http_503")
    assert regular["scheduled_at"] < regular["started_at"] <= regular["finished_at"]
    assert entry["timeline"]["pending"] == []


@pytest.mark.usefixtures("worker")
async def test_steps_go_on_one_by_one_when_the_first_try_fails(source: BenchSource, runtime: Runtime) -> None:
    """Postgres is out of reach just when the first try stores the actions."""
    async with runtime.engine.begin() as connection:
        for statement in FAIL_ONCE:
            await connection.execute(text(statement))
    event = await source.bench.final(await source.send("invoice.paid"))
    assert event["status"] == "succeeded"

    async def closed() -> dict[str, Any] | None:
        shown: dict[str, Any] = (await detail(source, event["id"]))["timeline"]
        return shown if shown["status"] == "completed" else None

    steps = (await eventually(closed))["steps"]
    assert [(each["name"], each["status"]) for each in steps] == [
        ("ProcessEvent", "started"),
        ("try_event", "failed"),
        ("verify_event", "completed"),
        ("map_event", "completed"),
        ("users_identify", "completed"),
        ("workflows_trigger", "completed"),
        ("record_outcome", "completed"),
        ("closes", "completed"),
    ]


@pytest.fixture
async def cut_off(settings: Settings, runtime: Runtime) -> AsyncIterator[Api]:
    """An API process whose Temporal is away."""
    away = settings.model_copy(
        update={"temporal_address": "127.0.0.1:9", "admin_token": SecretStr(ADMIN_TOKEN)}
    )
    async with serve_api(away) as url, Api(base_url=url, token=ADMIN_TOKEN) as client:
        yield client


@pytest.mark.usefixtures("worker")
async def test_without_temporal_the_entry_is_shown_all_the_same(source: BenchSource, cut_off: Api) -> None:
    event = await source.bench.final(await source.send("invoice.paid"))
    entry = await asyncio.wait_for(detail(source, event["id"], cut_off), 60)
    assert (entry["status"], entry["timeline"]["steps"]) == ("succeeded", [])
    assert "Temporal" in entry["timeline"]["reason"]
    assert len(entry["actions"]) == 2


async def test_an_event_without_a_run_has_no_timeline(source: BenchSource) -> None:
    identifier = await source.send("invoice.paid")
    assert (await detail(source, identifier))["timeline"]["reason"] == "the event has no workflow run"
    missing = await source.bench.api.get(f"/v1/sources/{source.key}/logs/{new_id()}")
    assert missing.status_code == 404
