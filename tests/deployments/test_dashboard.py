"""The dashboard in a real browser, and the stream that keeps it live."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from msgspec.structs import replace
from playwright.async_api import Page, expect

from deployments.dashboard import assets
from pipelines.ledger import Batch
from tests.actors.ledger_rows import BILL, answered
from tests.clients import Caller, Frame
from tests.deployments.browser import browsing
from tests.deployments.house import KEY, House, client_of, house, url_of

VIEWS = ("now", "history", "providers", "models", "decisions", "requests", "tools", "keys", "playground")
PICTURES = Path("build/screenshots")
HELLO: dict[str, Any] = {"model": "simulator/fast", "messages": [{"role": "user", "content": "Hello, dashboard"}]}


@pytest.fixture
async def penstock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A whole Penstock."""
    async with house(tmp_path, monkeypatch) as built:
        yield built


def page_of(penstock: House) -> str:
    return f"{url_of(penstock.gateway)}/dashboard"


@asynccontextmanager
async def watching(penstock: House, key: str = KEY) -> AsyncIterator[Caller]:
    """A reader of the live stream, which has begun."""
    async with await Caller.connect(url_of(penstock.gateway)) as caller:
        await caller.request("GET", "/v1/live", headers=[("authorization", f"Bearer {key}")])
        head = await caller.head()
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        yield caller


async def event(caller: Caller) -> Frame:
    """The next one that is no comment."""
    while True:
        frame = await caller.frame()
        assert frame is not None
        if frame.event:
            return frame


async def ask(penstock: House, key: str = KEY, **more: Any) -> httpx.Response:
    async with client_of(penstock.gateway, key) as client:
        return await client.post("/v1/chat/completions", json={**HELLO, **more})


async def sign_in(page: Page, key: str = KEY) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#link")).to_have_text("live")


async def go(page: Page, view: str) -> None:
    await page.evaluate(f"location.hash = '#/{view}'")
    await expect(page.locator(f"#places a[data-view={view}]")).to_have_attribute("aria-current", "page")


async def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


async def test_the_page_is_open_and_the_figures_are_not(penstock: House) -> None:
    async with httpx.AsyncClient(base_url=url_of(penstock.gateway), trust_env=False) as client:
        page = await client.get("/dashboard")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == assets.POLICY
        again = await client.get("/dashboard", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.get("/dashboard/views/now.js")).headers["content-type"].startswith("text/javascript")
        for closed in (
            "/v1/live",
            "/dashboard/nothing.js",
            "/dashboard/..%2fapp.py",
            "/dashboardx",
            "/dashboard/views",
        ):
            assert (await client.get(closed)).status_code == 401
        assert (await client.post("/dashboard")).status_code == 401


def test_no_file_fetches_from_elsewhere() -> None:
    here = Path(assets.__file__).with_name("static")
    for file in here.rglob("*.*"):
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file.name


async def test_the_stream_tells_of_requests_and_of_the_cluster(penstock: House) -> None:
    async with watching(penstock) as caller:
        answered = await ask(penstock)
        seen: dict[str, Any] = {}
        while not ("snapshot" in seen and seen["snapshot"]["requests_per_second"] and "requests" in seen):
            frame = await event(caller)
            seen[frame.event] = json.loads(frame.data)
    row = seen["requests"][0]
    assert row["request_id"] == answered.headers["x-request-id"]
    assert (row["provider"], row["model"], row["outcome"]) == ("simulator", "fast", "ok")
    assert [one["name"] for one in seen["snapshot"]["providers"]] == ["simulator"]
    assert seen["snapshot"]["error_ratio"] == 0


async def test_a_plain_key_sees_its_own_requests_alone(penstock: House) -> None:
    async with client_of(penstock.gateway) as client:
        made = (await client.post("/v1/keys", json={"name": "plain"})).json()
    async with watching(penstock, made["secret"]) as caller:
        await ask(penstock)
        own = await ask(penstock, made["secret"])
        first, frame = await event(caller), await event(caller)
        assert (first.event, json.loads(first.data)) == ("rights", [])
        assert frame.event == "requests"
        assert [row["request_id"] for row in json.loads(frame.data)] == [own.headers["x-request-id"]]


async def test_nobody_asks_the_router_while_nobody_watches(penstock: House) -> None:
    live = penstock.gateway._live
    async with watching(penstock) as caller:
        await event(caller)
        (feed,) = live._feeds.values()
        task = feed._task
        assert task is not None
    await penstock.until(lambda: not live._feeds and task.done(), 30.0)


@pytest.mark.parametrize(
    ("rights", "hidden", "first"),
    [
        ((), {"now", "models", "keys"}, "Requests"),
        (("usage",), {"keys"}, "Now"),
        (("keys",), {"now", "models"}, "Requests"),
    ],
)
async def test_a_key_is_offered_what_it_may_see(
    penstock: House, rights: tuple[str, ...], hidden: set[str], first: str
) -> None:
    async with client_of(penstock.gateway) as client:
        made = (await client.post("/v1/keys", json={"name": "person", "rights": rights})).json()
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await sign_in(page, made["secret"])
        await expect(page.locator("main h2")).to_have_text(first)
        offered = await page.locator("#places a").evaluate_all("all => all.map(one => one.dataset.view)")
        assert offered == [view for view in VIEWS if view not in hidden]
        for view in offered:
            await go(page, view)
            await expect(page.locator("main .card, main .tiles").first).not_to_be_empty()
            if view == "providers":
                await expect(page.locator("main h3")).to_contain_text("simulator")
            await expect(page.get_by_role("alert")).to_have_count(0)
        assert watched.complaints == []


async def test_a_person_at_work(penstock: House) -> None:
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await page.get_by_label("API key").fill("psk-wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_have_text("This key is not known here.")
        watched.complaints.clear()  # the browser itself notes the 401

        await sign_in(page)
        await go(page, "requests")
        await expect(page.get_by_text("No request fits.")).to_be_visible()
        await ask(penstock)
        row = page.locator("tbody tr").first
        await expect(row).to_contain_text("simulator/fast")
        await row.get_by_role("button").click()
        story = page.get_by_role("dialog")
        await expect(story).to_contain_text("simulator/fast")
        await expect(story.get_by_role("heading", name="Attempts")).to_be_visible()
        await picture(page, "story")
        await page.keyboard.press("Escape")
        await expect(story).to_have_count(0)

        await go(page, "keys")
        await page.get_by_label("Name").fill("made by a person")
        await page.get_by_label("Dollars a day").fill("1.5")
        await page.get_by_role("button", name="Create").click()
        secret = await page.locator("[data-secret]").inner_text()
        assert (await ask(penstock, secret)).status_code == 200
        await page.get_by_role("button", name="Revoke made by a person").click()
        await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await expect(page.locator("tbody tr", has_text="made by a person")).to_contain_text("revoked")
        while (await ask(penstock, secret)).status_code != 401:
            pass
        assert watched.complaints == []
        assert watched.strangers == []


async def test_the_playground_streams_and_shows_the_route(penstock: House) -> None:
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await sign_in(page)
        await go(page, "playground")
        await page.get_by_label("Prompt").fill("Which rivers meet at Koblenz?")
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("[data-said]")).to_contain_text("You said: Which rivers meet at Koblenz?")
        await expect(page.get_by_role("link", name="its story")).to_be_visible()
        await expect(page.get_by_role("region", name="Candidates, best first")).to_contain_text("simulator/thinking")
        await picture(page, "playground")
        await page.get_by_role("link", name="its story").click()
        await expect(page.get_by_role("dialog")).to_contain_text("Attempts")
        assert watched.complaints == []


async def test_the_charts_of_history_have_every_day_in_order_and_every_request(penstock: House) -> None:
    """Ten models, of which the busiest is the cheapest, on three days."""
    used = [(model, back) for model in range(10) for back in (4, 0, 2) for _ in range(10 - model)]
    rows = [
        answered(
            number,
            model=f"m{model}",
            time=time.time() - back * 24 * 3600 - 1,
            bill=replace(BILL, cost=10**model * 1_000),
        )
        for number, (model, back) in enumerate(used)
    ]
    assert penstock.ledger is not None
    await (await penstock.ledger._ready()).settle([Batch("me", tuple(rows))])
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await sign_in(page)
        await go(page, "history")
        await expect(page.locator(".chart .main-svg")).to_have_count(6)
        dollars, requests = [
            await chart.evaluate("node => node.data.map(one => [one.name, one.x, one.y])")
            for chart in await page.locator(".chart").all()
        ]
        days = [(datetime.now(UTC) - timedelta(days=back)).strftime("%m-%d") for back in range(6, -1, -1)]
        for name, x, _ in dollars + requests:
            assert x[-7:] == days, name
        assert [name for name, *_ in dollars] == [*(f"m{model}" for model in (9, 8, 7, 6, 5, 4, 3, 2)), "others"]
        assert [name for name, *_ in requests] == [*(f"m{model}" for model in range(8)), "others"]
        assert sum(sum(y) for *_, y in requests) == len(rows)
        assert requests[0][2][-7:] == [0, 0, 10, 0, 10, 0, 10]
        legend, day = [await page.locator(f".chart {part}").first.bounding_box() for part in (".legend", ".xtick")]
        assert legend is not None
        assert day is not None
        assert legend["y"] >= day["y"] + day["height"]
        await picture(page, "history-of-ten-models")


@pytest.mark.parametrize(("width", "dark"), [(1300, False), (1300, True), (390, False)])
async def test_every_view_is_readable(penstock: House, width: int, dark: bool) -> None:
    """No serious finding of axe (WCAG), nothing wider than the screen, no complaint, nobody else asked."""
    for model in ("simulator/fast", "auto", "nothing/there"):
        await ask(penstock, model=model)
    async with browsing(page_of(penstock), width=width, dark=dark) as watched:
        page = watched.page
        findings: dict[str, list[str]] = {"login": await _serious(page)}
        await sign_in(page)
        for view in VIEWS:
            await go(page, view)
            await expect(page.locator("main h2")).to_be_visible()
            if view in ("now", "history", "models"):
                await expect(page.locator(".chart .main-svg").first).to_be_visible()
            findings[view] = await _serious(page)
            wide = await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
            assert not wide, view
            await picture(page, f"{view}-{width}{'-dark' if dark else ''}")
        assert {view: found for view, found in findings.items() if found} == {}
        assert watched.complaints == []
        assert watched.strangers == []


async def test_figures_of_a_gateway_that_is_gone_are_marked_as_old(penstock: House) -> None:
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await sign_in(page)
        await expect(page.locator(".tile").first).to_be_visible()
        await expect(page.locator(".old")).to_have_count(0)
        await penstock.gateway.stop()
        await expect(page.locator(".old .tile").first).to_be_visible()
        await expect(page.locator("main [role=status]")).to_contain_text("these figures are of")


async def test_a_provider_without_a_key_looks_the_same_everywhere(
    penstock: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    await penstock.provider(kind="anthropic", name="keyless", key_variable="NO_SUCH_KEY", drain=1.0)
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await sign_in(page)
        for view in ("now", "providers"):
            await go(page, view)
            await expect(page.locator(".state", has_text="unconfigured")).to_have_class("state warn")


async def test_the_playground_has_no_box_before_there_is_something_in_it(penstock: House) -> None:
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await sign_in(page)
        await go(page, "playground")
        await expect(page.locator("main .card:visible")).to_have_count(1)
        await page.get_by_label("Prompt").fill("Hello")
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("main .card:visible")).to_have_count(3)


async def test_a_narrow_screen_shows_how_a_request_ended(penstock: House) -> None:
    await ask(penstock)
    async with browsing(page_of(penstock), width=390) as watched:
        page = watched.page
        await sign_in(page)
        await go(page, "requests")
        box = await page.locator("tbody .state").first.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390


async def test_every_name_of_the_frontier_is_inside_its_chart(penstock: House) -> None:
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await sign_in(page)
        await go(page, "models")
        await expect(page.get_by_role("region", name="Quality, cost and time over all tasks")).to_be_visible()
        names = page.locator(".chart.tall .textpoint")
        await expect(names.first).to_be_visible()
        chart = await page.locator(".chart.tall").bounding_box()
        assert chart is not None
        for name in await names.all():
            box = await name.bounding_box()
            assert box is not None
            assert chart["x"] <= box["x"]
            assert box["x"] + box["width"] <= chart["x"] + chart["width"]
        clipped = await page.locator(".chart.tall .textpoint").evaluate_all(
            "all => all.filter(one => one.closest('[clip-path]')).length"
        )
        assert clipped == 0


async def test_the_keyboard_is_enough(penstock: House) -> None:
    await ask(penstock)
    async with browsing(page_of(penstock)) as watched:
        page = watched.page
        await page.keyboard.type(KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator("#link")).to_have_text("live")
        await page.locator("#places a[data-view=requests]").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("tbody tr").first).to_be_visible()
        await page.locator("tbody tr button").first.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)


async def _serious(page: Page) -> list[str]:
    results = await Axe().run(page)
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}"
        for one in results.response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
