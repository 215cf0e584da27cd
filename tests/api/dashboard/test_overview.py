"""The overview: empty, with events of all outcomes, renewed while it is looked at, in each range."""

import re

from playwright.async_api import Page, expect
from sqlalchemy import text

from app.logs.rollup import roll_up
from tests.api.dashboard.conftest import PHONE, Show, Stack, assert_accessible
from tests.servers import eventually

# Keeps what is drawn as text on a canvas, and where it begins.
DRAWN = """
  const fillText = CanvasRenderingContext2D.prototype.fillText
  window.drawn = []
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    drawn.push([text, x - (this.textAlign === "right" ? this.measureText(text).width : 0)])
    fillText.call(this, text, x, y)
  }
"""


async def test_overview_from_empty_to_failing(page: Page, stack: Stack, show: Show) -> None:
    await page.goto("/")
    await expect(page.get_by_role("heading", name="Connect your first source")).to_be_visible()
    await assert_accessible(page)
    await show(page, "overview-empty")

    good = await stack.bench.source("stripe")
    bad = await stack.bench.source(
        "custom_http",
        mappings={"user.changed": [("users_identify", {"id": "body.id", "email": "body.email"})]},
        event_type_path="body.type",
        enforce_verification=False,
        secret=None,
    )
    for _ in range(3):
        await stack.bench.final(await good.send("customer.created"))
    refused = await good.post(good.example("invoice.paid"), headers={})
    assert refused.status_code == 401
    await page.reload()
    figures = page.locator("#figures")
    await expect(figures).to_contain_text(re.compile(r"Events\s*4"))
    await expect(page.locator("#events-data")).to_be_attached()
    await expect(page.locator("[data-chart=events] canvas")).to_be_visible()
    await page.locator("[data-chart=events] .u-over").hover()
    await expect(page.locator("[data-chart=events] .u-legend")).to_contain_text("Succeeded")
    await expect(page.get_by_role("row").filter(has_text=good.key).first).to_contain_text("1")
    await expect(page.get_by_text("Postgres can be reached")).to_be_visible()
    await expect(page.get_by_text("Temporal can be reached")).to_be_visible()

    # Without anybody doing anything: one that the destination refuses, and one more of those that it takes.
    body = b'{"type": "user.changed", "id": "..", "email": "a@example.com"}'
    assert (await bad.post(body, headers={})).status_code == 200
    await expect(page.locator("#live")).to_contain_text("contains dot-segment")
    await expect(page.locator("[data-chart=events] .u-legend")).to_contain_text("Failed")
    await page.evaluate("document.querySelector('[data-chart=events] canvas').dataset.kept = 'yes'")
    await page.locator("#events-table summary").click()
    await good.send("customer.created")
    await expect(figures).to_contain_text(re.compile(r"Events\s*6"))
    await expect(page.locator("[data-chart=events] canvas[data-kept]")).to_be_visible()
    await expect(page.locator("#events-numbers")).to_be_visible()
    types = page.get_by_role("table").filter(has=page.get_by_role("columnheader", name="Event type"))
    await expect(types.get_by_role("columnheader").last).to_have_text("Failed or rejected")
    # One was refused, for its signature.
    await expect(
        types.get_by_role("row").filter(has_text="without a type").get_by_role("cell").last
    ).to_have_text("1")
    await assert_accessible(page)
    await show(page, "overview")

    await roll_up(stack.runtime.engine)
    for name in ("Hour", "Week", "Month"):
        await page.get_by_role("link", name=name, exact=True).click()
        await expect(page).to_have_url(re.compile(f"range={name.lower()}"))
        await expect(figures).to_contain_text(re.compile(r"Events\s*6"))
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    # Charts follow a frame later.

    async def fits() -> bool:
        return bool(await page.evaluate(f"document.documentElement.scrollWidth <= {PHONE['width']}"))

    assert await eventually(fits)


async def test_the_numbers_of_an_axis_are_whole(page: Page, stack: Stack) -> None:
    """Long latencies have long numbers in milliseconds, for which an axis has no room."""
    source = await stack.bench.source("stripe")
    slow = await source.send("customer.created")
    await stack.bench.final(slow)
    async with stack.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE events SET finished_at = received_at + interval '75 seconds' WHERE id = CAST(:id AS "
                "uuid)"
            ),
            {"id": slow},
        )
    await page.add_init_script(DRAWN)
    await page.goto("/")

    async def has_seconds() -> bool:
        return bool(await page.evaluate("drawn.some(([text]) => / s$/.test(text))"))

    assert await eventually(has_seconds)
    assert await page.evaluate("drawn.filter(([, left]) => left < 0)") == []
