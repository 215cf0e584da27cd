"""The embedded directory, by clicking: searched and read, workflows written, runs and messages followed,
users erased."""

import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.async_api import Page, expect
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.tokens import add_key
from app.directory.recipients import Reference
from app.directory.search import SEARCH, search_recipients
from app.logs import about_user
from app.logs.about_user import MAXIMUM_ACTIONS, find_touches
from app.models.directory import USERS
from app.models.types import time_of
from tests.api.dashboard.conftest import PHONE, Show, Stack, Watched, assert_accessible
from tests.servers import eventually

WORKFLOW = {
    "name": "Welcome",
    "steps": [
        {
            "ref": "only_some",
            "type": "channel",
            "channel_type": "in_app_feed",
            "conditions": {"all": [{"variable": "data.plan", "operator": "equal_to", "argument": "gold"}]},
            "template": {"markdown_body": "Hello"},
        },
        {
            "ref": "mail",
            "type": "channel",
            "channel_type": "email",
            "template": {
                "subject": "Hello {{ recipient.name }}",
                "html_body": '<p style="color: teal">Good to see you, {{ recipient.name }}</p>',
            },
        },
        {"ref": "later", "type": "delay", "settings": {"delay_for": {"value": 1, "unit": "hours"}}},
    ],
}


async def test_what_a_source_brings_is_found_searched_and_leads_back_to_its_event(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    watched.expect(422, 404)
    await page.goto("/directory/users")
    await expect(page.get_by_text("None yet")).to_be_visible()
    source = await stack.bench.source("stripe")
    await stack.bench.final(event := await source.send("customer.created"))
    action = (await stack.bench.actions(event))[0]
    user_id = action["payload"]["user_id"] if "user_id" in action["payload"] else action["payload"]["id"]
    async with await _directory(stack) as directory:
        for number in range(30):
            body = {"name": f"Name {number:02}", "email": f"Ada{number:02}@example.com"}
            await _put(directory, f"/v1/users/extra-{number:02}", body)
        await _put(directory, "/v1/objects/projects/alpha%2Fone", {"name": "Alpha"})
        subscribed = await directory.post(
            "/v1/objects/projects/alpha%2Fone/subscriptions", json={"recipients": ["extra-07"]}
        )
        assert subscribed.status_code == 200, subscribed.text

    await page.goto("/directory/users")
    await page.get_by_role("link", name="Older").click()
    await expect(page.get_by_role("link", name="extra-29")).to_be_visible()
    for typed in ("extra-0", "name 07", "ADA07"):
        await page.get_by_label("Search").fill(typed)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("link", name="extra-07")).to_be_visible()
        await expect(page.get_by_role("link", name="extra-20")).to_have_count(0)
    await assert_accessible(page)
    await show(page, "users")
    await page.get_by_role("link", name="extra-07").click()
    await page.get_by_role("link", name="projects/alpha/one").click()
    await expect(page.get_by_role("heading", name="Alpha")).to_be_visible()
    await expect(page.get_by_role("link", name="extra-07")).to_be_visible()
    await page.goto("/directory/objects")
    await page.get_by_role("link", name="projects").click()
    await expect(page.get_by_role("link", name="alpha/one")).to_be_visible()

    await page.goto(f"/directory/users/{user_id}")
    touch = page.get_by_role("region", name="Events that touched it")
    await expect(touch.get_by_role("link", name="Identify")).to_have_attribute(
        "href", f"/sources/{source.key}/logs/{event}?environment={stack.environment}"
    )
    await expect(touch).to_contain_text("Of the last 7 days")
    await assert_accessible(page)
    await show(page, "user")
    await page.goto("/directory/users/nobody")
    await expect(page.get_by_role("alert")).to_contain_text("There is no 'nobody'")

    await page.goto("/directory/users/extra-03")
    await page.get_by_role("button", name="Erase").click()
    await page.get_by_label("Type extra-03 to go on").fill("extra-03")
    await page.get_by_role("button", name="Erase user").click()
    await expect(page.get_by_role("row").filter(has_text="extra-03")).to_be_visible()


async def test_a_workflow_is_written_and_its_run_and_message_are_followed_and_cancelled(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    watched.expect(422)
    await page.goto("/directory/workflows")
    await page.get_by_role("link", name="New workflow").first.click()
    await page.get_by_role("textbox", name="Key").fill("welcome")
    editor = page.locator(".cm-content")
    await _type(page, editor, '{"name": "Welcome", "steps": [{"type": "channel"}]}')
    await page.get_by_role("button", name="Save workflow").click()
    await expect(page.get_by_role("alert").first).to_contain_text("steps.0")
    await _type(page, editor, json.dumps(WORKFLOW))
    await page.get_by_role("button", name="Save workflow").click()
    await expect(page.get_by_role("heading", name="Welcome", level=1)).to_be_visible()
    await assert_accessible(page)
    await show(page, "workflow")

    async with await _directory(stack) as directory:
        await _put(directory, "/v1/users/grace", {"name": "Grace", "email": "grace@example.com"})
        triggered = await directory.post(
            "/v1/workflows/welcome/trigger", json={"recipients": ["grace"], "data": {"plan": "silver"}}
        )
        assert triggered.status_code == 200, triggered.text
    await page.goto("/directory/workflow-runs?workflow=welcome")
    await expect(page.get_by_role("link", name="welcome", exact=True)).to_be_visible()
    await page.get_by_role("link", name="welcome", exact=True).click()

    async def is_waiting() -> bool:
        await page.reload()
        return await page.get_by_text("waiting", exact=True).count() > 0

    await eventually(is_waiting)
    await expect(page.get_by_text("Its conditions were not met")).to_be_visible()
    await expect(page.get_by_text("no address to send from").first).to_be_visible()
    await expect(page.get_by_text("Waits until")).to_be_visible()
    await assert_accessible(page)
    await show(page, "run")
    await page.get_by_role("button", name="Cancel run").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    await expect(page.get_by_text("cancelled").first).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel run")).to_have_count(0)

    await page.get_by_role("link", name="The message").click()
    preview = page.frame_locator("iframe").get_by_text("Good to see you, Grace")
    await expect(preview).to_have_css("color", "rgb(0, 128, 128)")
    await assert_accessible(page)
    await show(page, "message")
    for path in ("users/grace", "messages", "workflow-runs", "workflows/welcome"):
        await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        await page.goto(f"/directory/{path}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    await page.set_viewport_size({"width": 1280, "height": 860})

    await stack.bench.use_destination("https://api.knock.app")
    for path in ("users", "workflow-runs", "messages", "audiences", "workflows", "users/grace"):
        await page.goto(f"/directory/{path}")
        await expect(page.get_by_role("link", name="Open Knock's dashboard")).to_be_visible()
    await assert_accessible(page)


async def _directory(stack: Stack) -> httpx.AsyncClient:
    async with AsyncSession(stack.runtime.engine) as session:
        _, key = await add_key(session, stack.environment, "test")
        await session.commit()
    return httpx.AsyncClient(base_url=stack.url, headers={"authorization": f"Bearer {key}"}, timeout=60)


async def _put(directory: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await directory.put(path, json=body)
    assert answer.status_code == 200, answer.text


async def _type(page: Page, editor: Any, text: str) -> None:
    await editor.click()
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.insert_text(text)


async def test_searches_go_through_indexes_and_touches_keep_to_their_bounds(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stack.runtime.engine.begin() as connection:
        await connection.execute(_MANY_RECIPIENTS, {"environment": stack.environment})
        await connection.execute(_MANY_ACTIONS, {"environment": stack.environment})
        await connection.execute(text("ANALYZE directory_recipients"))
        found = await search_recipients(connection, stack.environment, USERS, "PERSON 777", 50)
        assert [each.reference.id for each in found][:2] == ["many-777", "many-7770"]
        parameters = {
            "environment": stack.environment,
            "collection": USERS,
            "start": "x",
            "end": "y",
            "limit": 50,
        }
        plan = await connection.execute(text(f"EXPLAIN {SEARCH.text}"), parameters)
        lines = "\n".join(plan.scalars())
        for name in ("by_id_prefix", "by_name", "by_email"):
            assert f"directory_recipients_{name}" in lines, lines
        assert "Seq Scan" not in lines

        reference = Reference.to_user("rare")
        # The only action about this user is older than what is looked at, which the answer says.
        monkeypatch.setattr(about_user, "SECONDS", 60.0)
        touches = await find_touches(connection, stack.environment, reference, 10)
        assert (touches.found, touches.looked, touches.is_complete) == ([], MAXIMUM_ACTIONS, False)
        assert touches.since == time_of(await _nth_newest_action(connection, MAXIMUM_ACTIONS))
        monkeypatch.setattr(about_user, "SECONDS", 0.0)
        touches = await find_touches(connection, stack.environment, reference, 10)
        assert (touches.found, touches.looked, touches.is_complete) == ([], 0, False)


async def _nth_newest_action(connection: AsyncConnection, number: int) -> UUID:
    found = await connection.scalar(
        text("SELECT id FROM actions ORDER BY id DESC LIMIT 1 OFFSET :before"), {"before": number - 1}
    )
    return UUID(str(found))


_MANY_RECIPIENTS = text("""
INSERT INTO directory_recipients
SELECT :environment, '$users', 'many-' || i,
    jsonb_build_object('name', 'Person ' || i, 'email', 'p' || i || '@example.com'), '{}', '{}', now(), now()
FROM generate_series(1, 20000) AS i
""")
_MANY_ACTIONS = text("""
INSERT INTO actions (id, event_id, environment, source_key, mapping_id, action_type, parameters, payload,
  status,
                     attempts, calls)
SELECT id, id, :environment, 'stripe', id, 'users_identify', '{}',
    json_build_object('id', CASE i WHEN 25000 THEN 'rare' ELSE 'user-' || i END, 'name', repeat('x', 500)),
    'succeeded', 1, 1
FROM generate_series(1, 25000) AS i, CAST(lpad(to_hex(CAST(extract(epoch
  FROM now()) * 1000 AS bigint) - 4 * i), 12, '0')
    || '70008000' || lpad(to_hex(i), 12, '0') AS uuid) AS id
""")
