"""The list of sources, the environment switch, the theme, the keyboard, narrow screens."""

import re

from playwright.async_api import BrowserContext, Page, expect

from tests.api.dashboard.conftest import PHONE, Show, Stack, Watched, assert_accessible, assert_fits, enter


async def test_sources_are_shown_with_their_last_hour(page: Page, stack: Stack, show: Show) -> None:
    await page.goto("/sources")
    await expect(page.get_by_text("Nothing rings here yet")).to_be_visible()
    await assert_accessible(page)
    await show(page, "sources-empty")

    source = await stack.bench.source("stripe")
    for _ in range(3):
        await stack.bench.final(await source.send("customer.created"))
    refused = await source.post(source.example("invoice.paid"), headers={})
    assert refused.status_code == 401
    await page.reload()
    row = page.get_by_role("row").filter(has_text=source.key)
    await expect(row.get_by_role("img", name="4 events in the last hour")).to_be_visible()
    await expect(row.get_by_role("cell").nth(2)).to_have_text("4")
    await expect(row.get_by_role("cell").nth(3)).to_have_text("1")
    await expect(row.locator("time")).to_have_text(re.compile("ago|now"))
    await assert_accessible(page)
    await show(page, "sources")


async def test_the_environment_is_switched_by_menu_and_keyboard_and_remembered(
    page: Page, stack: Stack
) -> None:
    await page.goto("/sources")
    await expect(page).to_have_title("Sources · Testing · Doorbell")
    await page.get_by_text("Testing", exact=True).click()
    await page.get_by_role("link", name="Production").click()
    await expect(page).to_have_url(re.compile("environment=production"))
    await expect(page.locator(".topbar[data-production]")).to_be_visible()
    await page.goto("/sources")
    await expect(page).to_have_title("Sources · Production · Doorbell")
    await page.keyboard.press("e")
    await page.keyboard.press("1")
    await expect(page).to_have_title("Sources · Testing · Doorbell")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_hidden()


async def test_an_unknown_environment_and_an_unknown_source_are_pages(page: Page, watched: Watched) -> None:
    watched.expect(404)
    await page.goto("/sources?environment=nowhere")
    await expect(page.get_by_role("alert")).to_contain_text("There is no environment 'nowhere'")
    await page.goto("/sources/nothing")
    await expect(page.get_by_role("alert")).to_contain_text("There is no source 'nothing'")
    await assert_accessible(page)


async def test_sections_lead_to_their_first_page(page: Page) -> None:
    for section, first in (("directory", "users"), ("settings", "environments")):
        await page.goto(f"/{section}?environment=production")
        await expect(page).to_have_url(re.compile(f"/{section}/{first}\\?environment=production$"))
        await expect(page.get_by_role("heading", level=1)).to_have_text(first.capitalize())


async def test_the_theme_is_kept(page: Page) -> None:
    await page.goto("/sources")
    await page.get_by_role("button", name="Dark theme").click()
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 16, 18)"


async def test_narrow_screens_have_a_drawer_and_nothing_to_scroll_sideways(page: Page) -> None:
    await page.goto("/sources")
    await assert_fits(page)
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    link = page.get_by_role("navigation", name="Main").get_by_role("link", name="Sources")
    await expect(link).to_be_hidden()
    await page.get_by_role("button", name="Navigation").click()
    await expect(link).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(link).to_be_hidden()


async def test_who_may_only_read_is_offered_nothing_else(context: BrowserContext, stack: Stack) -> None:
    await enter(context, stack, await stack.token("read"))
    page = await context.new_page()
    await page.goto("/sources")
    await expect(page.locator("div.tile-card").filter(has_text="Stripe")).to_be_visible()
    await expect(page.get_by_role("button", name="Stripe")).to_have_count(0)
    await expect(page.get_by_role("link", name="Add source")).to_have_count(0)
