"""State that three gateways on three machines share: limits, budgets, idempotency, keys, what was learned.

PostgreSQL holds it; the actors on the head are asked over the network.

Above it: `__main__`. Below it: `cluster`, `load`. Outside it: the same in one process (`tests.deployments`).
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.faults.table import Sheet
from tests.nodes.cluster import GATEWAY, KEY, Cluster, arguments, cluster, configuration
from tests.nodes.load import PATH

DOLLARS = 1_000.0
"""Price of a million output tokens, so that ten of them cost a cent."""

Answers = list[httpx.Response]


class Gateways:
    """A client of each of them."""

    def __init__(self, clients: list[httpx.AsyncClient]) -> None:
        self.clients = clients

    async def manage(self, method: str, path: str, body: dict[str, Any] | None = None, at: int = 0) -> Any:
        """What the administrator is answered by gateway `at`. Raises httpx.HTTPStatusError."""
        headers = {"authorization": f"Bearer {KEY}"}
        return (await self.clients[at].request(method, path, json=body, headers=headers)).raise_for_status().json()

    async def key(self, **fields: Any) -> Any:
        """A new key that every gateway knows."""
        made = await self.manage("POST", "/v1/keys", {"name": "of the nodes", **fields})
        headers = {"authorization": f"Bearer {made['secret']}"}
        for client in self.clients:
            while (await client.get("/v1/models", headers=headers)).status_code == 401:
                await asyncio.sleep(0.1)
        return made

    async def ask(self, at: int, secret: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        """One conversation, whole."""
        body = {"model": "alpha/fast", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 10, **more}
        own = {"authorization": f"Bearer {secret}", **(headers or {})}
        return await self.clients[at].post(PATH, json=body, headers=own)

    async def everywhere(self, count: int, secret: str, **more: Any) -> Answers:
        """So many at each gateway, all at once."""
        asking = (self.ask(at, secret, **more) for _ in range(count) for at in range(len(self.clients)))
        return list(await asyncio.gather(*asking))


@asynccontextmanager
async def clients(penstock: Cluster) -> AsyncIterator[Gateways]:
    """One for each worker."""
    made = [
        httpx.AsyncClient(base_url=f"http://{worker.address}:{GATEWAY}", timeout=60.0, trust_env=False)
        for worker in penstock.workers
    ]
    try:
        yield Gateways(made)
    finally:
        for client in made:
            await client.aclose()


def statuses(answers: Answers) -> str:
    """How many of which status."""
    return ", ".join(f"{count} × {status}" for status, count in sorted(Counter(a.status_code for a in answers).items()))


async def rate(gateways: Gateways, penstock: Cluster, sheet: Sheet) -> None:
    """60 requests a minute, 120 asked at once over three gateways."""
    key = await gateways.key(requests_per_minute=60)
    answers = await gateways.everywhere(40, key["secret"])
    served = sum(each.status_code == 200 for each in answers)
    wrong = [] if 54 <= served <= 60 else [f"{served} served, not 54 to 60"]
    sheet.row(["60 requests a minute", f"{len(answers)} at once: {statuses(answers)}", served], wrong)


async def streams(gateways: Gateways, penstock: Cluster, sheet: Sheet) -> None:
    """Five streams at once, thirty asked."""
    key = await gateways.key(streams=5)
    slow = "alpha/fast?tokens=40&gap=100"
    answers = await gateways.everywhere(10, key["secret"], model=slow, max_tokens=100, stream=True)
    served = sum(each.status_code == 200 for each in answers)
    wrong = [] if served == 5 else [f"{served} were streamed, not 5"]
    sheet.row(["5 streams at once", f"{len(answers)} at once: {statuses(answers)}", served], wrong)


async def budget(gateways: Gateways, penstock: Cluster, sheet: Sheet) -> None:
    """20 cents, a cent an answer, 60 asked."""
    key = await gateways.key(budget={"total": "0.20"})
    answers = await gateways.everywhere(20, key["secret"])
    served = sum(each.status_code == 200 for each in answers)
    spent = 0.0
    for _ in range(100):
        spent = float((await gateways.manage("GET", f"/v1/keys/{key['id']}", at=1))["spent"]["total"])
        if spent >= served * 0.0099:
            break
        await asyncio.sleep(0.1)
    wrong = [] if 0.15 < spent <= 0.2000001 else [f"{spent} dollars are spent of 0.20"]
    sheet.row(
        ["a budget of 0.20 $, 0.01 $ an answer", f"{len(answers)} at once: {statuses(answers)}", f"{spent:.3f} $"],
        wrong,
    )


async def once(gateways: Gateways, penstock: Cluster, sheet: Sheet) -> None:
    """The same Idempotency-Key at all three: at once, and later."""
    model = "alpha/fast?tokens=20&gap=50"
    headers = {"idempotency-key": "of-the-nodes", "x-request-id": "once-1"}
    together = await gateways.everywhere(2, KEY, headers=headers, model=model, max_tokens=100)
    later = await gateways.everywhere(1, KEY, headers=headers, model=model, max_tokens=100)
    said = Counter(each.headers.get("x-penstock-idempotency", "asked") for each in together + later)
    wrong = [] if said["asked"] == 1 and len({each.content for each in together + later}) == 1 else ["asked twice"]
    sheet.row(["one Idempotency-Key at three gateways", dict(said), f"{said['asked']} asked"], wrong)


async def revoked(gateways: Gateways, penstock: Cluster, sheet: Sheet) -> None:
    """A key that is revoked at one is refused by all."""
    key = await gateways.key()
    await gateways.manage("DELETE", f"/v1/keys/{key['id']}")
    began = time.monotonic()
    while any(each.status_code != 401 for each in await gateways.everywhere(1, key["secret"])):
        if time.monotonic() - began > 30.0:
            sheet.row(["a revoked key", "still served", ""], ["a revoked key is served after 30 s"])
            return
    sheet.row(["a revoked key", "401 at all gateways", f"{time.monotonic() - began:.2f} s"])


async def learned(gateways: Gateways, penstock: Cluster, sheet: Sheet) -> None:
    """Asked at one, rated at another, seen at the third; and again after the router's death."""
    count = 6
    for number in range(count):
        headers = {"x-request-id": f"learn-{number}"}
        await gateways.ask(number % 3, KEY, headers, model="auto", messages=[{"role": "user", "content": f"{number}?"}])
    for number in range(count):
        said = {"request_id": f"learn-{number}", "thumb": "up"}
        await gateways.manage("POST", "/v1/feedback", said, at=(number + 1) % 3)
    seen = await _rates(gateways, 2)
    wrong = [] if seen else ["nothing was learned"]
    sheet.row(["feedback at another gateway", f"win rates at the third: {seen}", len(seen)], wrong)
    await asyncio.sleep(6.0)  # it is written every 5 s
    penstock.head.kill("ray::Router")
    after: dict[str, dict[str, float]] = {}
    began = time.monotonic()
    while after != seen and time.monotonic() - began < 60.0:
        try:
            after = await _rates(gateways, 1)
        except httpx.HTTPError:
            await asyncio.sleep(0.2)
    wrong = [] if after == seen else [f"the new router knows {after}"]
    sheet.row(["  after the router actor's death", f"{after}", f"{time.monotonic() - began:.1f} s"], wrong)


async def _rates(gateways: Gateways, at: int) -> dict[str, dict[str, float]]:
    told = await gateways.manage("GET", "/v1/performance", at=at)
    qualities = {one["model"]: one["quality"] for one in told["win_rates"]}
    return {model: {name: round(value, 2) for name, value in quality.items()} for model, quality in qualities.items()}


CHECKS: tuple[Callable[[Gateways, Cluster, Sheet], Awaitable[None]], ...] = (
    rate,
    streams,
    budget,
    once,
    revoked,
    learned,
)


async def run(penstock: Cluster, sheet: Sheet) -> None:
    """One after the other."""
    async with clients(penstock) as gateways:
        for check in CHECKS:
            await check(gateways, penstock, sheet)


def main(sheet: Sheet) -> None:
    """Three workers with one gateway each."""
    config = configuration(gateway=3, alpha=3)
    arguments(config, "gateway")["per_node"] = 1
    priced = {"name": "fast", "input_price": 0, "output_price": DOLLARS, "quality": 0.6}
    for name in ("alpha", "beta"):
        arguments(config, name)["models"] = [priced]
        arguments(config, name)["any_model"] = True
    with cluster(3, config) as penstock:
        asyncio.run(run(penstock, sheet))
