"""Workflow runs from trigger to end, with real servers on the far side."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook
from starlette.responses import JSONResponse, Response
from temporalio.client import Client, WorkflowExecutionStatus

from tests.directory.runs.conftest import Runs, delay, email, fetch, in_app, statuses, webhook
from tests.directory.runs.far import MailServer, WebServer
from tests.servers import eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

pytestmark = pytest.mark.usefixtures("worker")


async def test_a_run_goes_through_all_kinds_of_steps(runs: Runs, mails: MailServer, web: WebServer) -> None:
    web.answers.append(JSONResponse({"text": "fetched <b>", "n": 7}))
    await runs.define(
        delay(delay_for={"unit": "seconds", "value": 1}),
        fetch(f"{web.url}/users/{{{{ recipient.id }}}}", headers=[{"key": "x-n", "value": "{{ n }}"}]),
        email(),
        webhook(f"{web.url}/hook"),
        in_app(),
        signing_secret=SECRET,
    )
    [run_id] = await runs.trigger(data={"n": 3, "text": "given"}, actor={"id": "bob", "name": "Bob"})
    run = await runs.ended(run_id)
    assert statuses(run) == dict.fromkeys(("wait", "get", "mail", "hook", "feed"), "completed"), run
    assert run["error_count"] == 0
    wait, get = (run["steps"][position] for position in (0, 1))
    assert wait["started_at"] < wait["wait_until"] <= get["started_at"]

    asked, hook = web.hits
    assert (asked.method, asked.path, asked.headers["x-n"]) == ("GET", "/users/ada", "3")
    [mail] = mails.mails
    assert (mail.sender, mail.recipients) == ("Doorbell@example.com", ["ada@example.com"])
    assert mail.message["Subject"] == "Hi Ada"
    assert mail.part("html").strip() == "<p>fetched &lt;b&gt;</p>"
    assert mail.part("plain").strip() == "fetched <b>"
    assert Webhook(SECRET).verify(hook.body, hook.headers) == {"to": "ada", "n": 7}

    sent, called, shown = await runs.messages(run_id)
    assert [each["status"] for each in (sent, called, shown)] == ["sent", "sent", "delivered"]
    assert mail.message["Message-ID"] == f"<{sent['id'].replace('-', '')}@example.com>"
    assert hook.headers["webhook-id"] == f"msg_{called['id'].replace('-', '')}"
    assert shown["data"] == {"n": 7, "text": "fetched <b>"}
    assert shown["actors"] == ["bob"]
    content = await runs.knock.messages.get_content(shown["id"])
    assert content.data.blocks[0].rendered == "<p><strong>fetched &lt;b&gt;</strong></p>\n"  # type: ignore[union-attr]


async def test_without_a_definition_runs_complete_at_once(runs: Runs) -> None:
    [run_id] = await runs.trigger(key="nowhere")
    run = await runs.run(run_id)
    assert (run["status"], run["steps"], run["temporal"]["workflow_id"]) == ("completed", [], None)


async def test_each_recipient_has_a_run_that_links_to_temporal(runs: Runs, temporal: Client) -> None:
    await runs.define(in_app())
    ids = await runs.trigger(
        "ada", "bob", {"id": "p1", "collection": "projects", "name": "P"}, data={"text": "x"}
    )
    assert len(ids) == 3
    for run_id in ids:
        run = await runs.ended(run_id)
        link = run["temporal"]
        assert link["workflow_id"] == f"run/{runs.environment}/{run_id}"
        assert link["url"].startswith("http://temporal.example/namespaces/default/workflows/run%2F")
        description = await temporal.get_workflow_handle(
            link["workflow_id"], run_id=link["run_id"]
        ).describe()
        assert description.workflow_type == "RecipientRun"


async def test_conditions_skip_steps_and_read_earlier_messages(runs: Runs, web: WebServer) -> None:
    web.gate = asyncio.Event()
    on = {"variable": "data.on", "operator": "equal_to", "argument": "true"}
    unread = {"variable": "refs.feed.engagement_status", "operator": "not_contains", "argument": "read"}
    await runs.define(
        in_app(conditions={"all": [on]}),
        in_app("never", conditions={"any": [{**on, "argument": "false"}]}),
        in_app("reminder", conditions={"all": [unread]}),
        fetch(f"{web.url}/x"),
        in_app("late", conditions={"all": [unread]}),
    )
    [run_id] = await runs.trigger(data={"on": True})
    # The fetch waits for its answer until the message was read.
    await eventually(lambda: web.hits)
    first, *_ = await runs.messages(run_id)
    await runs.knock.messages.mark_as_read(first["id"])
    web.gate.set()
    run = await runs.ended(run_id)
    assert statuses(run) == {
        "feed": "completed",
        "never": "skipped",
        "reminder": "completed",
        "get": "completed",
        "late": "skipped",
    }


async def test_conditions_of_the_workflow_end_the_run(runs: Runs) -> None:
    await runs.define(
        in_app(),
        conditions={"all": [{"variable": "recipient.plan", "operator": "equal_to", "argument": "pro"}]},
    )
    [run_id] = await runs.trigger({"id": "ada", "plan": "free"})
    assert (await runs.ended(run_id))["steps"] == []
    [run_id] = await runs.trigger({"id": "ada", "plan": "pro"})
    assert statuses(await runs.ended(run_id)) == {"feed": "completed"}


async def test_a_delay_waits_until_a_time_from_the_data(runs: Runs) -> None:
    path = {"delay_until_field_path": "data.at"}
    before = {**path, "delay_for": {"unit": "minutes", "value": -10}}
    await runs.define(delay("past", **before), delay("soon", **path), in_app())
    at = datetime.now(UTC) + timedelta(seconds=1.5)
    [run_id] = await runs.trigger(data={"at": at.isoformat()})
    run = await runs.ended(run_id)
    assert statuses(run) == dict.fromkeys(("past", "soon", "feed"), "completed")
    assert datetime.fromisoformat(run["steps"][2]["started_at"]) >= at


async def test_a_delay_without_a_time_is_skipped_with_an_error(runs: Runs) -> None:
    await runs.define(delay(delay_until_field_path="data.at"), in_app())
    [run_id] = await runs.trigger(data={"at": "tomorrow"})
    run = await runs.ended(run_id)
    assert statuses(run) == {"wait": "skipped", "feed": "completed"}
    assert (run["error_count"], run["events"][0]["status"]) == (1, "error")
    assert "data.at is no timestamp" in run["error"]


async def test_trigger_settings(runs: Runs, mails: MailServer) -> None:
    await runs.define(delay(), email())
    [run_id] = await runs.trigger(extra_body={"settings": {"skip_delay": True, "sandbox_mode": True}})
    assert statuses(await runs.ended(run_id)) == {"wait": "skipped", "mail": "completed"}
    [message] = await runs.messages(run_id)
    assert (message["status"], mails.mails) == ("not_sent", [])


async def test_runs_follow_the_version_they_were_triggered_with(runs: Runs) -> None:
    await runs.define(delay(delay_for={"unit": "seconds", "value": 2}), in_app("old"))
    [run_id] = await runs.trigger()
    await runs.define(in_app("new"))
    assert statuses(await runs.ended(run_id)) == {"wait": "completed", "old": "completed"}
    [run_id] = await runs.trigger()
    assert statuses(await runs.ended(run_id)) == {"new": "completed"}


async def test_an_email_refused_for_now_is_sent_once(runs: Runs, mails: MailServer) -> None:
    mails.answers.extend(["451 try later", "421 busy"])
    await runs.define(email())
    [run_id] = await runs.trigger()
    run = await runs.ended(run_id)
    assert (run["steps"][0]["attempts"], len(mails.mails), run["error_count"]) == (3, 1, 0)
    assert len(set(mails.attempts)) == 1


async def test_an_email_refused_for_good_fails_and_the_run_goes_on(runs: Runs, mails: MailServer) -> None:
    mails.refused["ada@example.com"] = "550 no such user"
    await runs.define(email(), in_app())
    [run_id] = await runs.trigger()
    run = await runs.ended(run_id)
    assert statuses(run) == {"mail": "failed", "feed": "completed"}
    assert (run["error_count"], run["steps"][0]["attempts"]) == (1, 1)
    assert "550 no such user" in run["steps"][0]["error"]
    assert [each["status"] for each in await runs.messages(run_id)] == ["undelivered", "delivered"]


async def test_a_recipient_without_an_address_fails_the_email(runs: Runs) -> None:
    await runs.define(email())
    [run_id] = await runs.trigger("nobody")
    assert (await runs.ended(run_id))["steps"][0]["error"] == "the recipient has no email address"


async def test_headers_of_emails_are_one_line(runs: Runs, mails: MailServer) -> None:
    await runs.define(
        email(channel_overrides={"cc_address": "{{ data.cc }}", "from_name": "{{ data.name }}"})
    )
    await runs.ended(
        (
            await runs.trigger(
                {"id": "ada", "name": "Ada\r\nBcc: eve@example.com", "email": "ada@example.com"},
                data={"cc": "cat@example.com", "name": "The\nTeam"},
            )
        )[0]
    )
    [mail] = mails.mails
    assert mail.recipients == ["ada@example.com", "cat@example.com"]
    assert mail.message["Subject"] == "Hi Ada Bcc: eve@example.com"
    assert mail.message["From"] == "The Team <Doorbell@example.com>"


async def test_a_webhook_is_sent_again_with_the_same_id(runs: Runs, web: WebServer) -> None:
    web.answers.extend([Response(status_code=503, headers={"retry-after": "1"}), Response(status_code=500)])
    await runs.define(webhook(f"{web.url}/hook"), signing_secret=SECRET)
    [run_id] = await runs.trigger(data={"n": 1})
    run = await runs.ended(run_id)
    assert (run["steps"][0]["attempts"], len(web.hits)) == (3, 3)
    assert len({hit.headers["webhook-id"] for hit in web.hits}) == 1
    for hit in web.hits:
        Webhook(SECRET).verify(hit.body, hit.headers)


async def test_a_fetch_that_fails_ends_the_run(runs: Runs, web: WebServer) -> None:
    web.answers.append(JSONResponse({"error": "no such user"}, 404))
    await runs.define(fetch(f"{web.url}/x"), in_app())
    [run_id] = await runs.trigger()
    run = await runs.ended(run_id)
    assert (statuses(run), run["status"], run["error_count"]) == ({"get": "failed"}, "completed", 1)
    assert "no such user" in run["error"]


async def test_a_fetch_needs_a_json_object_that_can_be_stored(runs: Runs, web: WebServer) -> None:
    answers = {
        "array": b"[1]",
        "html": b"<html>",
        "nul": b'{"a": ["\\u0000"]}',
        "deep": b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    }
    for key, answer in answers.items():
        web.answers.append(Response(answer))
        await runs.define(fetch(f"{web.url}/x"), key=key)
        [run_id] = await runs.trigger(key=key)
        assert statuses(await runs.ended(run_id)) == {"get": "failed"}, key


async def test_a_fetch_puts_its_answer_under_a_path(runs: Runs, web: WebServer) -> None:
    web.answers.extend([JSONResponse({"n": 1}), Response(status_code=204)])
    await runs.define(fetch(f"{web.url}/x", response_path="a.b"), fetch(f"{web.url}/y", "other"), in_app())
    [run_id] = await runs.trigger(data={"a": {"c": 2}})
    await runs.ended(run_id)
    [message] = await runs.messages(run_id)
    assert message["data"] == {"a": {"c": 2, "b": {"n": 1}}}


async def test_cancel_stops_a_waiting_run_at_once(runs: Runs, temporal: Client) -> None:
    await runs.define(delay(), in_app())
    [run_id] = await runs.trigger(cancellation_key="order-1")
    run = await runs.in_status(run_id, "paused")
    await runs.knock.workflows.cancel("welcome", cancellation_key="order-1")
    assert (await runs.run(run_id))["status"] == "cancelled"
    handle = temporal.get_workflow_handle(run["temporal"]["workflow_id"])

    async def is_cancelled() -> bool:
        return (await handle.describe()).status is WorkflowExecutionStatus.CANCELED

    await eventually(is_cancelled)
    assert statuses(await runs.run(run_id)) == {"wait": "cancelled"}
    assert await runs.messages(run_id) == []


async def test_cancel_is_for_its_key_and_recipients(runs: Runs) -> None:
    await runs.define(delay())
    ids = [
        *await runs.trigger("ada", "bob", cancellation_key="k1"),
        *await runs.trigger("cat", cancellation_key="k2"),
    ]
    for run_id in ids:
        await runs.in_status(run_id, "paused")
    await runs.knock.workflows.cancel("welcome", cancellation_key="k1", recipients=["bob"])
    assert [(await runs.run(each))["status"] for each in ids] == ["paused", "cancelled", "paused"]
    await runs.knock.workflows.cancel("welcome", cancellation_key="k1")
    assert [(await runs.run(each))["status"] for each in ids] == ["cancelled", "cancelled", "paused"]


async def test_a_cancel_waits_for_what_is_being_sent_and_nothing_follows(
    runs: Runs, mails: MailServer
) -> None:
    mails.gate = asyncio.Event()
    await runs.define(email(), email("second"))
    [run_id] = await runs.trigger(cancellation_key="k")
    await asyncio.wait_for(mails.inside.wait(), 60)
    cancel = asyncio.create_task(runs.knock.workflows.cancel("welcome", cancellation_key="k"))
    await eventually(lambda: _is(runs, run_id, "cancelled"))
    assert not cancel.done()
    mails.gate.set()
    await cancel
    assert len(mails.mails) == 1
    run = await runs.run(run_id)
    assert statuses(run) == {"mail": "completed"}


async def _is(runs: Runs, run_id: str, status: str) -> bool:
    return bool((await runs.run(run_id))["status"] == status)


async def test_a_cancelled_run_does_not_try_again(runs: Runs, mails: MailServer, temporal: Client) -> None:
    mails.answers.extend(["451 later"] * 50)
    await runs.define(email())
    [run_id] = await runs.trigger(cancellation_key="k")
    await eventually(lambda: len(mails.attempts) >= 2)
    await runs.knock.workflows.cancel("welcome", cancellation_key="k")
    attempts = len(mails.attempts)
    handle = temporal.get_workflow_handle(f"run/{runs.environment}/{run_id}")

    async def is_closed() -> bool:
        return (await handle.describe()).close_time is not None

    await eventually(is_closed)
    assert len(mails.attempts) == attempts
    assert statuses(await runs.run(run_id)) == {"mail": "cancelled"}
    assert [each["status"] for each in await runs.messages(run_id)] == ["not_sent"]


async def test_a_workflow_ended_in_temporal_ends_the_run(runs: Runs, temporal: Client) -> None:
    await runs.define(delay(), in_app())
    [run_id] = await runs.trigger()
    run = await runs.in_status(run_id, "paused")
    await temporal.get_workflow_handle(run["temporal"]["workflow_id"]).terminate("test")
    async with runs.bench.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE workflow_recipient_runs SET lease_expires_at = now() - interval '1 s' WHERE id = :id"
            ),
            {"id": run_id},
        )
    run = await runs.ended(run_id)
    assert (run["status"], run["error_count"]) == ("completed", 1)
    assert run["error"] == "the workflow was terminated in Temporal"


@pytest.mark.parametrize(
    ("step", "data"),
    [
        (in_app(), {"text": "[" * 900_000}),
        (email(template={"subject": "s", "html_body": "{{ text | safe }}"}), {"text": "<a " * 50_000}),
        (
            in_app(template={"markdown_body": "{{ many | uniq | size }}"}),
            {"many": [[each] for each in range(60_000)]},
        ),
    ],
)
async def test_data_made_to_take_long_fails_its_step_and_holds_up_nobody(
    runs: Runs, step: dict[str, Any], data: dict[str, Any]
) -> None:
    """What a sender sizes is bounded, and a bound that is hit is not tried again."""
    await runs.define(step)
    await runs.define(in_app(template={"markdown_body": "**short**"}), key="others")
    [heavy] = await runs.trigger(data=data)
    others = [(await runs.trigger(key="others"))[0] for _ in range(5)]
    for each in others:
        assert (await runs.ended(each))["error_count"] == 0
    [ended] = (await runs.ended(heavy))["steps"]
    # The text of a page without an end is empty, and takes no time to find out.
    assert ended["status"] == ("completed" if step["ref"] == "mail" else "failed"), ended
    assert ended["attempts"] <= 1


async def test_a_template_that_takes_long_to_parse_is_refused(runs: Runs) -> None:
    """And no more than so many characters of templates are parsed for one request."""
    for source, message in (("{{a}}" * 50_000, "parse"), ("x{{ a }}" * 20_000, "characters")):
        steps = [
            in_app(f"s{number}", template={"markdown_body": source + str(number)}) for number in range(9)
        ]
        answer = await runs.api.put(
            "/v1/workflows/heavy",
            params={"environment": runs.environment},
            json={"workflow": {"name": "Heavy", "steps": steps[:1] if message == "parse" else steps}},
        )
        assert answer.status_code == 422, answer.text
        assert message in answer.json()["message"]
