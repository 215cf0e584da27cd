"""Mappings: written beside a sample that each field is evaluated on, saved, copied, deleted, and not
overwritten."""

import re

from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.api.dashboard.conftest import PHONE, Show, Stack, Watched, assert_accessible, enter


def field(page: Page, parameter: str) -> Locator:
    """The field of a parameter."""
    return page.locator(f"#parameter-{parameter}")


async def test_a_mapping_is_written_beside_its_sample(
    page: Page, stack: Stack, show: Show, watched: Watched
) -> None:
    source = await stack.bench.source("stripe", mappings={})
    first = await source.send("customer.created")
    await stack.bench.final(first)
    await page.goto(f"/sources/{source.key}/mappings")
    await expect(page.get_by_text("No event runs an action yet")).to_be_visible()
    await expect(page.get_by_role("link", name=re.compile("customer.created once"))).to_be_visible()
    await show(page, "mappings-empty")
    await page.get_by_role("link", name=re.compile("customer.created once")).click()

    # Bad input stays, with what is wrong beside it.
    watched.expect(422, 412)
    await expect(page.get_by_label("When receiving")).to_have_value("customer.created")
    refused = await page.locator("#editor").element_handle()
    assert refused is not None
    await page.get_by_role("button", name="Create mapping").click()
    # The evaluation says so too: what is typed before the answer replaces the editor is gone.
    await refused.wait_for_element_state("hidden")
    await expect(page.locator("#parameter-recipients-result")).to_contain_text("is required")

    # Paths are suggested, also within JSON, and put in by a click on the sample.
    recipients = field(page, "recipients")
    await recipients.press_sequentially("object.id")
    await page.get_by_role("option").filter(has_text="body.data.object.id").first.click()
    await expect(recipients).to_have_value("body.data.object.id")
    await expect(page.locator("#parameter-recipients-result")).to_contain_text("cus_")
    await field(page, "key").fill("welcome")
    await expect(page.get_by_text("On this sample the action would run")).to_be_visible()
    await field(page, "tenant").click()
    await page.locator("#sample [data-pick='body.data.object.object']").last.click()
    await expect(field(page, "tenant")).to_have_value("body.data.object.object")
    await page.get_by_label("Data: kind of value").select_option("json")
    data = field(page, "data")
    await data.press_sequentially('{"mail": "email')
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(data).to_have_value(re.compile('"mail": "body.data.object.email$'))
    await expect(page.locator("#parameter-data-result")).to_contain_text("is not JSON")
    await data.press_sequentially('", "plan": {"value": "pro"}}')
    await expect(page.locator("#parameter-data-result")).to_contain_text("pro")
    await field(page, "actor").fill("body.livemode")
    await expect(page.locator("#parameter-actor-result")).to_contain_text("expected a recipient")
    await recipients.fill("body.livemode")
    await expect(page.get_by_text("On this sample the action would fail")).to_be_visible()
    await assert_accessible(page)
    await show(page, "mapping-editor")
    await recipients.fill("body.data.object.id")
    await expect(page.get_by_text("On this sample the action would run")).to_be_visible()
    await field(page, "actor").fill("body.not_there")
    await expect(page.locator("#parameter-actor-result")).to_contain_text("left out")
    await page.locator("#sample-choice").select_option("example")
    await expect(page.get_by_role("button", name="Older sample")).to_be_disabled()
    await page.get_by_role("button", name="Newer sample").click()
    await expect(page.get_by_role("button", name="Newer sample")).to_be_disabled()
    await page.get_by_role("button", name="Create mapping").click()
    await expect(page.get_by_text("Mapping created")).to_be_visible()
    await expect(data).to_have_value(re.compile('"mail": "body.data.object.email"'))
    await expect(page.get_by_role("button", name="Save changes")).to_be_disabled()

    # It is what runs.
    second = await source.send("customer.created")
    await stack.bench.final(second)
    (action,) = await stack.bench.actions(second)
    assert action["parameters"]["data"] == {"mail": "body.data.object.email", "plan": {"value": "pro"}}
    assert action["parameters"]["key"] == "welcome"

    # The other action keeps what both have; nothing is lost by going away.
    await page.get_by_label("Take this action").select_option("workflows_cancel")
    await expect(field(page, "recipients")).to_have_value("body.data.object.id")
    await expect(page.locator("#parameter-cancellation_key-result")).to_contain_text("is required")
    asked: list[str] = []

    async def stay(dialog: object) -> None:
        asked.append(dialog.type)  # type: ignore[attr-defined]
        await dialog.dismiss()  # type: ignore[attr-defined]

    page.once("dialog", stay)
    await page.get_by_role("link", name="Logs").last.click()
    await expect(page.get_by_label("Take this action")).to_have_value("workflows_cancel")
    assert asked == ["beforeunload"]
    await page.get_by_label("Take this action").select_option("workflows_trigger")
    await expect(field(page, "actor")).to_have_value("body.not_there")

    # Somebody else saves first.
    (stored,) = await stack.bench.rows("SELECT * FROM mappings WHERE event_type = 'customer.created'")
    url = f"/v1/sources/{source.key}/mappings/{stored['id']}?environment={stack.environment}"
    parameters = {**stored["action_parameters"], "key": "hello"}
    body = {
        "event_type": "customer.created",
        "action_type": "workflows_trigger",
        "action_parameters": parameters,
    }
    changed = await stack.bench.api.put(url, json={"mapping": body})
    assert changed.status_code == 200, changed.text
    await page.get_by_role("switch", name="Active").uncheck()
    await page.get_by_role("button", name="Save changes").click()
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("Somebody else changed this mapping")
    await expect(alert.get_by_role("row").nth(1)).to_contain_text("hello")
    await show(page, "mapping-conflict")
    await page.get_by_role("button", name="Save changes").click()
    await expect(page.get_by_text("Mapping saved")).to_be_visible()
    await expect(field(page, "key")).to_have_value("welcome")
    await expect(page.get_by_role("navigation", name="Mappings").get_by_text("inactive")).to_be_visible()

    # A copy has to differ; then both are there, and go.
    await page.get_by_text("More", exact=True).or_(page.get_by_label("More")).last.click()
    await page.get_by_role("link", name="Duplicate").click()
    await page.get_by_role("button", name="Create mapping").click()
    await expect(page.get_by_role("alert")).to_contain_text("is the same as mapping")
    await page.get_by_label("When receiving").fill("customer.updated")
    await page.get_by_role("button", name="Create mapping").click()
    await expect(page.get_by_role("region", name="customer.updated")).to_be_visible()
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    await page.get_by_text("More", exact=True).or_(page.get_by_label("More")).last.click()
    await page.get_by_role("button", name="Delete").first.click()
    await page.get_by_role("dialog", name="Delete this mapping?").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("Mapping deleted")).to_be_visible()
    await expect(page.get_by_role("region", name="customer.updated")).to_have_count(0)
    entries = await stack.bench.rows("SELECT action FROM audit_log ORDER BY id DESC LIMIT 2")
    assert [each["action"] for each in entries] == ["mapping.deleted", "mapping.created"]


async def test_who_may_only_read_sees_mappings(
    context: BrowserContext, stack: Stack, watched: Watched
) -> None:
    source = await stack.bench.source("stripe")
    await enter(context, stack, await stack.token("read"))
    page = await context.new_page()
    await page.goto(f"/sources/{source.key}/mappings")
    await page.get_by_role("link", name="Identify user").first.click()
    await expect(field(page, "id")).to_be_disabled()
    await expect(page.get_by_role("button", name="Save changes")).to_have_count(0)
    watched.expect(403)
    await page.goto(f"/sources/{source.key}/mappings/new")
    await expect(page.get_by_role("alert")).to_contain_text("scope write")


async def test_conditions_are_evaluated_and_saved(page: Page, stack: Stack, watched: Watched) -> None:
    source = await stack.bench.source("stripe", mappings={})
    await stack.bench.final(await source.send("customer.created"))
    await page.goto(f"/sources/{source.key}/mappings/new?event_type=customer.created")
    await field(page, "key").fill("welcome")
    await field(page, "recipients").fill("body.data.object.id")
    conditions = page.get_by_label("Conditions")
    said = page.locator("#conditions-result")
    condition = '{"all": [{"variable": "body.type", "operator": "%s", "argument": "customer.created"}]}'
    await conditions.fill("{")
    await expect(said).to_contain_text("is not JSON")
    await conditions.fill(condition % "not_equal_to")
    await expect(said).to_contain_text('would run: no, because body.type is "customer.created"')
    await conditions.fill(condition % "equal_to")
    await expect(said).to_contain_text("would run: yes")
    watched.expect(422)
    await conditions.fill(condition % "is")
    await page.get_by_role("button", name="Create mapping").click()
    await expect(said).to_contain_text("conditions.all.0.operator")
    await conditions.fill(condition % "equal_to")
    await page.get_by_role("button", name="Create mapping").click()
    await expect(page.get_by_text("Mapping created")).to_be_visible()
    (stored,) = await stack.bench.rows("SELECT * FROM mappings WHERE conditions IS NOT NULL")
    assert stored["conditions"]["all"][0]["operator"] == "equal_to"
