"""Failure alerts on the Settings tab: rules with good and bad input, the secret that signs them, a test that
arrives."""

import pytest
from playwright.async_api import BrowserContext, Page, expect
from standardwebhooks import Webhook

from app.core.settings import Settings
from tests.api.dashboard.conftest import Show, Stack, Watched, assert_accessible, assert_fits, enter
from tests.directory.runs.far import WebServer
from tests.servers import eventually

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture(scope="module")
def module_settings(module_settings: Settings) -> Settings:
    """Receivers on loopback are allowed."""
    return module_settings.model_copy(update={"allow_private_addresses": True})


async def test_rules_are_saved_and_a_signed_test_arrives(
    page: Page, stack: Stack, watched: Watched, web: WebServer, show: Show
) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    source = await stack.bench.source("stripe")
    await page.goto(f"/sources/{source.key}/settings")
    rules, sent = page.locator("#section-alerts"), page.locator("#section-alerts-sent")
    save = rules.get_by_role("button", name="Save")
    await expect(sent).to_contain_text("None yet")
    await expect(sent.get_by_role("button", name="Send a test alert")).to_have_count(0)
    await show(page, "alerts-none")

    # Bad input stays, with what is wrong beside it.
    watched.expect(422)
    await rules.get_by_role("switch", name="On").check()
    await save.click()
    await expect(rules.locator("#failed_events-error")).to_contain_text("nothing would be told of")
    await expect(rules.locator("#webhook_url-error")).to_contain_text("nobody would be told")
    await rules.get_by_label("Failed events").fill("many")
    await rules.get_by_label("Webhook").fill("ftp://ops.example.com")
    await rules.get_by_label("Emails").fill("ops@example.com, nobody")
    await save.click()
    await expect(rules.locator("#emails-error")).to_contain_text("nobody")
    await expect(rules.locator("#failed_events-error")).to_be_visible()
    await expect(rules.locator("#webhook_url-error")).to_be_visible()
    await expect(rules.get_by_label("Failed events")).to_have_value("many")
    await assert_accessible(page)

    await rules.get_by_label("Failed events").fill("3")
    await rules.get_by_label("Window").select_option("1 h")
    await rules.get_by_label("Failed share").select_option("100 %")
    await rules.get_by_label("Webhook").fill(f"{web.url}/alerts")
    await rules.get_by_label("Emails").fill("ops@example.com")
    await save.click()
    await expect(page.get_by_role("status")).to_contain_text("Saved")
    await expect(rules.locator(".error")).to_have_count(0)
    [saved] = await stack.bench.rows(
        "SELECT failure_alert FROM source_environments WHERE source_key = :key AND environment = "
        ":environment",
        key=source.key,
        environment=stack.environment,
    )
    assert saved["failure_alert"] == {
        "window_minutes": 60,
        "failed_events": 3,
        "failed_share": 1.0,
        "stuck_after_minutes": None,
        "webhook_url": f"{web.url}/alerts",
        "emails": ["ops@example.com"],
    }
    await expect(sent.get_by_role("button", name="Send a test alert")).to_be_visible()

    await page.reload()
    await expect(rules.get_by_label("Window")).to_have_value("60")
    await expect(rules.get_by_label("Failed share")).to_have_value("1.0")
    await sent.get_by_label("Secret that signs webhooks").fill("nope")
    await sent.get_by_role("button", name="Save secret").click()
    await expect(sent.locator("#alert_secret-error")).to_contain_text("base64 of 24 to 64 random bytes")
    await sent.get_by_label("Secret that signs webhooks").fill(SECRET)
    await sent.get_by_role("button", name="Save secret").click()
    await expect(sent).to_contain_text("Signed with a secret")
    await sent.get_by_role("button", name="Send a test alert").click()
    await expect(sent.get_by_text("Test", exact=True)).to_be_visible()
    # The list follows the delivery; what is typed beside it stays.
    await sent.get_by_label("Replace the secret").fill("whsec_typing")
    webhook = sent.get_by_role("paragraph").filter(has_text=f"{web.url}/alerts")
    await expect(webhook).to_contain_text("delivered")
    # No server takes emails here.
    email = sent.get_by_role("paragraph").filter(has_text="ops@example.com")
    await expect(email).to_contain_text("failed")
    await expect(email).to_contain_text("DOORBELL_SMTP_FROM")
    await expect(sent.get_by_label("Replace the secret")).to_have_value("whsec_typing")
    hit = await eventually(lambda: web.hits and web.hits[0])
    assert Webhook(SECRET).verify(hit.body, hit.headers)["type"] == "source.alert_test"
    await assert_accessible(page)
    await assert_fits(page)
    await show(page, "alerts")

    await sent.get_by_role("button", name="Remove the secret").click()
    await expect(sent.get_by_label("Secret that signs webhooks")).to_be_visible()
    await rules.get_by_role("switch", name="On").uncheck()
    await save.click()
    await expect(rules.get_by_label("Failed events")).to_have_value("")
    await expect(sent.get_by_role("button", name="Send a test alert")).to_have_count(0)
    await page.goto("/settings/audit-log")
    await expect(page.get_by_text("alert_secret.deleted")).to_be_visible()


async def test_who_only_reads_changes_nothing(context: BrowserContext, stack: Stack) -> None:
    source = await stack.bench.source("stripe")
    await enter(context, stack, await stack.token("read"))
    page = await context.new_page()
    await page.goto(f"/sources/{source.key}/settings")
    await expect(page.locator("#section-alerts").get_by_label("Failed events")).to_be_disabled()
    await expect(page.locator("#section-alerts-sent").get_by_role("button")).to_have_count(0)
