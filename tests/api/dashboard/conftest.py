"""The dashboard in a real browser: Chromium against the real application on loopback, with a worker behind
it.

A module's tests share one database, one server and one worker (`stack`); each has a browser context of its
own (`page`, logged in). Whatever a page says on the console, whatever breaks the content security policy, and
any request that leaves this machine, fails the test.
"""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    async_playwright,
    expect,
)
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.sessions import SessionKeys, log_in
from app.account.tokens import Scope, add_token
from app.api.dashboard.pages import BUILT
from app.api.dashboard.session import COOKIE
from app.core.settings import Settings
from app.models.environment import Environment
from app.runtime.resources import Runtime, open_runtime
from app.runtime.temporal import connect, prepare_namespace
from app.stack.postgres import EmbeddedPostgres
from app.stack.temporal import EmbeddedTemporal
from app.worker.main import run_workers
from tests.bench import Api, Bench
from tests.conftest import ADMIN_TOKEN, add_environment, fresh_database, serve_api, settings_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 400, "height": 800}
AXE = Path(__file__).parents[3] / "web" / "node_modules" / "axe-core" / "axe.min.js"
DEADLINE_MILLISECONDS = 60_000
expect.set_options(timeout=DEADLINE_MILLISECONDS)
_FAILED_TO_LOAD = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")


@dataclass
class Stack:
    """What the tests of a module share."""

    settings: Settings
    runtime: Runtime
    url: str
    bench: Bench

    @property
    def environment(self) -> str:
        """The slug of the environment that the worker serves; it comes first."""
        return self.bench.environment

    async def token(self, scope: str) -> str:
        """A new service token."""
        async with AsyncSession(self.runtime.engine) as session:
            _, token = await add_token(session, f"{scope} token", Scope(scope))
            await session.commit()
        return token


class Watched:
    """What went wrong in a browser. Statuses that a test provokes are told with `expect`."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._expected: set[int] = set()
        self.problems: list[str] = []

    def expect(self, *statuses: int) -> None:
        """Answers with these statuses are meant."""
        self._expected.update(statuses)

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.problems.append(f"page error: {error.error}"))
        context.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        failed = _FAILED_TO_LOAD.match(message.text)
        is_meant = failed is not None and int(failed[1]) in self._expected
        # htmx says so too, for each answer that it does not show.
        is_meant = is_meant or message.text.startswith(
            tuple(f"Response Status Error Code {status} " for status in self._expected)
        )
        if message.type in ("error", "warning") and not is_meant:
            self.problems.append(f"console {message.type}: {message.text} ({message.location})")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != self._host:
            self.problems.append(f"left this machine: {request.url}")


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, headless."""
    assert (BUILT / "manifest.json").exists(), "the dashboard is not built: make dashboard"
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert executable, f"none of {', '.join(BROWSERS)} is installed: apt install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
def module_settings(postgres: EmbeddedPostgres, temporal_server: EmbeddedTemporal) -> Iterator[Settings]:
    with fresh_database(postgres) as url:
        yield settings_of(url, temporal_server)


@pytest.fixture(scope="module")
async def stack(module_settings: Settings) -> AsyncIterator[Stack]:
    """The application, its worker, and a bench to make sources with."""
    async with open_runtime(module_settings) as runtime:
        await runtime.configuration.wait_until_loaded()
        temporal = await connect(module_settings)
        await prepare_namespace(temporal, runtime.configuration)
        slug = await add_environment(runtime)
        await _put_first(runtime, slug)
        async with (
            serve_api(module_settings) as url,
            Api(base_url=url, token=ADMIN_TOKEN) as api,
            run_workers(runtime, temporal, [slug]),
        ):
            yield Stack(module_settings, runtime, url, Bench(runtime, slug, api))


async def _put_first(runtime: Runtime, slug: str) -> None:
    async with AsyncSession(runtime.engine) as session:
        environment = await session.get_one(Environment, slug)
        environment.order, environment.name = -1, "Testing"
        await session.commit()
    await runtime.configuration.refresh()


@pytest.fixture
async def watched(stack: Stack) -> AsyncIterator[Watched]:
    watched = Watched(stack.url)
    yield watched
    assert not watched.problems, "\n".join(watched.problems)


@pytest.fixture
async def context(browser: Browser, stack: Stack, watched: Watched) -> AsyncIterator[BrowserContext]:
    """A browser context in which nobody is logged in."""
    context = await browser.new_context(base_url=stack.url, viewport=DESKTOP)
    context.set_default_timeout(DEADLINE_MILLISECONDS)
    watched.watch(context)
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext, stack: Stack) -> Page:
    """A page of somebody who is logged in with the admin token."""
    await enter(context, stack, ADMIN_TOKEN)
    return await context.new_page()


async def enter(context: BrowserContext, stack: Stack, token: str) -> None:
    """Log in without the form."""
    async with AsyncSession(stack.runtime.engine, expire_on_commit=False) as session:
        identifier = await log_in(session, stack.settings, token)
    cookie = SessionKeys(stack.settings.secret_key).seal(identifier)
    await context.add_cookies([{"name": COOKIE, "value": cookie, "url": stack.url}])


async def assert_accessible(page: Page) -> None:
    """Fail on what axe-core finds serious or critical, in both themes."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        # The colours of the other theme are gone once the page was drawn anew.
        await page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        await page.evaluate(AXE.read_text())
        # The other theme has other colours, and nothing else.
        only = "" if scheme == "light" else ", runOnly: { type: 'rule', values: ['color-contrast'] }"
        found: dict[str, Any] = await page.evaluate(f"axe.run({{ preload: false{only} }})")
        grave = [
            f"{each['id']} ({scheme}): {node['target']} {node['failureSummary']}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
        assert not grave, "\n".join(grave)
    await page.emulate_media(color_scheme=None)


async def assert_fits(page: Page) -> None:
    """Fail when a phone has to scroll sideways."""
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    await page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


@pytest.fixture
def show(request: pytest.FixtureRequest) -> "Show":
    """Takes pictures, when `--screenshots DIR` is given."""
    return Show(request.config.getoption("--screenshots"))


class Show:
    """Pictures of a page: both widths, both themes."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    async def __call__(self, page: Page, name: str) -> None:
        if self._directory is None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        for size, viewport in (("wide", DESKTOP), ("phone", PHONE)):
            await page.set_viewport_size(viewport)  # type: ignore[arg-type]
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
                path = self._directory / f"{name}-{size}-{scheme}.png"
                await page.screenshot(path=path, full_page=await page.locator("dialog[open]").count() == 0)
        await page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
        await page.emulate_media(color_scheme=None)
