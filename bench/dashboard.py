"""How soon the dashboard is there, with many requests in the ledger.

    python -m bench.dashboard [requests, 100000 unless given]

A real browser (Debian's Chromium) on a whole Penstock in one process. Milliseconds from the navigation's start, medians
of some loads with a key that is kept: the browser's own first contentful paint, and the first line of the requests'
table; then how long a new request takes from its answer's end to its line.

Above it: whoever runs it. Below it: `tests.deployments.house`, Playwright.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import msgspec
import pytest
from playwright.async_api import Page

from pipelines.ledger import Batch, FirstAttempt, RequestRow
from pipelines.routing.table import Bill
from tests.deployments.browser import browsing
from tests.deployments.house import KEY, House, client_of, house, url_of

LOADS = 7
BATCH = 1_000
BILL = Bill(input=100, output=50, cost=12_345, basis="computed", prices="genai-prices")
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


async def fill(running: House, requests: int) -> None:
    """Put that many requests of the last days into the ledger, with their attempts."""
    assert running.ledger is not None
    began = time.time() - requests
    for first in range(0, requests, BATCH):
        rows: list[RequestRow] = []
        for number in range(first, min(first + BATCH, requests)):
            at = began + number
            request = f"{int(at * 1000):012x}{number:020x}"
            attempt = f"{int(at * 1000):012x}{number + requests:020x}"
            told = {"time": at, "key": f"key-{number % 20}", "provider": "simulator", "model": "fast", "seconds": 0.5}
            row = RequestRow(id=request, lane="routed", dialect="openai_chat", asked="auto", bill=BILL, **told)  # type: ignore[arg-type]
            rows.append(msgspec.structs.replace(row, attempt=FirstAttempt(attempt, seconds=0.5)))
        await running.ledger.settle(msgspec.msgpack.encode(Batch("bench", tuple(rows))))


async def load(page: Page) -> tuple[float, float]:
    """Milliseconds to the first paint and to the first line of the table."""
    await page.reload()
    await page.locator("tbody tr").first.wait_for()
    line = await page.evaluate("performance.now()")
    return await page.evaluate(PAINT), line


async def noticed(page: Page, client: httpx.AsyncClient) -> float:
    """Milliseconds from a request's end to its line."""
    before = await page.locator("tbody tr").first.get_attribute("data-key")
    await client.post(
        "/v1/chat/completions",
        json={"model": "simulator/fast", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5},
    )
    began = time.perf_counter()
    await page.wait_for_function("before => document.querySelector('tbody tr').dataset.key !== before", arg=before)
    return (time.perf_counter() - began) * 1000


async def main(requests: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        async with house(Path(directory), patch) as running:
            await fill(running, requests)
            address = f"{url_of(running.gateway)}/dashboard"
            async with browsing(address) as watched, client_of(running.gateway) as client:
                page = watched.page
                await page.get_by_label("API key").fill(KEY)
                await page.get_by_role("button", name="Sign in").click()
                await page.evaluate("location.hash = '#/requests'")
                await page.locator("tbody tr").first.wait_for()
                loads = [await load(page) for _ in range(LOADS)]
                waits = [await noticed(page, client) for _ in range(LOADS)]
    paint, line = (statistics.median(one) for one in zip(*loads, strict=True))
    print(f"with {requests} requests in the ledger, medians of {LOADS}:")
    print(f"  first contentful paint   {paint:7.0f} ms")
    print(f"  first line of the table  {line:7.0f} ms")
    print(f"  a new request's line     {statistics.median(waits):7.0f} ms (slowest {max(waits):.0f})")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
