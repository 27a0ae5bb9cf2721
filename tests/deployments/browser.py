"""A real browser, Debian's Chromium, that notes whatever a page should not have done."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.programs import program

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""The browser itself asks nobody either."""

PATIENCE = 60_000
"""Milliseconds that anything on a page is waited for."""

expect.set_options(timeout=PATIENCE)


class Watched:
    """A page, and what it complained of or asked of other hosts."""

    def __init__(self, page: Page, host: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._host = host
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != self._host:
            self.strangers.append(url)


@asynccontextmanager
async def browsing(url: str, *, width: int = 1300, dark: bool = False) -> AsyncIterator[Watched]:
    """A page of a new browser at `url`."""
    found = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(QUIET))
        try:
            context: BrowserContext = await browser.new_context(
                viewport={"width": width, "height": 850}, color_scheme="dark" if dark else "light"
            )
            context.set_default_timeout(PATIENCE)
            watched = Watched(await context.new_page(), urlsplit(url).netloc)
            await watched.page.goto(url)
            yield watched
        finally:
            await browser.close()
