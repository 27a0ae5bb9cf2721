"""Processes that are killed under load."""

import asyncio
import json
import os
import signal
import time

import httpx
import pytest

from tests.clients import Caller
from tests.cluster.doors import CHAT, Door, client, door
from tests.cluster.running import Running, until

pytestmark = pytest.mark.cluster

REQUESTS, SECONDS = 200, 4.0
PORTS = pytest.mark.parametrize("port", ["ingress", "listener"])


async def load(http: httpx.AsyncClient, model: str) -> list[str]:
    """REQUESTS streams, evenly over SECONDS; how each one ended: "ok", or what was wrong."""
    body = Door("", "", "").body(model)

    async def one(number: int) -> str:
        await asyncio.sleep(number * SECONDS / REQUESTS)
        try:
            answer = await http.post(CHAT, json=body)
        except httpx.HTTPError as error:
            return repr(error)
        return "ok" if answer.content.endswith(b"data: [DONE]\n\n") else f"{answer.status_code} {answer.text[-300:]}"

    return await asyncio.gather(*map(one, range(REQUESTS)))


@PORTS
async def test_no_request_fails_when_the_router_is_killed(cluster: Running, port: str) -> None:
    before = cluster.router()
    assert before
    async with client(cluster.url if port == "ingress" else cluster.listener()) as http:
        running = asyncio.create_task(load(http, "auto"))
        await asyncio.sleep(SECONDS / 4)
        os.kill(before, signal.SIGKILL)
        ended = await running
        assert [end for end in ended if end != "ok"] == []
        began = time.monotonic()
        after = until(cluster.router, 60.0, "the router is back")
        assert after != before
        print(f"\nthe router is back within {time.monotonic() - began + SECONDS * 3 / 4:.1f} s")  # noqa: T201
        await statistics_flow(http)
    told = [file.read_text() for file in (cluster.state / "logs").glob("gateway-*.log")]
    assert any("the router does not answer" in text for text in told)


async def statistics_flow(http: httpx.AsyncClient) -> None:
    """A request is seen in the published statistics, and every provider is listed again."""
    model = f"fast?tokens={time.time_ns() % 1_000_000 % 50 + 1}&gap=1"
    await http.post(CHAT, json=Door("", "", "").body(f"simulator/{model}"))
    for _ in range(600):
        listed = {entry["name"]: entry for entry in (await http.get("/v1/providers")).json()["data"]}
        if "keyless" in listed and model in listed.get("simulator", {}).get("performance", {}):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no statistics of {model} within a minute: {listed}")


@PORTS
async def test_the_next_requests_wait_for_a_killed_providers_replica(cluster: Running, port: str) -> None:
    before = cluster.replica("simulator")
    async with client(cluster.url if port == "ingress" else cluster.listener()) as http:
        await http.post(CHAT, json=Door("", "", "").body("simulator/fast"))
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        body = Door("", "", "").body("simulator/fast")
        answers = await asyncio.gather(*(http.post(CHAT, json=body) for _ in range(10)))
        print(f"\nanswers again {time.monotonic() - killed:.1f} s after the kill")  # noqa: T201
    assert [answer.text for answer in answers if not answer.content.endswith(b"data: [DONE]\n\n")] == []
    after = until(lambda: cluster.replica("simulator"), 60.0, "the replica listens again")
    assert after != before


@PORTS
async def test_nobody_hears_of_a_replica_that_is_killed_before_the_first_token(cluster: Running, port: str) -> None:
    until(lambda: cluster.replica("simulator"), 60.0, "a replica listens")
    async with client(cluster.url if port == "ingress" else cluster.listener()) as http:
        body = Door("", "", "").body("simulator/fast?first=1000")
        waiting = [asyncio.create_task(http.post(CHAT, json=body)) for _ in range(10)]
        await asyncio.sleep(0.5)
        os.kill(cluster.replica("simulator"), signal.SIGKILL)
        answers = await asyncio.gather(*waiting)
    assert [answer.text for answer in answers if not answer.content.endswith(b"data: [DONE]\n\n")] == []


@PORTS
async def test_a_stream_whose_replica_is_killed_ends_in_an_error(cluster: Running, port: str) -> None:
    until(lambda: cluster.replica("simulator"), 60.0, "a replica listens")
    at = door(cluster, f"{port}-routed", "simulator")
    async with await Caller.connect(at.url) as caller:
        head = await at.ask(caller, "fast?tokens=1000&gap=20")
        assert head.status == 200
        for _ in range(5):
            await caller.frame()
        os.kill(cluster.replica("simulator"), signal.SIGKILL)
        killed = time.monotonic()
        frames = await caller.frames()
    print(f"\nthe error came {time.monotonic() - killed:.2f} s after the kill")  # noqa: T201
    assert "error" in json.loads(frames[-1].data)
    assert all(frame.data != b"[DONE]" for frame in frames)


async def test_the_direct_lane_breaks_visibly_and_comes_back(cluster: Running) -> None:
    until(lambda: cluster.replica("simulator"), 60.0, "a replica listens")
    at = door(cluster, "listener-direct", "simulator")
    async with await Caller.connect(at.url) as caller:
        await at.ask(caller, "fast?tokens=1000&gap=20")
        await caller.frame()
        os.kill(cluster.replica("simulator"), signal.SIGKILL)
        with pytest.raises(Exception, match="peer"):
            await caller.frames()
    until(lambda: cluster.replica("simulator"), 60.0, "the replica listens again")
    async with await Caller.connect(at.url) as caller:
        assert (await at.ask(caller, "fast")).status == 200
