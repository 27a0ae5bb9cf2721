"""What a turn with a tool costs without the tool's own time, and many calls at once.

    python -m bench.tool_turns [--requests 200] [--at-once 64]

A whole Penstock in one process without Ray (`tests.deployments.house`: router, ledger, gateway, one provider, on real
sockets), and a provider in the same process whose first turn calls a tool. What is measured is the time from the
beginning of that turn to the arrival of the next question, less what the tool itself took: reading the turn, judging
the call, running it, the next decision, the hop, the provider's request. "in process" has a tool that is a coroutine;
"contained" one in a process of its own under another user, which is where functions run. Then so many requests at once,
each with one call that takes `NAP_SECONDS`.

Above it: nothing. Below it: the tests' house and scripted provider.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from bench import machine
from pipelines.conversation import Request, Text
from pipelines.events import Event
from pipelines.tools.catalogue import Catalogue, Progress, Ran, Tool, Toolbox, ToolRun
from tests.deployments.house import House, client_of, house
from tests.deployments.scripted_provider import results_of, scripted_provider
from tests.pipelines.scripted_turns import calling, text, turn

NAP_SECONDS = 4.0
"""Of each of many calls at once."""

NAP = Tool(name="nap", description="Sleeps", schema={"type": "object"}, source="python")


class Napping:
    """A toolbox in this process."""

    catalogue = Catalogue("bench", 1, (NAP,))

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """See `Toolbox`."""
        began = time.perf_counter()
        await asyncio.sleep(run.arguments["seconds"])
        yield Ran(parts=(Text("awake"),), seconds=time.perf_counter() - began)


class Watched:
    """A toolbox that is watched. seconds: what each run took, by its request; most: runs at the same time."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self.seconds: dict[str, float] = {}
        self.running = self.most = 0

    @property
    def catalogue(self) -> Catalogue:
        """See `Toolbox`."""
        return self._toolbox.catalogue

    async def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """See `Toolbox`."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            async with aclosing(self._toolbox.run(run)) as source:
                async for said in source:
                    if isinstance(said, Ran):
                        self.seconds[run.request_id] = said.seconds
                        assert said.exit == "ok", said
                    yield said
        finally:
            self.running -= 1


class Turns:
    """The provider's words. gaps: from each first turn to the second, by request."""

    def __init__(self) -> None:
        self.nap = 0.0
        self.gaps: dict[str, float] = {}
        self._began: dict[str, float] = {}

    def say(self, request: Request) -> list[Event]:
        """A call, then an answer."""
        number, now = request.messages[0].text, time.perf_counter()
        if results_of(request):
            self.gaps[number] = now - self._began[number]
            return turn(text("done"))
        self._began[number] = now
        return turn(calling(NAP.name, {"seconds": self.nap}))


async def asked(client: httpx.AsyncClient, number: int) -> None:
    """One request."""
    body = {
        "model": "scripted/model",
        "messages": [{"role": "user", "content": str(number)}],
        "tools": [{"type": "penstock", "name": NAP.name}],
    }
    response = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": str(number)})
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "done", response.text


def told(what: str, seconds: list[float]) -> None:
    """One line of the table."""
    ordered = sorted(seconds)
    last = ordered[int(len(ordered) * 0.99)] if len(ordered) > 1 else ordered[0]
    print(f"{what:<44} p50 {statistics.median(ordered) * 1e3:7.1f} ms   p99 {last * 1e3:7.1f} ms   n {len(ordered)}")


async def measured(built: House, turns: Turns, name: str, toolbox: Toolbox, requests: int, at_once: int) -> None:
    """One kind of tool."""
    watched = built.gateway.tool_lane.toolbox = Watched(toolbox)
    async with client_of(built.gateway) as client:
        turns.nap = 0.0
        for number in range(20):
            await asked(client, number)
        turns.gaps.clear()
        for number in range(100, 100 + requests):
            await asked(client, number)
        told(f"{name}: a tool turn, one at a time", [turns.gaps[n] - watched.seconds[n] for n in turns.gaps])
        turns.gaps.clear()
        turns.nap, watched.most = NAP_SECONDS, 0
        began = time.perf_counter()
        await asyncio.gather(*(asked(client, number) for number in range(10_000, 10_000 + at_once)))
        seconds = time.perf_counter() - began
        told(f"{name}: {watched.most} at once", [turns.gaps[n] - watched.seconds[n] for n in turns.gaps])
        print(f"{name}: {at_once} requests with a call of {NAP_SECONDS:g} s each: {seconds:.2f} s in all")


async def run(requests: int, at_once: int) -> None:
    """Both kinds of tools."""
    turns = Turns()
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = await stack.enter_async_context(scripted_provider(turns.say))
        tools: dict[str, Any] = {"functions": ["bench.napping"]}
        built = await stack.enter_async_context(house(folder, patch, tools=tools))
        await built.provider(kind="local", name="scripted", base_url=f"{provider.url}/v1", drain=1.0)
        toolbox = built.gateway.toolbox
        assert toolbox is not None
        await built.until(lambda: [tool.health for tool in toolbox.catalogue.tools] == ["ready"])
        await built.until(lambda: built.gateway.router.table.provider("scripted") is not None)
        await measured(built, turns, "in process", Napping(), requests, at_once)
        await measured(built, turns, "contained", toolbox, requests, at_once)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200, help="one after the other")
    parser.add_argument("--at-once", type=int, default=64, help="at the same time")
    given = parser.parse_args()
    print(", ".join(f"{name}: {value}" for name, value in machine.description().items()))
    print(f"load: {os.getloadavg()[0]:.1f}")
    uvloop.run(run(given.requests, given.at_once))


if __name__ == "__main__":
    main()
