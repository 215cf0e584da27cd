"""Environments, variables, tokens, the audit log and retention, by clicking."""

import httpx
from playwright.async_api import BrowserContext, Page, expect
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.variables import read_variables
from tests.api.dashboard.conftest import PHONE, Show, Stack, Watched, assert_accessible, enter


async def test_an_environment_is_made_named_pointed_at_knock_and_deleted(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    watched.expect(409, 422)
    await page.goto("/settings/environments")
    await assert_accessible(page)
    await page.get_by_role("button", name="New environment").click()
    dialog = page.get_by_role("dialog", name="New environment")
    await dialog.get_by_label("Name").fill("Staging")
    await dialog.get_by_label("Slug").fill("Not a slug")
    await dialog.get_by_role("button", name="Create environment").click()
    await expect(dialog.get_by_text("'Not a slug' is not a slug")).to_be_visible()
    await show(page, "environment-new")
    await dialog.get_by_label("Slug").fill("staging")
    await dialog.get_by_role("button", name="Create environment").click()
    await expect(page.get_by_role("heading", name="Staging", level=1)).to_be_visible()

    await page.get_by_label("Name", exact=False).first.fill("Stage")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("heading", name="Stage", level=1)).to_be_visible()

    await page.get_by_label("Actions run against").select_option("knock")
    # Nothing listens there, so that the check of the key fails and says so beside the field.
    await page.get_by_label("URL").fill("http://127.0.0.1:9")
    await page.get_by_label("Secret key").fill("sk_test_1")
    await page.get_by_role("button", name="Save destination").click()
    await expect(page.locator("#url-error")).to_contain_text("cannot be tried now")
    await expect(page.get_by_label("Secret key")).to_have_value("")
    await assert_accessible(page)
    await page.get_by_label("Secret key").fill("sk_test_1")
    await page.get_by_label("Check the key before saving").uncheck()
    await page.get_by_role("button", name="Save destination").click()
    await expect(page.get_by_label("Secret key")).to_have_attribute("placeholder", "unchanged")

    await page.get_by_label("Name of the new key").fill("back end")
    await page.get_by_role("button", name="Issue key").click()
    key = await page.locator("#issued code").inner_text()
    await show(page, "environment")
    assert await _directory_status(stack, key) == 200
    await page.get_by_role("button", name="Revoke").click()
    await page.get_by_role("dialog", name="Revoke back end?").get_by_role("button", name="Revoke key").click()
    await expect(page.get_by_text("revoked", exact=True)).to_be_visible()
    assert await _directory_status(stack, key) == 401

    await page.goto("/settings/environments")
    await page.get_by_role("button", name="Move Stage up").click()
    await expect(page.get_by_role("row").nth(3)).to_contain_text("Stage")
    await show(page, "environments")
    await page.get_by_role("link", name="Stage", exact=True).click()
    await page.get_by_role("button", name="Delete Stage").click()
    dialog = page.get_by_role("dialog", name="Delete Stage?")
    await dialog.get_by_role("textbox").fill("stagin")
    await dialog.get_by_role("button", name="Delete environment").click()
    await expect(dialog).to_be_visible()
    await dialog.get_by_role("textbox").fill("staging")
    await dialog.get_by_role("button", name="Delete environment").click()
    await expect(page.get_by_role("table")).to_be_visible()
    await expect(page.get_by_role("link", name="Stage", exact=True)).to_have_count(0)


async def test_variables_are_set_for_environments_and_secrets_never_come_back(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    watched.expect(422)
    await page.goto("/settings/variables")
    await expect(page.get_by_text("No variables yet")).to_be_visible()
    await page.get_by_role("button", name="New variable").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("1 bad name")
    await dialog.get_by_label("Type").select_option("secret")
    await dialog.get_by_role("button", name="Save variable").click()
    await expect(dialog.locator("#key-error")).to_contain_text("is not a key")
    await dialog.get_by_label("Name").fill("SIGNING")
    await dialog.get_by_label("Default value").fill("open-sesame")
    await dialog.get_by_label("Testing").fill("open-barley")
    await dialog.get_by_role("button", name="Save variable").click()
    row = page.get_by_role("row").filter(has_text="SIGNING")
    await expect(row).to_contain_text("secret")
    assert "open-" not in await page.content()
    await assert_accessible(page)
    await show(page, "variables")

    # The secret values stay when their fields are left empty.
    await row.get_by_role("button", name="Change SIGNING").click()
    await dialog.get_by_label("What it is for").fill("of the CRM")
    await assert_accessible(page)
    await show(page, "variable")
    await dialog.get_by_role("button", name="Save variable").click()
    await expect(row).to_contain_text("of the CRM")
    async with AsyncSession(stack.runtime.engine) as session:
        _, by_environment = await read_variables(session, stack.runtime.box)
    assert by_environment[stack.environment].values["SIGNING"] == "open-barley"
    await row.get_by_role("button", name="Delete SIGNING").click()
    await (
        page.get_by_role("dialog", name="Delete SIGNING?")
        .get_by_role("button", name="Delete variable")
        .click()
    )
    await expect(page.get_by_text("No variables yet")).to_be_visible()


async def test_a_token_is_shown_once_limited_used_and_revoked(
    page: Page, context: BrowserContext, stack: Stack, watched: Watched, show: Show
) -> None:
    watched.expect(401, 403, 422)
    await page.goto("/settings/tokens")
    await page.get_by_label("Name").fill("limited reader")
    await page.get_by_label("Scope").select_option("admin")
    await page.get_by_label("Environments", exact=True).select_option("some")
    await page.get_by_role("button", name="Issue token").click()
    await expect(page.locator(".field .error")).to_be_visible()
    await page.get_by_label("Testing").check()
    await page.get_by_role("button", name="Issue token").click()
    token = await page.locator("#issued code").inner_text()
    await assert_accessible(page)
    await show(page, "tokens")
    await page.reload()
    assert token not in await page.content()

    # It sees its own environment only, and nothing of the account.
    await context.clear_cookies()
    await enter(context, stack, token)
    await page.goto("/settings/variables")
    await page.get_by_text("Testing", exact=True).click()
    await expect(page.get_by_role("link", name="Production")).to_have_count(0)
    for path in ("/settings/tokens", "/settings/audit-log", "/settings/variables?environment=production"):
        await page.goto(path)
        await expect(page.get_by_role("alert")).to_contain_text("is limited to")

    await context.clear_cookies()
    await enter(context, stack, await stack.token("admin"))
    await page.goto("/settings/tokens")
    await page.get_by_role("button", name="Revoke limited reader").click()
    await page.get_by_role("button", name="Revoke token").click()
    await expect(page.get_by_role("row").filter(has_text="limited reader")).to_contain_text("revoked")


async def test_the_audit_log_shows_differences_and_retention_is_changed(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    watched.expect(422)
    await page.goto("/settings/retention")
    await assert_accessible(page)
    await page.get_by_label("Payloads").fill("60")
    await page.get_by_label("Logs").fill("30")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_role("button", name="Change retention").click()
    await expect(page.locator("#payload_days-error")).to_contain_text("longer than log_days")
    await show(page, "retention")
    await page.get_by_label("Payloads").fill("7")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_role("button", name="Change retention").click()
    await expect(page.get_by_label("Payloads")).to_have_value("7")
    await expect(page.locator("#payload_days-error")).to_have_count(0)

    await page.goto("/settings/audit-log?kind=retention")
    entry = page.get_by_role("listitem").filter(has_text="retention.updated")
    await expect(entry.get_by_role("row", name="payload_days")).to_contain_text("7")
    await assert_accessible(page)
    await page.goto("/settings/audit-log")
    await show(page, "audit-log")
    await page.get_by_label("What", exact=True).select_option("source")
    await page.get_by_label("Who").fill("nobody")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_text("No such change")).to_be_visible()
    for path in ("environments", "variables", "tokens", "audit-log", "retention"):
        await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        await page.goto(f"/settings/{path}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


async def _directory_status(stack: Stack, key: str) -> int:
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
        answer = await client.get("/v1/users", headers={"authorization": f"Bearer {key}"})
    return answer.status_code
