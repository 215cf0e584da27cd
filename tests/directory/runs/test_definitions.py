"""Workflow definitions through the Management API, and messages through Knock's."""

from typing import Any

import httpx
import pytest
from knockapi import NotFoundError, UnprocessableEntityError
from starlette.responses import JSONResponse

from tests.bench import Api
from tests.directory.runs.conftest import Runs, delay, email, fetch, in_app, webhook
from tests.directory.runs.far import MailServer, WebServer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def put(
    api: Api, workflow: Any, key: str = "welcome", environment: str = "development"
) -> httpx.Response:
    return await api.put(
        f"/v1/workflows/{key}", params={"environment": environment}, json={"workflow": workflow}
    )


async def test_a_workflow_is_saved_read_listed_and_deleted(api: Api) -> None:
    steps = [
        delay(),
        fetch("https://api.example.com/x"),
        email(),
        webhook("https://hooks.example.com/"),
        in_app(),
    ]
    saved = await put(api, {"name": "Welcome", "steps": steps, "signing_secret": SECRET, "categories": ["a"]})
    assert saved.status_code == 200, saved.text
    workflow = saved.json()["workflow"]
    assert [each["ref"] for each in workflow["steps"]] == ["wait", "get", "mail", "hook", "feed"]
    assert workflow["has_signing_secret"] is True
    assert "whsec" not in saved.text
    query = {"environment": "development"}
    read = await api.get("/v1/workflows/welcome", params=query)
    assert read.json() == workflow
    assert (await api.get("/v1/workflows", params=query)).json()["entries"] == [workflow]
    assert (await api.get("/v1/workflows", params={"environment": "production"})).json()["entries"] == []

    again = await put(api, workflow)
    assert again.json()["workflow"]["version_id"] == workflow["version_id"], "what was read can be put back"
    assert again.json()["workflow"]["has_signing_secret"] is True
    changed = await put(api, {**workflow, "name": "Other", "signing_secret": None})
    assert changed.json()["workflow"]["version_id"] != workflow["version_id"]
    assert changed.json()["workflow"]["has_signing_secret"] is False

    assert (await api.delete("/v1/workflows/welcome", params=query)).status_code == 204
    for answer in (
        await api.get("/v1/workflows/welcome", params=query),
        await api.delete("/v1/workflows/welcome", params=query),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "resource_missing")


async def test_the_signing_secret_is_encrypted_at_rest(runs: Runs) -> None:
    await runs.define(in_app(), signing_secret=SECRET)
    [row] = await runs.bench.rows(
        "SELECT signing_secret, definition::text FROM workflow_definitions JOIN workflow_versions ON "
        "version_id = id"
    )
    assert SECRET.encode() not in row["signing_secret"]
    assert "whsec" not in row["definition"]
    assert runs.bench.runtime.box.decrypt(row["signing_secret"]).decode() == SECRET


WRONG: list[tuple[Any, str]] = [
    ({"steps": []}, "workflow.name"),
    ({"name": "W"}, "workflow.steps"),
    ({"name": "W", "steps": [{"ref": "b", "type": "batch", "settings": {}}]}, "workflow.steps.0"),
    ({"name": "W", "steps": [{"ref": "s", "type": "channel", "template": {}}]}, "workflow.steps.0"),
    (
        {"name": "W", "steps": [delay(delay_for={"unit": "years", "value": 1})]},
        "workflow.steps.0.settings.delay_for.unit",
    ),
    ({"name": "W", "steps": [delay(), in_app(), {**in_app(), "ref": "wait"}]}, "workflow"),
    ({"name": "W", "steps": [fetch("https://{{ data.host }}/")]}, "workflow.steps.0.settings.url"),
    (
        {"name": "W", "steps": [in_app(template={"markdown_body": "{% if %}"})]},
        "workflow.steps.0.template.markdown_body",
    ),
    ({"name": "W", "steps": [email(send_windows=[{"day": "mon"}])]}, "workflow.steps.0.send_windows"),
    ({"name": "W", "steps": [email(typo=1)]}, "workflow.steps.0.typo"),
    (
        {"name": "W", "steps": [fetch("https://a.example/", headers=[{"key": "Host", "value": "b"}])]},
        "workflow.steps.0.settings.headers.0.key",
    ),
    ({"name": "W", "steps": [], "signing_secret": "secret!"}, "workflow.signing_secret"),
    ("W", "workflow"),
    ({"name": "W", "steps": [1]}, "workflow.steps.0"),
    ({"name": "W", "steps": [{"ref": "a", "type": ["x"]}]}, "workflow.steps.0"),
    ({"name": "W", "steps": [in_app(template=3)]}, "workflow.steps.0.template"),
    ({"name": "W", "steps": [{"ref": "a", "type": "channel", "template": 3}]}, "workflow.steps.0"),
    (
        {"name": "W", "steps": [in_app(conditions={"all": [{"variable": "x", "operator": "empty"}]})]},
        "workflow.steps.0.conditions.all.0",
    ),
]


async def test_what_is_wrong_is_named(api: Api) -> None:
    for workflow, field in WRONG:
        answer = await put(api, workflow)
        assert answer.status_code == 422, answer.text
        assert [each["field"] for each in answer.json()["errors"]] == [field]


async def test_keys_and_environments_are_checked(api: Api) -> None:
    workflow = {"name": "W", "steps": []}
    assert (await put(api, workflow, key="No")).json()["errors"][0]["field"] == "workflow_key"
    assert (await put(api, workflow, environment="nowhere")).json()["errors"][0]["field"] == "environment"
    assert (await api.get("/v1/workflows")).status_code == 422
    stranger = {"authorization": "Bearer sk_nothing"}
    assert (
        await api.get("/v1/workflows", params={"environment": "development"}, headers=stranger)
    ).status_code == 401


@pytest.mark.usefixtures("worker")
async def test_messages_are_listed_filtered_read_and_marked(runs: Runs, mails: MailServer) -> None:
    await runs.define(email(), in_app(), categories=["news"])
    await runs.define(in_app(), key="other")
    [first] = await runs.trigger(data={"text": "x", "n": {"m": 1}}, tenant="acme")
    await runs.ended(first)
    [second] = await runs.trigger("bob", key="other")
    await runs.ended(second)
    knock = runs.knock

    async def refs(**query: Any) -> list[str]:
        return [each.source.step_ref or "" for each in (await knock.messages.list(**query)).items]

    assert len((await knock.messages.list(page_size=2)).items) == 2
    pages = [each.id async for each in knock.messages.list(page_size=1)]
    assert len(set(pages)) == 3
    assert await refs(source="welcome") == ["feed", "mail"]
    assert await refs(channel_id="email") == ["mail"]
    assert await refs(status=["sent"]) == ["mail"]
    assert await refs(tenant="acme") == ["feed", "mail"]
    assert await refs(workflow_categories=["news", "x"]) == ["feed", "mail"]
    assert await refs(trigger_data='{"n": {"m": 1}}') == ["feed", "mail"]
    assert await refs(trigger_data='{"n": {"m": 2}}') == []
    assert await refs(message_ids=[pages[0]]) == ["feed"]
    assert await refs(inserted_at={"gte": "2026-01-01T00:00:00Z"}) == ["feed", "feed", "mail"]
    assert await refs(inserted_at={"lt": "2026-01-01T00:00:00Z"}) == []
    mine = (await knock.users.list_messages("bob")).items
    assert [each.workflow for each in mine] == ["other"]

    feed, mail = (await knock.messages.list(source="welcome")).items
    marked = await knock.messages.mark_as_read(feed.id)
    assert marked.engagement_statuses == ["seen", "read"]
    assert await refs(engagement_status=["read"]) == ["feed"]
    assert feed.id not in {
        each.id for each in (await knock.messages.list(engagement_status=["unread"])).items
    }
    assert (await knock.messages.mark_as_unread(feed.id)).read_at is None
    assert (await knock.messages.archive(feed.id)).engagement_statuses == ["seen", "archived"]
    content = await knock.messages.get_content(mail.id)
    assert content.data.subject_line == "Hi Ada"  # type: ignore[union-attr]
    assert (await knock.messages.get(mail.id)).id == mail.id
    for wrong in ("nothing", "01a20df1-e8fc-72f9-a988-19f172a42afd"):
        with pytest.raises(NotFoundError):
            await knock.messages.get(wrong)
    with pytest.raises(UnprocessableEntityError):
        await knock.messages.list(trigger_data="[")


@pytest.mark.usefixtures("worker")
async def test_runs_and_steps_are_filtered(runs: Runs) -> None:
    await runs.define(in_app(), email("mail"), key="filtered")
    [run_id] = await runs.trigger("nobody", key="filtered")
    await runs.ended(run_id)
    found = await runs.knock.workflow_recipient_runs.list(
        workflow="filtered", has_errors=True, status=["completed"]
    )
    assert [each.id for each in found.items] == [run_id]
    assert (await runs.knock.workflow_recipient_runs.list(workflow="filtered", has_errors=False)).items == []
    path = f"/v1/workflow_recipient_runs/{run_id}/steps"
    steps: Any = await runs.knock.get(path, cast_to=object, options={"params": {"status": "failed"}})
    assert [each["ref"] for each in steps["items"]] == ["mail"]
    detail = await runs.knock.workflow_recipient_runs.get(run_id)
    assert [(each.event, each.status, each.step_ref) for each in detail.events] == [
        ("message_enqueued", "ok", "feed"),
        ("message_enqueued", "error", "mail"),
    ]


@pytest.mark.usefixtures("worker")
async def test_secrets_in_headers_are_write_only(runs: Runs, web: WebServer) -> None:
    """A definition shows no credential of its requests, to nobody; neither does the audit log, a message or
    the database in the clear; and what is sent has them."""
    secret, other = "Bearer very-hidden-1", "hidden-in-query-2"
    step = webhook(f"{web.url}/hook")
    step["template"]["headers"] = [
        {"key": "Authorization", "value": secret},
        {"key": "x-plain", "value": "shown"},
    ]
    step["template"]["query_params"] = [{"key": "api_key", "value": other}]
    fetching = fetch(f"{web.url}/data", headers=[{"key": "X-Api-Key", "value": "hidden-in-fetch-3"}])
    web.answers.extend([JSONResponse({}), JSONResponse({"said": secret}, 401)])
    await runs.define(fetching, step)
    here = {"environment": runs.environment}
    path = "/v1/workflows/welcome"
    shown = (await runs.api.get(path, params=here)).json()
    assert shown["steps"][1]["template"]["headers"][0] == {"key": "Authorization", "value": "[redacted]"}
    assert shown["steps"][1]["template"]["headers"][1] == {"key": "x-plain", "value": "shown"}

    # What is read can be put back: it keeps the values, and is no new version.
    kept = await runs.api.put(path, params=here, json={"workflow": shown})
    assert kept.json()["workflow"]["version_id"] == shown["version_id"]
    [run_id] = await runs.trigger(data={"n": 1})
    run = await runs.ended(run_id)
    assert web.hits[0].headers["x-api-key"] == "hidden-in-fetch-3"
    assert web.hits[1].headers["authorization"] == secret

    # Another value is another version, and an entry in the audit log.
    shown["steps"][1]["template"]["headers"][0]["value"] = "Bearer very-hidden-4"
    changed = await runs.api.put(path, params=here, json={"workflow": shown})
    assert changed.json()["workflow"]["version_id"] != shown["version_id"]
    fresh = {**shown, "steps": [{**shown["steps"][0], "ref": "new"}]}
    fresh["steps"][0]["settings"]["headers"][0]["value"] = "[redacted]"
    refused = await runs.api.put(path, params=here, json={"workflow": fresh})
    assert refused.status_code == 422
    assert "no earlier value" in refused.json()["message"]

    audit = (await runs.api.get("/v1/audit_log", params={"resource_key": "welcome"})).json()["entries"]
    assert [each["action"] for each in audit] == ["workflow.updated", "workflow.created"]
    [message] = await runs.messages(run_id)
    content = await runs.knock.messages.get_content(message["id"])
    stored = [
        *await runs.bench.rows("SELECT definition FROM workflow_versions"),
        *await runs.bench.rows("SELECT content, error FROM messages"),
        *await runs.bench.rows("SELECT error FROM workflow_run_steps"),
    ]
    for text in (str(shown["steps"][0]), str(audit), str(content), str(stored), str(run)):
        assert "hidden" not in text.replace("very-hidden-4", "")
    assert "very-hidden-4" not in str(stored)
