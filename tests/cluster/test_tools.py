"""Tools on a real cluster: a chat request whose model calls two, and an executor and a registry that are killed."""

import asyncio
import os
import re
import signal
from functools import partial
from typing import Any

import httpx
import pytest

from tests.cluster.running import KEY, PROMPT, Running, until
from tests.upstream import Fault, UpstreamProcess

pytestmark = pytest.mark.cluster

PATH = "/v1/chat/completions"
PATIENCE = 60.0
BODY: dict[str, Any] = {
    "model": "openai/gpt-5-mini",
    "stream": True,
    "tools": [{"type": "penstock", "all": True}],
    "messages": [{"role": "user", "content": PROMPT}],
}


async def told(cluster: Running, upstream: UpstreamProcess) -> str:
    """The stream of a request that calls both tools, as text."""
    upstream.reset()
    upstream.plan(PATH, Fault.interleaved_tools(), times=1)
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        headers = {"authorization": f"Bearer {KEY}"}
        answer = await client.post(cluster.listener() + PATH, json=BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.text.rstrip().endswith("data: [DONE]"), answer.text
    return answer.text


async def ready(cluster: Running) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client, asyncio.timeout(PATIENCE):
        while True:
            answer = await client.get(f"{cluster.listener()}/v1/tools", headers={"authorization": f"Bearer {KEY}"})
            tools = answer.json()["data"]
            if [(tool["name"], tool["health"]) for tool in tools] == [("get_time", "ready"), ("get_weather", "ready")]:
                return
            await asyncio.sleep(0.1)


def another(cluster: Running, actor: str, before: int) -> bool:
    return cluster.actor(actor) not in (0, before)


async def test_a_contained_call_and_kills(cluster: Running, upstream: UpstreamProcess) -> None:
    await ready(cluster)
    stream = await told(cluster, upstream)
    assert re.search(r"Oslo: user 6[1-5]\d{3}, variables HOME LANG PATH ", stream), stream
    assert "API_KEY" not in re.sub(r"keys: \[\]", "", stream)
    for actor in ("ExecutorActor", "RegistryActor"):
        before = cluster.actor(actor)
        os.kill(before, signal.SIGKILL)
        until(partial(another, cluster, actor, before), PATIENCE, f"a new {actor}")
        await ready(cluster)
        assert "Oslo: user 6" in await told(cluster, upstream)
    assert cluster.workshops()
