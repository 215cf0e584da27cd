"""The log and its events: live, filtered, read whole, replayed, rehearsed."""

import re

from playwright.async_api import BrowserContext, Page, expect
from sqlalchemy import text
from starlette.responses import JSONResponse

from tests.api.dashboard.conftest import PHONE, Show, Stack, Watched, assert_accessible, enter
from tests.knock import KnockServer
from tests.servers import eventually, serve


async def test_the_log_lives_and_is_filtered_by_its_address(
    page: Page, stack: Stack, show: Show, watched: Watched
) -> None:
    source = await stack.bench.source("stripe")
    await page.goto(f"/sources/{source.key}/logs")
    await expect(page.get_by_text("Waiting for the first event")).to_be_visible()
    await expect(page.get_by_text(source.path)).to_be_visible()
    await show(page, "logs-empty")

    # What arrives appears by itself, once, and its status changes in place.
    first = await source.send("customer.created")
    row = page.locator(f"#log-{first}")
    await expect(row).to_contain_text("customer.created")
    await expect(row).to_contain_text("succeeded")
    await expect(page.locator("#log-rows tr")).to_have_count(1)
    refused = await source.post(source.example("invoice.paid"), headers={})
    assert refused.status_code == 401
    await expect(page.locator("#log-rows tr")).to_have_count(2)
    await expect(page.locator("#log-rows tr").first).to_contain_text("rejected")

    # Paused, it counts what arrives, and shows it afterwards.
    await page.get_by_role("button", name="Live").click()
    second = await source.send("invoice.paid", name="Grace Müller")
    await page.get_by_role("button", name="1 new event").click()
    await expect(page.locator("#log-rows tr").first).to_have_id(f"log-{second}")
    await expect(page.get_by_role("button", name="Live")).to_be_visible()
    await stack.bench.final(second)

    await assert_accessible(page)
    await show(page, "logs")

    await page.get_by_label("Status").first.select_option("rejected")
    await expect(page).to_have_url(re.compile("status=rejected"))
    assert "search=" not in page.url
    await expect(page.locator("#log-rows tr")).to_have_count(1)
    await page.get_by_role("link", name="Status Rejected").click()
    await expect(page.locator("#log-rows tr")).to_have_count(3)
    await page.keyboard.press("/")
    await page.keyboard.type("Grace Müller")
    await page.keyboard.press("Enter")
    await expect(page.locator("#log-rows tr")).to_have_count(1)
    await expect(page.get_by_role("link", name="Time Last hour")).to_be_visible()
    await show(page, "logs-filtered")

    # The filters that need typing, and what is wrong with them, beside them.
    watched.expect(422)
    await page.goto(f"/sources/{source.key}/logs")
    await page.get_by_text("More filters").click()
    await page.get_by_label("Event id").fill("evt_1")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("#id-error")).to_contain_text("is not an id")
    await page.get_by_label("Event id").fill(first)
    await page.get_by_label("From").fill("2020-01-31T14:00")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("#log-rows tr")).to_have_count(1)
    await expect(page.get_by_label("From")).to_have_value("2020-01-31T14:00")
    await page.get_by_label("Action", exact=True).select_option("users_delete")
    await expect(page.get_by_text("No event matches")).to_be_visible()

    # All sources, in pages.
    for _ in range(4):
        await source.send("customer.created")
    await page.goto("/logs")
    await expect(page.locator("#log-rows tr").first).to_contain_text(source.key)
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


async def test_an_event_is_read_whole_replayed_and_rehearsed(page: Page, stack: Stack, show: Show) -> None:
    mappings = {
        "customer.created": [
            ("users_identify", {"id": "body.data.object.id", "email": "body.data.object.email"}),
            ("workflows_trigger", {"key": "welcome", "recipients": "body.data.object.id"}),
        ],
        "invoice.paid": [
            ("workflows_trigger", {"key": "paid", "recipients": "body.livemode"}),
            ("tenants_set", {"id": "body.not_there"}),
        ],
    }
    source = await stack.bench.source("stripe", mappings=mappings)
    original = await source.send("customer.created", id="evt_twice")
    await stack.bench.final(original)
    repeat = await source.send("customer.created", id="evt_twice")

    await page.goto(f"/sources/{source.key}/logs")
    await page.locator(f"#log-{repeat}").get_by_role("link").click()
    panel = page.get_by_role("complementary", name="Event", exact=True)
    await expect(panel.get_by_text("this repeats an event that ran already")).to_be_visible()
    await show(page, "logs-panel")
    await panel.get_by_role("link", name="the original event").click()
    await expect(page).to_have_url(re.compile(original))
    await expect(page.get_by_role("heading", name="customer.created")).to_be_visible()

    actions = page.get_by_role("region", name="Actions")
    await expect(actions.locator(".action-card")).to_have_count(2)
    identify = actions.locator(".action-card").first
    await expect(identify).to_contain_text("Identify user")
    await expect(identify).to_contain_text("body.data.object.email")
    await expect(identify).to_contain_text("what the destination answered")
    timeline = page.get_by_role("region", name="Timeline")
    await expect(timeline.get_by_text("Identify user")).to_be_visible()
    await expect(timeline.get_by_text("Waits for a worker")).to_be_visible()
    headers = page.locator(".headers")
    await expect(headers).to_contain_text("stripe-signature")
    await expect(headers).to_contain_text("[redacted]")
    await expect(page.get_by_text("Repeated by")).to_be_visible()
    await expect(page.locator(".json-count").get_by_text("1 key", exact=True).first).to_be_attached()
    await page.get_by_role("region", name="Payload").get_by_role("button", name="Copy").click()
    await expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    await assert_accessible(page)
    await show(page, "event")

    await page.get_by_text("Replay", exact=True).click()
    await page.get_by_role("button", name="With the mappings of now").click()
    await expect(page.get_by_role("link", name="an earlier event")).to_be_visible()
    assert original not in page.url
    # It shows by itself what becomes of the replay.
    await expect(page.get_by_role("status").get_by_text("succeeded")).to_be_visible()
    await page.get_by_role("link", name="an earlier event").click()
    await expect(page.get_by_text("Replayed", exact=True)).to_be_visible()

    await page.get_by_role("button", name="Rehearse").click()
    dialog = page.get_by_role("dialog", name="Rehearse with this payload")
    await show(page, "rehearse")
    await dialog.get_by_role("button", name="Rehearse").click()
    await expect(dialog.get_by_text("2 actions ran")).to_be_visible()
    await dialog.get_by_role("link", name="Show the event in the log").click()
    await expect(page.get_by_text("rehearsal").first).to_be_visible()

    # What fails and what is skipped says why.
    failed = await source.send("invoice.paid")
    await stack.bench.final(failed)
    await page.goto(f"/sources/{source.key}/logs/{failed}")
    await expect(actions.locator(".action-card").filter(has_text="Trigger workflow")).to_contain_text(
        "body.livemode is a boolean (false), expected a recipient"
    )
    await expect(actions.locator(".action-card").filter(has_text="skipped")).to_contain_text("id is required")
    await show(page, "event-failed")

    where = {"environment": stack.environment}
    erasure = {"erasure": {"user_id": "cus_QXg1o8vcGmoR32"}}
    started = await stack.bench.api.post("/v1/erasures", params=where, json=erasure)
    identifier = started.json()["erasure"]["id"]

    async def is_erased() -> bool:
        found = await stack.bench.api.get(f"/v1/erasures/{identifier}")
        return bool(found.json()["status"] == "completed")

    await eventually(is_erased)
    await page.goto(f"/sources/{source.key}/logs/{original}")
    await expect(page.get_by_text("What this event sent was erased on request")).to_be_visible()
    await expect(page.get_by_text("Replay", exact=True)).to_have_count(0)
    await assert_accessible(page)


async def test_an_event_in_mid_work_shows_its_attempts(page: Page, stack: Stack, show: Show) -> None:
    knock = KnockServer()
    knock.answers.extend(JSONResponse({"message": "out of order"}, 503) for _ in range(3))
    mappings = {"customer.created": [("users_identify", {"id": "body.data.object.id"})]}
    source = await stack.bench.source("stripe", mappings=mappings)
    async with serve(knock.app) as url:
        await stack.bench.use_destination(url)
        identifier = await source.send("customer.created")
        await page.goto(f"/sources/{source.key}/logs/{identifier}")
        timeline = page.get_by_role("region", name="Timeline")
        await expect(timeline.get_by_text("attempt").first).to_be_visible()
        await expect(timeline.get_by_text("503").first).to_be_visible()
        await show(page, "event-retried")
        await expect(page.get_by_role("status").get_by_text("succeeded")).to_be_visible()
        await expect(page.get_by_role("region", name="Actions").get_by_text("attempts")).to_be_visible()
    assert len(knock.calls) == 4


async def test_who_may_only_read_replays_nothing(context: BrowserContext, stack: Stack) -> None:
    source = await stack.bench.source("stripe")
    identifier = await source.send("customer.created")
    await enter(context, stack, await stack.token("read"))
    page = await context.new_page()
    await page.goto(f"/sources/{source.key}/logs/{identifier}")
    await expect(page.get_by_role("heading", name="customer.created")).to_be_visible()
    await expect(page.get_by_text("Replay", exact=True)).to_have_count(0)
    await expect(page.get_by_role("button", name="Rehearse")).to_have_count(0)


async def test_all_that_matches_is_replayed(page: Page, stack: Stack, show: Show, watched: Watched) -> None:
    mappings = {"invoice.paid": [("users_identify", {"id": "body.livemode"})]}
    source = await stack.bench.source("stripe", mappings=mappings)
    for _ in range(3):
        await stack.bench.final(await source.send("invoice.paid"))
    await stack.bench.final(await source.send("customer.created"))

    await page.goto(f"/sources/{source.key}/logs?status=failed")
    await page.get_by_role("button", name="Replay these").click()
    dialog = page.get_by_role("dialog", name="Replay many events")
    await expect(dialog.get_by_text("3 events match")).to_be_visible()
    await assert_accessible(page)
    await show(page, "replay-dialog")
    watched.expect(422)
    await dialog.get_by_label("Events in a second").fill("0")
    await dialog.locator("form").evaluate("form => form.noValidate = true")
    await dialog.get_by_role("button", name="Replay 3 events").click()
    await expect(dialog.locator("#rate-error")).to_contain_text("a number from 1 to")
    await dialog.get_by_role("button", name="Replay 3 events").click()
    await expect(page.get_by_role("status").get_by_text("completed")).to_be_visible()
    await expect(page.get_by_text("3 failed")).to_be_visible()
    await show(page, "replay")
    await page.get_by_role("link", name="Its events in the log").click()
    await expect(page.locator("#log-rows tr")).to_have_count(3)
    await page.locator("#log-rows tr").first.get_by_role("link").click()
    await page.get_by_role("link", name="a replay of many").click()
    await page.get_by_role("link", name="Replays").click()
    await expect(page.get_by_role("row").nth(1)).to_contain_text("completed")

    async with stack.bench.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE replays SET total = 5"))
    await page.get_by_role("row").nth(1).get_by_role("link").click()
    await expect(page.get_by_text("2 events, deleted by retention during the replay")).to_be_visible()

    await page.goto(f"/sources/{source.key}/logs?search=evt_&period=1h")
    await page.get_by_role("button", name="Replay these").click()
    await expect(dialog).to_contain_text("does not work for a replay")
