"""Failure alerts: once in a window however many workers look, delivered by webhook and email, failures
visible."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook
from starlette.responses import Response
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from app.activities.deliver_alert import email_of
from app.alerts.store import make_due_alerts
from app.core.settings import Settings
from app.runtime.resources import Runtime
from app.runtime.temporal import connect
from app.worker.main import run_workers, workflow_runner
from app.workflows.deliver_alert import DeliverAlert
from tests.bench import Bench, BenchSource
from tests.directory.runs.far import MailServer, WebServer
from tests.knock import KnockServer, error
from tests.servers import eventually

SECRET = "whsec_c2VjcmV0LW9mLWF0LWxlYXN0LTI0LWJ5dGVz"
MAPPINGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "invoice.paid": [("users_identify", {"id": "body.data.object.customer"})]
}


@pytest.fixture
def settings(settings: Settings, mails: MailServer) -> Settings:
    """Workers that look often, with the SMTP server of the test, and with loopback allowed."""
    return settings.model_copy(
        update={
            **mails.settings,
            "allow_private_addresses": True,
            "alert_interval": timedelta(milliseconds=50),
            "public_url": "https://doorbell.example.com",
        }
    )


@pytest.fixture
async def source(bench: Bench, knock: KnockServer) -> BenchSource:
    await bench.use_destination(knock.url)
    return await bench.source("stripe", mappings=MAPPINGS)


async def configure(source: BenchSource, alert: dict[str, Any] | None) -> Any:
    """Set when failures are told of; the API's answer."""
    environment = source.bench.environment
    settings = {"settings": {"failure_alert": alert}}
    answer = await source.bench.api.put(
        f"/v1/sources/{source.key}",
        params={"environment": environment},
        json={"source": {"name": "Stripe", "environment_settings": {environment: settings}}},
    )
    return answer.json()


async def call(source: BenchSource, method: str, path: str = "", **options: Any) -> Any:
    """Call the API of a source's alerts; what it answers."""
    url = f"/v1/sources/{source.key}/alerts{path}"
    answer = await source.bench.api.request(
        method, url, params={"environment": source.bench.environment}, **options
    )
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def alerts(source: BenchSource) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await call(source, "GET"))["entries"]
    return found


async def delivered(source: BenchSource) -> dict[str, Any]:
    """The latest alert, once its deliveries are over."""

    async def look() -> dict[str, Any] | None:
        found = await alerts(source)
        return found[0] if found and found[0]["status"] in ("delivered", "failed") else None

    found = await eventually(look)
    assert found is not None
    return found


async def fail(source: BenchSource, knock: KnockServer, *messages: str) -> list[str]:
    """Events that the destination refuses."""
    failed = []
    for message in messages:
        knock.answers.append(error(422, "invalid_params", message))
        event = await source.bench.final(await source.send("invoice.paid"))
        assert event["status"] == "failed"
        failed.append(str(event["id"]))
    return failed


async def end_window(source: BenchSource) -> None:
    """Let the time pass after which the source may alert again."""
    async with source.bench.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE alert_windows SET ends_at = now() - interval '1 second'"))


async def test_two_workers_alert_once_in_a_window(
    source: BenchSource,
    runtime: Runtime,
    temporal: Client,
    knock: KnockServer,
    web: WebServer,
    mails: MailServer,
) -> None:
    await configure(
        source,
        {
            "failed_events": 3,
            "window_minutes": 5,
            "webhook_url": f"{web.url}/alerts",
            "emails": ["ops@example.com", "cto@example.com"],
        },
    )
    secret = await call(source, "PUT", "/secret", json={"secret": {"value": SECRET}})
    assert secret["secret"].keys() == {"created_at"}
    assert (await call(source, "GET", "/secret")) == secret
    web.answers.append(Response(status_code=503))
    environment = source.bench.environment
    other = await connect(runtime.settings)
    async with run_workers(runtime, temporal, [environment]), run_workers(runtime, other, [environment]):
        failed = await fail(source, knock, "no such user", "<b>no</b> email")
        assert await alerts(source) == [], "too few"
        failed += await fail(source, knock, "no such user")
        alert = await delivered(source)
        handle = temporal.get_workflow_handle(f"alert/{environment}/{alert['id']}")
        await handle.result()
        await fail(source, knock, "no such user")
        many = [make_due_alerts(runtime.engine, environment, "http://x") for _ in range(5)]
        assert await asyncio.gather(*many) == [0] * 5, "the window has its alert"
        assert len(await alerts(source)) == 1
    await end_window(source)
    many = [make_due_alerts(runtime.engine, environment, "http://x") for _ in range(8)]
    assert sorted(await asyncio.gather(*many)) == [0] * 7 + [1], "one of all that look at once"

    data = alert["report"]["data"]
    assert (alert["report"]["type"], data["source"], data["environment"]) == (
        "source.failing",
        source.key,
        environment,
    )
    assert (data["reasons"], data["failed_events"], data["stuck_events"]) == (["failed_events"], 3, 0)
    assert data["causes"] == [
        {"cause": "422 invalid_params: no such user", "events": 2},
        {"cause": "422 invalid_params: <b>no</b> email", "events": 1},
    ]
    assert data["log_ids"] == failed
    link = data["logs_url"].removeprefix("https://doorbell.example.com")
    # The page takes the filters that the Management API takes.
    assert link.startswith(f"/sources/{source.key}/logs?")
    listed = (await source.bench.api.get(f"/v1{link}")).json()["entries"]
    assert {each["id"] for each in listed} > set(failed)

    first, second = web.hits
    assert (second.method, second.path) == ("POST", "/alerts")
    assert Webhook(SECRET).verify(second.body.decode(), second.headers) == alert["report"]
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    [mail] = mails.mails
    assert mail.recipients == ["ops@example.com", "cto@example.com"]
    assert mail.message["Subject"] == f"{source.key} in {environment}: 3 events failed in 5 minutes"
    assert "2 events: 422 invalid_params: no such user\n1 event: 422 invalid_params: <b>no</b> email" in (
        mail.part("plain").replace("\r\n", "\n")
    )
    assert "&lt;b&gt;no&lt;/b&gt; email" in mail.part("html")
    assert data["logs_url"] in mail.part("plain")
    assert [(each["channel"], each["status"], each["attempts"]) for each in alert["deliveries"]] == [
        ("email", "delivered", 1),
        ("webhook", "delivered", 2),
    ]
    history = await handle.fetch_history()
    assert "no such user" not in history.to_json()
    replayer = Replayer(
        workflows=[DeliverAlert],
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(sandbox=True),
    )
    await replayer.replay_workflow(history)


async def test_shares_stuck_events_tests_and_deliveries_that_fail(
    source: BenchSource, runtime: Runtime, temporal: Client, knock: KnockServer, mails: MailServer
) -> None:
    environment = source.bench.environment
    await configure(source, {"failed_share": 0.25, "emails": ["ops@example.com"]})
    mails.refused["ops@example.com"] = "550 nobody here"
    runtime.settings.allow_private_addresses = False
    async with run_workers(runtime, temporal, [environment]):
        for _ in range(6):
            await source.bench.final(await source.send("invoice.paid"))
        await fail(source, knock, "no", "no", "no")
        assert await make_due_alerts(runtime.engine, environment, "http://x") == 0, "9 events say nothing"
        await source.bench.final(await source.send("invoice.paid"))
        alert = await delivered(source)
        assert alert["report"]["data"]["failed_share"] == 0.3
        [delivery] = alert["deliveries"]
        assert (alert["status"], delivery["status"]) == ("failed", "failed")
        assert "nobody here" in delivery["error"]

        hook = {"failed_events": 1000, "webhook_url": "http://127.0.0.1:9/alerts"}
        await configure(source, hook)
        assert (await call(source, "POST", "/test"))["alert"]["status"] == "queued"
        alert = await delivered(source)
        assert (alert["report"]["type"], alert["report"]["data"]["reasons"]) == ("source.alert_test", [])
        assert "127.0.0.1 is not a public address" in alert["deliveries"][0]["error"]

    stuck = await source.send("invoice.paid")
    await configure(source, {**hook, "stuck_after_minutes": 60, "emails": []})
    await end_window(source)
    assert await make_due_alerts(runtime.engine, environment, "http://x") == 0, "it is not old"
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE events SET id = uuidv7(interval '-2 hours'), status = 'processing', "
                "error = 'the destination is away' WHERE id = CAST(:id AS uuid)"
            ),
            {"id": stuck},
        )
    assert await make_due_alerts(runtime.engine, environment, "http://x") == 1
    data = (await alerts(source))[0]["report"]["data"]
    assert (data["reasons"], data["stuck_events"]) == (["stuck_events"], 1)
    assert data["causes"] == [{"cause": "the destination is away", "events": 1}]
    await call(source, "PUT", "/secret", json={"secret": {"value": SECRET}})
    await call(source, "DELETE", "/secret")
    audit = (await source.bench.api.get("/v1/audit_log", params={"resource_key": source.key})).json()
    assert [each["action"] for each in audit["entries"]][:2] == ["alert_secret.deleted", "alert_secret.set"]
    assert SECRET not in str(audit)


@pytest.mark.parametrize(
    "value",
    [
        "nope",
        "whsec_bm9wZQ==",
        SECRET.removeprefix("whsec_"),
        f"{SECRET[:-1]}!",
        f"whsec_{'A' * 33}",
        f"whsec_{'A' * 88}",
    ],
)
async def test_a_secret_that_is_none_is_refused_and_the_one_before_stays(
    source: BenchSource, value: str
) -> None:
    saved = await call(source, "PUT", "/secret", json={"secret": {"value": SECRET}})
    answer = await source.bench.api.put(
        f"/v1/sources/{source.key}/alerts/secret",
        params={"environment": source.bench.environment},
        json={"secret": {"value": value}},
    )
    assert answer.status_code == 422
    [wrong] = answer.json()["errors"]
    assert wrong["field"] == "secret.value"
    assert "base64 of 24 to 64 random bytes" in wrong["message"]
    assert value not in answer.text
    assert await call(source, "GET", "/secret") == saved


@pytest.mark.parametrize(
    ("alert", "wrong"),
    [
        ({"emails": ["ops@example.com"]}, ["failed_events"]),
        ({"failed_events": 1}, ["webhook_url"]),
        ({}, ["failed_events", "webhook_url"]),
        ({"failed_events": 0, "failed_share": 2, "emails": ["nobody", "a@b"]}, None),
        ({"failed_events": 1, "webhook_url": "ftp://x"}, ["webhook_url"]),
        ({"failed_events": 1, "webhook_url": "http://x", "window": 3}, ["window"]),
    ],
)
async def test_settings_that_are_none(
    source: BenchSource, alert: dict[str, Any], wrong: list[str] | None
) -> None:
    answer = await configure(source, alert)
    prefix = f"source.environment_settings.{source.bench.environment}.settings.failure_alert."
    wrong = wrong or ["failed_events", "failed_share", "emails.0"]
    assert [each["field"] for each in answer["errors"]] == [f"{prefix}{each}" for each in wrong]


def test_one_event_in_one_minute_is_no_plural() -> None:
    data = {"source": "shop", "environment": "production", "window_minutes": 1, "failed_events": 1}
    nothing = {"failed_share": None, "stuck_events": 0, "causes": [], "log_ids": [], "logs_url": "https://x/"}
    report = {"type": "source.failing", "data": {**data, **nothing}}
    email = email_of(report, "Doorbell@example.com", "ops@example.com")
    assert email.subject == "shop in production: 1 event failed in 1 minute"


async def test_passwords_in_urls_are_refused_and_those_of_before_are_not_shown(bench: Bench) -> None:
    source = await bench.source("stripe")
    here = {"environment": bench.environment}
    alert = {"failed_events": 1, "webhook_url": "https://ops:hidden-pw@ops.example.com/hook"}
    settings = {bench.environment: {"settings": {"failure_alert": alert}}}
    body = {"source": {"name": "Named", "environment_settings": settings}}
    refused = await bench.api.put(f"/v1/sources/{source.key}", params=here, json=body)
    assert refused.status_code == 422
    assert "password" in refused.json()["message"]
    assert "hidden-pw" not in refused.text
    alert["webhook_url"] = "https://ops.example.com/hook"
    (await bench.api.put(f"/v1/sources/{source.key}", params=here, json=body)).raise_for_status()
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE source_environments SET failure_alert = jsonb_set(failure_alert::jsonb, "
                "'{webhook_url}', '\"https://ops:hidden-pw@ops.example.com/hook\"') "
                "WHERE failure_alert IS NOT NULL"
            )
        )
    (await bench.api.post(f"/v1/sources/{source.key}/alerts/test", params=here)).raise_for_status()
    renamed = {"source": {"name": "Renamed"}}
    (await bench.api.put(f"/v1/sources/{source.key}", params=here, json=renamed)).raise_for_status()
    for path in (f"/v1/sources/{source.key}", f"/v1/sources/{source.key}/alerts", "/v1/audit_log"):
        answer = await bench.api.get(path, params=here if "audit" not in path else {})
        assert "hidden-pw" not in answer.text, path
        assert "[redacted]@ops.example.com" in answer.text, path
