"""A new user's first minutes: connecting a source, setting it up, its first event."""

import re

import httpx
import orjson
from playwright.async_api import Page, expect

from tests.api.dashboard.conftest import (
    DESKTOP,
    PHONE,
    Show,
    Stack,
    Watched,
    assert_accessible,
    assert_fits,
)


async def test_a_source_is_connected_and_rings(
    page: Page, stack: Stack, watched: Watched, show: Show
) -> None:
    await page.goto("/sources")
    await page.get_by_role("link", name="Stripe").click()
    dialog = page.get_by_role("dialog", name="Stripe")
    await expect(dialog).to_be_visible()
    await assert_accessible(page)
    await show(page, "connect")
    await dialog.get_by_role("switch", name="invoice.created").uncheck()

    # What is wrong is said beside the field, and nothing that was typed is lost.
    watched.expect(422)
    await dialog.get_by_label("Unique identifier").fill("Not A Key")
    await dialog.get_by_role("button", name="Connect Stripe").click()
    await expect(dialog.locator("#key-error")).to_contain_text("use lower-case letters")
    await expect(dialog.get_by_role("switch", name="invoice.created")).not_to_be_checked()
    await dialog.get_by_label("Unique identifier").fill("stripe")
    await dialog.get_by_role("button", name="Connect Stripe").click()

    await expect(page).to_have_url(re.compile("/sources/stripe/setup"))
    types = await stack.bench.rows(
        "SELECT event_type FROM mappings JOIN source_environments s ON s.id = source_environment_id "
        "WHERE s.source_key = 'stripe' AND s.environment = :environment ORDER BY 1",
        environment=stack.environment,
    )
    assert [each["event_type"] for each in types] == ["customer.created", "invoice.paid"]

    await expect(page.get_by_text("Waiting for your first event ...")).to_be_visible()
    await assert_accessible(page)
    await show(page, "setup-waiting")
    secret = page.get_by_label("Signing secret")
    await page.get_by_role("button", name="Add secret").click()
    await expect(page.locator("#value-error")).to_have_text("is required")
    await secret.fill("whsec_dGVzdC1zZWNyZXQ=")
    await page.get_by_role("button", name="Add secret").click()
    await expect(page.get_by_text("1 secret stored")).to_be_visible()

    await page.get_by_role("button", name="Send a test event").click()
    step = page.locator("#first-event")
    await expect(step.get_by_text("Received", exact=True)).to_be_visible()
    # It turns green, and goes on by itself to what became of it.
    await expect(step.get_by_text("succeeded")).to_be_visible()
    await expect(step.get_by_text("verified", exact=True)).to_be_visible()
    await expect(page.locator("#event-type-step")).to_contain_text("body.type reads customer.created")
    await assert_accessible(page)
    await assert_fits(page)
    await show(page, "setup-received")

    # The key is taken now: another one is suggested.
    await page.goto("/sources?connect=stripe")
    await expect(page.get_by_label("Unique identifier")).to_have_value("stripe-2")
    await page.get_by_label("Unique identifier").fill("stripe")
    await page.get_by_role("button", name="Connect Stripe").click()
    await expect(page.locator("#key-error")).to_contain_text("already")


async def test_the_event_type_is_chosen_from_the_first_event(
    page: Page, stack: Stack, watched: Watched
) -> None:
    source = await stack.bench.source("custom_http", secret="a-secret-of-ours", enforce_verification=False)
    await page.goto(f"/sources/{source.key}/setup")
    await expect(page.get_by_text("Waiting for your first event ...")).to_be_visible()
    body = orjson.dumps({"event": {"name": "order.created"}, "at": "2026-01-01T00:00:00Z"})
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
        answer = await client.post(source.path, content=body, headers={"x-kind": "order"})
        assert answer.status_code == 200
    step = page.locator("#event-type-step")
    await expect(step).to_contain_text("body.type reads no type from the last event")
    watched.expect(422)
    await step.get_by_label("Another path").fill("body..x")
    await step.get_by_role("button", name="Save the field").click()
    await expect(step.locator(".error")).to_contain_text("is not a path")
    await step.get_by_label("Another path").fill("")
    await step.get_by_role("radio", name="body.event.name order.created").check()
    await step.get_by_role("button", name="Save the field").click()
    await expect(step).to_contain_text("From now on the type is read from body.event.name")
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
        answer = await client.post(source.path, content=body)
    assert (await stack.bench.event(answer.json()["id"]))["event_type"] == "order.created"
    await expect(step).to_contain_text("body.event.name reads order.created from the last event")
    await expect(step.get_by_role("radio", name="body.event.name order.created")).to_be_checked()


async def test_a_refused_first_event_is_said_to_be_refused_and_the_next_one_is_read(
    page: Page, stack: Stack, show: Show
) -> None:
    source = await stack.bench.source("github", secret=None)
    await page.goto(f"/sources/{source.key}/setup")
    send = page.get_by_role("button", name="Send a test event")
    await send.click()
    step = page.locator("#event-type-step")
    await expect(step).to_contain_text(
        "The last event was refused; the step above says why. "
        "The type is read from headers.x-github-event when one is accepted."
    )
    chosen = step.get_by_role("radio", name="headers.x-github-event ping")
    await expect(chosen).to_be_checked()
    await expect(step).not_to_contain_text("choose another field")
    await assert_paths_are_beside_their_buttons(page)
    await show(page, "setup-refused")

    # What somebody is typing stays while the step around it says what is true by now.
    typed = step.get_by_label("Another path")
    await typed.fill("body.acti")
    await page.get_by_label("Webhook secret").fill("a-secret-of-ours")
    await page.get_by_role("button", name="Add secret").click()
    await expect(page.get_by_text("1 secret stored")).to_be_visible()
    await send.click()
    await expect(step).to_contain_text("headers.x-github-event reads ping from the last event")
    await expect(typed).to_have_value("body.acti")
    await expect(chosen).to_be_checked()


async def assert_paths_are_beside_their_buttons(page: Page) -> None:
    """On a phone too, however long a path is."""
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    for label in await page.locator(".choices label").all():
        button, path = await label.locator("input").bounding_box(), await label.locator("code").bounding_box()
        assert button is not None
        assert path is not None
        assert path["x"] > button["x"] + button["width"]
        assert path["y"] < button["y"] + button["height"]
    await page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


async def test_test_events_are_not_sent_in_production(page: Page, stack: Stack, watched: Watched) -> None:
    await page.goto("/sources?environment=production&connect=github")
    await page.get_by_role("button", name="Connect GitHub").click()
    await expect(page.get_by_text("Test events are not sent in production")).to_be_visible()
    watched.expect(422)
    answer = await page.evaluate(
        """() => fetch("/sources/github/setup/test-event?environment=production", {
            method: "POST",
            headers: {
              "X-CSRF-Token": document.querySelector('meta[name="csrf-token"]').content,
              "HX-Request": "true",
            },
        }).then((answer) => answer.status)"""
    )
    assert answer == 422
