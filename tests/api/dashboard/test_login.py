"""Logging in and out, what a session may do, and what it refuses."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import BrowserContext, Page, expect
from sqlalchemy import text
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.account.sessions import issue_link
from app.account.tokens import issue_token
from app.api.app import create_app
from app.api.dashboard.login import MAXIMUM_FAILURES, MAXIMUM_FAILURES_TOGETHER, Failures
from app.api.dashboard.pages import Assets
from app.core.errors import RequestError
from app.core.settings import Settings
from tests.api.dashboard.conftest import Show, Stack, Watched, assert_accessible, enter
from tests.conftest import ADMIN_TOKEN
from tests.servers import serve


async def make_link(stack: Stack) -> str:
    return (await issue_link(stack.settings, ADMIN_TOKEN)).removeprefix(stack.settings.base_url)


async def test_a_token_logs_in_and_logging_out_ends_the_session(
    context: BrowserContext, stack: Stack, watched: Watched, show: Show
) -> None:
    page = await context.new_page()
    await page.goto("/sources?environment=production")
    await expect(page).to_have_title("Log in · Doorbell")
    await show(page, "login")
    await assert_accessible(page)

    watched.expect(401)
    await page.get_by_label("Service token").fill("dbl_st_wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_have_text("The service token is unknown")

    await page.get_by_label("Service token").fill(ADMIN_TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await expect(page).to_have_title("Sources · Production · Doorbell")
    cookie = next(each for each in await context.cookies() if each["name"] == "doorbell_session")
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert ADMIN_TOKEN not in cookie["value"]

    await page.get_by_text("bootstrap").first.click()
    await page.get_by_role("button", name="Log out").click()
    await expect(page).to_have_title("Log in · Doorbell")
    # The session is over for who copied its cookie, too.
    async with httpx.AsyncClient(
        base_url=stack.url, cookies={"doorbell_session": cookie["value"]}, timeout=60
    ) as client:
        assert (await client.get("/sources")).headers["location"].startswith("/login")


async def test_a_link_logs_in_once(context: BrowserContext, stack: Stack, watched: Watched) -> None:
    link = await make_link(stack)
    page = await context.new_page()
    async with httpx.AsyncClient(base_url=stack.url) as preview:
        # A preview of a message looks at the link, and does not use it up.
        for method in ("GET", "HEAD", "GET"):
            assert "set-cookie" not in (await preview.request(method, link)).headers
        elsewhere = {"origin": "https://evil.example"}
        assert (await preview.post(link, headers=elsewhere)).status_code == 403
    await page.goto(link)
    await assert_accessible(page)
    await page.get_by_role("button", name="Log in").click()
    await expect(page).to_have_title("Overview · Testing · Doorbell")
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as another:
        again = await another.get(link)
        assert again.status_code == 401
        assert "used already" in again.text
        expired = await make_link(stack)
        async with stack.runtime.engine.begin() as connection:
            await connection.execute(
                text("UPDATE dashboard_sessions SET expires_at = now() WHERE link_hash IS NOT NULL")
            )
        assert (await another.get(expired)).status_code == 401


async def test_a_revoked_token_ends_its_sessions(context: BrowserContext, stack: Stack) -> None:
    token = await stack.token("write")
    await enter(context, stack, token)
    page = await context.new_page()
    await page.goto("/sources")
    await expect(page.get_by_role("heading", name="Sources", exact=True)).to_be_visible()
    async with stack.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE service_tokens SET revoked_at = now()"))
    await page.reload()
    await expect(page).to_have_title("Log in · Doorbell")


async def test_forms_of_others_are_refused(page: Page, stack: Stack) -> None:
    cookies = {each["name"]: each["value"] for each in await page.context.cookies()}
    async with httpx.AsyncClient(base_url=stack.url, cookies=cookies, timeout=60) as client:
        for headers, data in (
            ({"sec-fetch-site": "same-origin"}, {}),
            ({"sec-fetch-site": "same-origin"}, {"csrf_token": "wrong"}),
            ({"origin": "https://evil.example"}, {}),
            ({}, {}),
            ({"sec-fetch-site": "cross-site", "origin": stack.url}, {}),
        ):
            answer = await client.post("/logout", headers=headers, data=data)
            assert answer.status_code == 403, headers
        answer = await client.post(
            "/login", headers={"origin": "https://evil.example"}, data={"token": ADMIN_TOKEN}
        )
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        assert (await client.get("/sources")).status_code == 200


async def test_logins_that_fail_too_often_have_to_wait(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url, headers={"origin": stack.url}, timeout=60) as client:
        for _ in range(MAXIMUM_FAILURES + 1):
            answer = await client.post("/login", data={"token": "dbl_st_wrong"})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        # The right token gets in, whoever failed before.
        assert (await client.post("/login", data={"token": ADMIN_TOKEN})).status_code == 303


async def test_failures_are_counted_by_address_and_together() -> None:
    failures = Failures()
    for _ in range(MAXIMUM_FAILURES):
        failures.note("192.0.2.1")
    with pytest.raises(RequestError, match="Too many attempts"):
        failures.note("192.0.2.1")
    for number in range(MAXIMUM_FAILURES_TOGETHER - MAXIMUM_FAILURES):
        failures.note(f"198.51.100.{number}")
    with pytest.raises(RequestError, match="Too many attempts"):
        failures.note("203.0.113.1")


@pytest.mark.parametrize(
    ("trusted", "address"),
    [
        ("", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9"),
        ("127.0.0.0/8,203.0.113.0/24", "192.0.2.7"),
        ("10.0.0.0/8", "127.0.0.1"),
    ],
)
async def test_only_trusted_proxies_say_who_sends(settings: Settings, trusted: str, address: str) -> None:
    """A sender on loopback who writes X-Forwarded-For is none of them by default."""
    settings = settings.model_copy(update={"trusted_proxies": trusted})
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    proxied = ProxyHeadersMiddleware(app, trusted_hosts=settings.trusted_hosts)
    forwarded = (b"x-forwarded-for", b"192.0.2.7, 203.0.113.9")
    await proxied({"type": "http", "client": ("127.0.0.1", 1), "headers": [forwarded]}, None, None)  # type: ignore[arg-type]
    assert seen == [address]


async def test_pages_carry_a_strict_policy(page: Page, stack: Stack) -> None:
    answer = await page.goto("/sources")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    for path in ("//evil.example", "/\\evil.example", "https://evil.example"):
        answer = await page.goto(f"/login?next={path}")
        assert page.url.startswith(stack.url)


async def test_without_built_files_pages_say_how_to_build_them(settings: Settings, tmp_path: Path) -> None:
    app = create_app(settings)
    app.state.assets = Assets(tmp_path)
    async with (
        serve(app) as url,
        httpx.AsyncClient(base_url=url, follow_redirects=True, timeout=60) as client,
    ):
        answer = await client.get("/")
        assert (answer.status_code, "make dashboard" in answer.text) == (503, True)
        assert (await client.get("/livez")).status_code == 200


async def test_a_limited_token_sees_its_environments_only(stack: Stack) -> None:
    token = await issue_token(stack.runtime.settings, "limited", "admin", [stack.environment])
    link = await issue_link(stack.runtime.settings, token)
    async with httpx.AsyncClient(base_url=stack.url, follow_redirects=True, timeout=60) as client:
        home = await client.post(urlsplit(link).path, headers={"origin": stack.url})
        assert home.status_code == 200, home.text
        assert "Production" not in home.text
        elsewhere = await client.get("/sources", params={"environment": "production"})
        assert elsewhere.status_code == 403
        assert f"is limited to {stack.environment}" in elsewhere.text
