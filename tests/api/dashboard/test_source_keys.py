"""The card of source keys: issued and shown once, used for a call, listed, revoked; who may not, sees the
list only."""

from playwright.async_api import BrowserContext, Dialog, Page, expect

from app.sources.keys import SOURCE_KEY_PREFIX
from tests.api.dashboard.conftest import Show, Stack, Watched, assert_accessible, assert_fits, enter
from tests.api.reverse_etl.keys import Caller, events, source_key


async def test_a_key_is_issued_used_and_revoked(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    source = await stack.bench.source("hightouch", secret=None)
    await page.goto(f"/sources/{source.key}/setup")
    await assert_fits(page)
    await show(page, "source-keys-setup")
    await page.get_by_role("link", name="Open source keys").click()
    section = page.locator("#section-keys")
    await expect(section).to_be_in_viewport()
    await expect(section).to_contain_text("None yet")

    watched.expect(422)
    name = section.get_by_label("Name of the new key")
    await section.get_by_role("button", name="Issue key").click()
    await expect(section.locator("#key_name-error")).to_contain_text("at least 1 character")
    await name.fill("x" * 256)
    await section.get_by_role("button", name="Issue key").click()
    await expect(section.locator("#key_name-error")).to_contain_text("at most 255 characters")
    await expect(name).to_have_value("x" * 256)
    await assert_accessible(page)
    await name.fill("Workspace <of ours>")
    await section.get_by_role("button", name="Issue key").click()
    key = await section.locator("#issued code").inner_text()
    assert key.startswith(SOURCE_KEY_PREFIX)
    await expect(section.locator(".error")).to_have_count(0)
    await expect(name).to_have_value("")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await section.get_by_role("button", name="Copy Workspace <of ours>").click()
    await expect(page.get_by_text("Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == key
    await assert_accessible(page)
    await assert_fits(page)
    await show(page, "source-keys-issued")

    call = Caller(stack.bench, key)
    assert (await call("PUT", "/v1/users/u1", json={"name": "Ada"})).status_code == 200
    (event,) = await events(source)
    assert event["event_type"] == "users:identify"
    assert event["environment"] == stack.environment

    await page.reload()
    await expect(section.get_by_role("listitem")).to_contain_text("Workspace <of ours>")
    assert key not in await page.content()
    revoke = section.get_by_role("button", name="Revoke Workspace <of ours>")
    page.once("dialog", lambda dialog: dialog.dismiss())
    await revoke.click()
    await expect(revoke).to_be_visible()
    asked: list[str] = []

    async def agree(dialog: Dialog) -> None:
        asked.append(dialog.message)
        await dialog.accept()

    page.once("dialog", agree)
    await revoke.click()
    await expect(section.get_by_text("revoked", exact=True)).to_be_visible()
    assert "Workspace <of ours> is refused from now on" in asked[0]
    await expect(revoke).to_have_count(0)
    assert (await call("PUT", "/v1/users/u1", json={})).status_code == 401
    assert len(await events(source)) == 1
    await assert_accessible(page)
    await assert_fits(page)
    await show(page, "source-keys-revoked")

    await page.goto(f"/settings/audit-log?key={source.key}")
    await expect(page.get_by_text("source_key.revoked")).to_be_visible()
    await expect(page.get_by_text("source_key.issued")).to_be_visible()
    assert key not in await page.content()


async def test_keys_are_those_of_one_environment_and_of_reverse_etl_only(
    page: Page, stack: Stack, show: Show
) -> None:
    created = await stack.bench.api.put(
        "/v1/sources/synced",
        params={"environment": stack.environment},
        json={"source": {"name": "Synced", "preconfigured_provider": "polytomic"}},
    )
    assert created.status_code == 200, created.text
    await page.goto("/sources/synced/settings")
    section = page.locator("#section-keys")
    await section.get_by_label("Name of the new key").fill("n" * 255)
    await section.get_by_role("button", name="Issue key").click()
    await expect(section.get_by_role("listitem")).to_have_count(1)
    await assert_fits(page)
    await show(page, "source-keys-long-name")
    await page.goto("/sources/synced/settings?environment=production")
    await expect(section).to_contain_text("None yet")

    stripe = await stack.bench.source("stripe")
    await page.goto(f"/sources/{stripe.key}/settings?environment={stack.environment}")
    await expect(page.locator("#section-secrets")).to_be_visible()
    await expect(section).to_have_count(0)


async def test_readers_see_keys_and_change_none(
    context: BrowserContext, stack: Stack, watched: Watched, show: Show
) -> None:
    source = await stack.bench.source("census", secret=None)
    key = await source_key(source)
    (stored,) = await stack.bench.rows(
        "SELECT k.id FROM source_keys k JOIN source_environments s ON s.id = source_environment_id "
        "WHERE source_key = :key",
        key=source.key,
    )
    await enter(context, stack, await stack.token("read"))
    page = await context.new_page()
    await page.goto(f"/sources/{source.key}/settings")
    section = page.locator("#section-keys")
    await expect(section.get_by_text("in use")).to_be_visible()
    await expect(section.get_by_role("button")).to_have_count(0)
    await expect(section.get_by_role("textbox")).to_have_count(0)
    await show(page, "source-keys-reader")
    watched.expect(403)
    for path in ("", f"/{stored['id']}/revoke"):
        told = await page.evaluate(
            """(path) => fetch(path, {
                method: "POST",
                headers: {
                  "X-CSRF-Token": document.querySelector('meta[name="csrf-token"]').content,
                  "HX-Request": "true",
                },
                body: new URLSearchParams({key_name: "mine"}),
            }).then((answer) => [answer.status, answer.headers.get("hx-trigger")])""",
            f"/sources/{source.key}/settings/keys{path}",
        )
        assert told[0] == 403
        assert "needs a service token with scope write" in told[1]
    assert (await Caller(stack.bench, key)("PUT", "/v1/users/u1", json={})).status_code == 200


async def test_a_form_without_the_sessions_token_issues_nothing(
    page: Page, stack: Stack, watched: Watched
) -> None:
    source = await stack.bench.source("hightouch", secret=None)
    await page.goto(f"/sources/{source.key}/settings")
    watched.expect(403)
    status = await page.evaluate(
        """(path) => fetch(path, {method: "POST", body: new URLSearchParams({key_name: "mine"})})
            .then((answer) => answer.status)""",
        f"/sources/{source.key}/settings/keys",
    )
    assert status == 403
    await page.reload()
    await expect(page.locator("#section-keys")).to_contain_text("None yet")
