"""The Settings tab: forms with good and bad input, secrets, rotation, the script and its test, promotion."""

import re

from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.api.dashboard.conftest import Show, Stack, Watched, assert_accessible, assert_fits, enter
from tests.bench import BenchSource

SCRIPT = """
function main({ body }) {
  console.log("looking at", body.type);
  return { verified: true, plan: "pro" };
}
"""


async def save(page: Page, section: str) -> None:
    """Save a card, and wait until it is."""
    async with page.expect_response(
        lambda answer: answer.url.partition("?")[0].endswith(f"/sections/{section}")
    ):
        await page.locator(f"#section-{section}").get_by_role("button", name="Save").click()


async def write(page: Page, editor: Locator, text: str) -> None:
    """Replace what is in a code editor, as somebody does who pastes."""
    await editor.click()
    await page.keyboard.press("ControlOrMeta+A")
    await page.keyboard.insert_text(text)


async def settings_of(stack: Stack, source: BenchSource) -> dict[str, object]:
    rows = await stack.bench.rows(
        "SELECT * FROM source_environments WHERE source_key = :key AND environment = :environment",
        key=source.key,
        environment=stack.environment,
    )
    return rows[0]


async def test_settings_are_saved_and_bad_ones_stay_beside_their_field(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    source = await stack.bench.source("stripe")
    await page.goto(f"/sources/{source.key}")
    await page.get_by_role("navigation", name="Tabs").get_by_role("link", name="Settings").click()
    await expect(page).to_have_title(re.compile("Settings"))
    await assert_accessible(page)
    await assert_fits(page)
    await show(page, "settings")

    paths = page.locator("#section-paths")
    watched.expect(422, 412)
    await paths.get_by_label("Event type").fill("body..type")
    await save(page, "paths")
    await expect(paths.locator("#event_type_path-error")).to_contain_text("is not a path")
    await expect(paths.get_by_label("Event type")).to_have_value("body..type")
    await assert_accessible(page)
    await paths.get_by_label("Event type").fill("body.kind")
    await save(page, "paths")
    await expect(page.get_by_role("status")).to_contain_text("Saved")
    await expect(paths.locator(".error")).to_have_count(0)

    delivery = page.locator("#section-delivery")
    await delivery.get_by_label("Rate limit").fill("many")
    await save(page, "delivery")
    await expect(delivery.locator("#rate_limit_per_second-error")).to_be_visible()
    await delivery.get_by_label("Rate limit").fill("50")
    await delivery.get_by_role("switch", name="Run").uncheck()
    await save(page, "delivery")
    await expect(delivery.locator(".error")).to_have_count(0)

    idempotency = page.locator("#section-idempotency")
    await idempotency.get_by_label("Window").select_option("6 h")
    await save(page, "idempotency")
    verification = page.locator("#section-verification")
    await verification.get_by_role("switch", name="Enforced").uncheck()
    await save(page, "verification")
    general = page.locator("#section-general")
    await general.get_by_label("Name").fill("Billing")
    await save(page, "general")
    await page.reload()
    await expect(page.get_by_role("heading", name="Billing")).to_be_visible()
    saved = await settings_of(stack, source)
    assert saved["event_type_path"] == "body.kind"
    assert saved["rate_limit_per_second"] == 50
    assert saved["start_unmapped"] is False
    assert saved["enforce_verification"] is False
    assert str(saved["idempotency_window"]) == "6:00:00"

    # Somebody else changes it meanwhile: nothing of theirs is lost.
    changed = await stack.bench.api.put(
        f"/v1/sources/{source.key}",
        params={"environment": stack.environment},
        json={"source": {"name": "Payments"}},
    )
    assert changed.status_code == 200
    await general.get_by_label("Name").fill("Mine")
    await save(page, "general")
    await expect(general.get_by_role("alert")).to_contain_text("has changed since you read it")


async def test_secrets_and_addresses_are_rotated(page: Page, stack: Stack, show: Show) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    source = await stack.bench.source("stripe")
    await page.goto(f"/sources/{source.key}/settings")
    secrets = page.locator("#section-secrets")
    await secrets.get_by_label("Signing secret").fill("whsec_bmV3LXNlY3JldA==")
    await secrets.get_by_label("The others work").select_option("for 1 h")
    await secrets.get_by_role("button", name="Add secret").click()
    await expect(secrets.get_by_text("in use")).to_have_count(1)
    await expect(secrets.get_by_text("ends", exact=True)).to_have_count(1)
    await secrets.get_by_role("button", name="Remove the secret").last.click()
    await expect(secrets.get_by_text("ends", exact=True)).to_have_count(0)

    endpoint = page.locator("#section-endpoint")
    before = await endpoint.locator("code").first.inner_text()
    await endpoint.get_by_role("button", name="Rotate ...").click()
    await page.get_by_role("dialog").get_by_role("button", name="Rotate", exact=True).click()
    await expect(endpoint.locator("code")).to_have_count(2)
    await expect(endpoint.locator("code").nth(1)).to_have_text(before)
    await assert_fits(page)
    await show(page, "settings-rotated")
    assert (await source.post(b"{}", headers={})).status_code == 401
    await endpoint.get_by_role("button", name="End the old ones now").click()
    await expect(endpoint.locator("code")).to_have_count(1)
    assert (await source.post(b"{}", headers={})).status_code == 404


async def test_a_script_is_written_tried_and_saved(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    source = await stack.bench.source("stripe")
    await page.goto(f"/sources/{source.key}/settings")
    section = page.locator("#section-script")
    await expect(section.get_by_role("textbox", name="Script")).to_be_visible()
    editor = section.locator(".cm-content")
    await expect(editor).to_contain_text("function main")
    await write(page, editor, SCRIPT)

    await section.get_by_role("button", name="Test script").click()
    dialog = page.get_by_role("dialog", name="Test the script")
    await dialog.get_by_role("button", name="Run").click()
    await expect(dialog.get_by_text("verified", exact=True)).to_be_visible()
    await expect(dialog.locator(".json")).to_contain_text('"plan": "pro"')
    await expect(dialog.locator("pre")).to_have_text("looking at customer.created")
    await assert_accessible(page)
    await show(page, "script-test")
    watched.expect(422)
    await dialog.get_by_label("Headers").fill("no colon")
    await dialog.get_by_role("button", name="Run").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("is not written as name: value")
    await page.keyboard.press("Escape")

    await write(page, editor, "function main( {")
    await section.get_by_role("button", name="Save script").click()
    await expect(section.locator(".error")).to_contain_text("SyntaxError")
    await expect(editor).to_contain_text("function main( {")
    await write(page, editor, SCRIPT)
    await section.get_by_role("button", name="Save script").click()
    await expect(section.locator(".error")).to_have_count(0)
    await expect(section.get_by_role("button", name="Remove")).to_be_visible()
    assert "looking at" in str((await settings_of(stack, source))["preprocess_script"])
    await show(page, "script")


async def test_a_source_is_promoted_after_a_look_at_what_changes(
    page: Page, stack: Stack, show: Show
) -> None:
    created = await stack.bench.api.put(
        "/v1/sources/promoted",
        params={"environment": stack.environment},
        json={
            "source": {
                "name": "Promoted",
                "preconfigured_provider": "stripe",
                "environment_settings": {
                    stack.environment: {"settings": {"timestamp_path": "body.at"}, "mappings": []}
                },
            }
        },
    )
    assert created.status_code == 200
    await page.goto("/sources/promoted/settings")
    await page.get_by_role("button", name="Compare with Production").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("4 differences")
    await expect(dialog).to_contain_text("settings.timestamp_path")
    await assert_accessible(page)
    await show(page, "promotion")
    await dialog.get_by_role("button", name="Promote to Production").click()
    await expect(page).to_have_url(re.compile("environment=production"))
    await expect(page.get_by_label("Time", exact=True)).to_have_value("body.at")


async def test_readers_see_settings_and_change_none(
    context: BrowserContext, stack: Stack, watched: Watched
) -> None:
    source = await stack.bench.source("stripe")
    await enter(context, stack, await stack.token("read"))
    page = await context.new_page()
    await page.goto(f"/sources/{source.key}/settings")
    await expect(page.get_by_label("Event type")).to_be_disabled()
    for name in ("Save", "Add secret", "Rotate ...", "Save script", "Test script"):
        await expect(page.get_by_role("button", name=name)).to_have_count(0)
    watched.expect(403)
    told = await page.evaluate(
        """(path) => fetch(path, {
            method: "POST",
            headers: {
              "X-CSRF-Token": document.querySelector('meta[name="csrf-token"]').content,
              "HX-Request": "true",
            },
        }).then((answer) => [answer.status, answer.headers.get("hx-trigger")])""",
        f"/sources/{source.key}/settings/sections/paths",
    )
    assert told[0] == 403
    assert "needs a service token with scope write" in told[1]
