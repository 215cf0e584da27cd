"""The whole story of a new user, by clicking: from the login to an event that was mapped, received, read and
replayed."""

import re

from playwright.async_api import BrowserContext, expect

from tests.api.dashboard.conftest import Stack, Watched
from tests.conftest import ADMIN_TOKEN


async def test_from_login_to_a_replayed_event(
    context: BrowserContext, stack: Stack, watched: Watched
) -> None:
    page = await context.new_page()
    await page.goto(f"/?environment={stack.environment}")
    await page.get_by_label("Service token").fill(ADMIN_TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await expect(page).to_have_title("Overview · Testing · Doorbell")

    await page.get_by_role("navigation", name="Main").get_by_role("link", name="Sources").click()
    await page.get_by_role("link", name="Clerk").click()
    dialog = page.get_by_role("dialog", name="Clerk")
    for switch in await dialog.get_by_role("switch").all():
        await switch.uncheck()
    await dialog.get_by_role("button", name="Connect Clerk").click()
    await page.get_by_label("Signing secret").fill("whsec_dGVzdC1zZWNyZXQtb2YtYS1zdG9yeQ==")
    await page.get_by_role("button", name="Add secret").click()
    await expect(page.get_by_text("1 secret stored")).to_be_visible()
    await page.get_by_role("button", name="Send a test event").click()
    await expect(page.locator("#first-event").get_by_text("ignored")).to_be_visible()

    # It arrived and nothing was mapped to it: now something is.
    await page.get_by_role("link", name="Mappings", exact=True).first.click()
    await page.get_by_role("link", name=re.compile("user.created once")).click()
    await page.get_by_label("Take this action").select_option("users_identify")
    await page.locator("#parameter-id").fill("body.data.id")
    await expect(page.locator("#parameter-id-result")).to_contain_text("user_")
    await page.get_by_role("button", name="Create mapping").click()
    await expect(page.get_by_text("Mapping created")).to_be_visible()

    # The event is read, and run again with what is mapped now.
    await page.get_by_role("navigation", name="Main").get_by_role("link", name="Logs").click()
    await page.get_by_role("link", name="user.created").click()
    await expect(page.get_by_text("verified", exact=True).first).to_be_visible()
    await page.get_by_text("Replay", exact=True).click()
    await page.get_by_role("button", name="With the mappings of now").click()
    await expect(page.get_by_role("link", name="an earlier event")).to_be_visible()
    actions = page.get_by_role("region", name="Actions")
    await expect(actions.get_by_text("Identify user")).to_be_visible()
    await expect(page.get_by_role("status").get_by_text("succeeded")).to_be_visible()

    # What it did is in the directory.
    await page.get_by_role("navigation", name="Main").get_by_role("link", name="Users").click()
    await expect(page.get_by_role("link", name=re.compile("user_")).first).to_be_visible()
