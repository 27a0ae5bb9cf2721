"""A provider that is full, slow or refuses, end to end: who waits, who is refused and how, what the limit becomes."""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deployments.provider_replica import ProviderReplica
from deployments.replica import Replica
from pipelines.routing.table import Performance
from tests.deployments.house import KEY, House, client_of
from tests.upstream import Fault, Upstream

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hello"}]},
    MESSAGES: {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9},
    RESPONSES: {"input": "Hello"},
}
PRIORITIES = {"psk-low": -10, "psk-high": 10}

both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])


class Narrow:
    """A provider with two places and a queue of two, both places held by streams without end."""

    def __init__(self, running: House, upstream: Upstream, replica: ProviderReplica, way: str) -> None:
        self.running, self.upstream, self.replica = running, upstream, replica
        self._asked: Replica = running.gateway if way == "routed" else replica
        self._prefix = "narrow/" if way == "routed" else ""
        self._holders: list[contextlib.AsyncExitStack] = []

    async def hold(self) -> None:
        """Take a place until `free`."""
        stack = contextlib.AsyncExitStack()
        client = await stack.enter_async_context(client_of(self._asked))
        body = {**BODIES[CHAT], "model": f"{self._prefix}endless", "stream": True}
        held = await stack.enter_async_context(client.stream("POST", CHAT, json=body))
        assert held.status_code == 200
        self._holders.append(stack)

    async def free(self) -> None:
        """Give one place back, if any is held."""
        if self._holders:
            await self._holders.pop().aclose()

    async def ask(self, model: str, key: str = KEY, path: str = CHAT, **more: Any) -> httpx.Response:
        async with client_of(self._asked, key) as client:
            return await client.post(path, json={**BODIES[path], "model": self._prefix + model, **more})

    async def waits(self, model: str, key: str = KEY) -> "asyncio.Task[httpx.Response]":
        """A call that is in the queue now; it may have pushed out another."""
        before = self.replica.limiter._queue._by_priority.get(PRIORITIES.get(key, 0), ())
        count = len(before)
        task = asyncio.create_task(self.ask(model, key))
        queue = self.replica.limiter._queue
        await self.running.until(lambda: len(queue._by_priority.get(PRIORITIES.get(key, 0), ())) > count)
        return task

    @property
    def waiting(self) -> int:
        return self.replica.limiter.waiting

    async def measured(self, model: str) -> Performance:
        """What the router knows of a model here."""
        entry = (await self.running.gateway.router.snapshot()).provider("narrow")
        return entry.performance.get(model, Performance()) if entry is not None else Performance()

    def seen(self) -> list[str]:
        """The models that the upstream was asked for, in order."""
        return [request.body["model"] for request in self.upstream.requests if request.body["model"] != "endless"]


@pytest.fixture
async def narrow(running: House, upstream: Upstream, way: str) -> AsyncIterator[Narrow]:
    keys = json.loads((running.directory / "keys.json").read_text())
    for key, priority in PRIORITIES.items():
        digest = hashlib.sha256(key.encode()).hexdigest()
        keys.append({"id": key.removeprefix("psk-"), "name": key, "hash": digest, "priority": priority})
    (running.directory / "keys.json").write_text(json.dumps(keys))
    replica = await running.provider(
        kind="local", name="narrow", base_url=f"{upstream.url}/v1", concurrent=2, queued=2, drain=1.0
    )
    await running.until(lambda: running.gateway.router.table.provider("narrow") is not None)
    await running.until(lambda: all(len(one.guard._configured) == 3 for one in (replica, running.gateway)))
    await running.until(lambda: replica.announcement().state == "ready")
    upstream.reset()
    upstream.plan("endless", Fault.without_end(gap=0.01), times=None)
    built = Narrow(running, upstream, replica, way)
    try:
        await built.hold()
        await built.hold()
        yield built
    finally:
        await built.free()
        await built.free()


def refused(answer: httpx.Response) -> Any:
    """The body of a refusal, seen to be one."""
    assert answer.status_code == 429, answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    return answer.json()


@both_lanes
async def test_the_more_important_pass_and_push_out_the_less_important(narrow: Narrow) -> None:
    first = await narrow.waits("low-1", "psk-low")
    second = await narrow.waits("low-2", "psk-low")
    middle = await narrow.waits("middle")
    high = await narrow.waits("high", "psk-high")
    refused(await second)
    refused(await first)
    refused(await narrow.ask("low-3", "psk-low"))
    assert narrow.seen() == []
    await narrow.free()
    assert [(await answer).status_code for answer in (high, middle)] == [200, 200]
    assert narrow.seen() == ["high", "middle"]
    assert (await narrow.ask("low-4", "psk-low")).status_code == 200


@both_lanes
async def test_a_refusal_is_in_the_callers_dialect_and_nothing_against_the_provider(narrow: Narrow, way: str) -> None:
    waiting = [await narrow.waits("a"), await narrow.waits("b")]
    for stream in (True, False):
        for path in (CHAT, RESPONSES):
            error = refused(await narrow.ask("m", path=path, stream=stream))["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "overloaded")
        said = refused(await narrow.ask("m", path=MESSAGES, stream=stream))
        assert (said["type"], said["error"]["type"]) == ("error", "rate_limit_error")
    if way == "routed":
        elsewhere = await narrow.ask("m", models=["simulator/fast"])
        assert elsewhere.headers["x-penstock-provider"] == "simulator"
    await narrow.free()
    assert [(await answer).status_code for answer in waiting] == [200, 200]
    if way == "routed":
        async with asyncio.timeout(30.0):
            while (measured := await narrow.measured("m")).attempts < 6:
                await asyncio.sleep(0.05)
        assert (measured.breaker, measured.error_rate) == ("closed", 0.0)


@both_lanes
async def test_a_waiter_whose_caller_went_away_leaves_the_queue_at_once(narrow: Narrow) -> None:
    leaving = await narrow.waits("leaving")
    staying = await narrow.waits("staying")
    leaving.cancel()
    await narrow.running.until(lambda: narrow.waiting == 1)
    await narrow.free()
    assert (await staying).status_code == 200
    assert narrow.seen() == ["staying"]


@both_lanes
async def test_nobody_waits_beyond_his_own_total_time(narrow: Narrow) -> None:
    began = time.monotonic()
    refused(await narrow.ask("m", penstock={"timeouts": {"total": 0.2}}))
    # Without it he would wait for the provider's own patience, 30 s.
    assert time.monotonic() - began < 20.0
    assert (narrow.waiting, narrow.seen()) == (0, [])


def announced(running: House, name: str) -> int:
    """The limit that the gateway knows of."""
    entry = running.gateway.router.table.provider(name)
    return entry.replicas[0].limit if entry is not None and entry.replicas else 0


async def _wide(running: House, upstream: Upstream, **settings: Any) -> ProviderReplica:
    replica = await running.provider(
        kind="local", name="wide", base_url=f"{upstream.url}/v1", concurrent=40, drain=1.0, **settings
    )
    await running.until(lambda: announced(running, "wide") == 40)
    return replica


async def _ask(running: House, calls: int, model: str = "m", **more: Any) -> list[int]:
    async with client_of(running.gateway) as client:
        body = {**BODIES[CHAT], "model": f"wide/{model}", "stream": True, **more}
        return [one.status_code for one in await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(calls)))]


async def test_a_provider_that_slows_down_gets_less_and_more_again_when_it_is_quick(
    running: House, upstream: Upstream
) -> None:
    replica = await _wide(running, upstream, least_concurrent=4)
    upstream.plan("m", Fault.answer(delay=1.5), times=None)
    for _ in range(5):
        await _ask(running, 20)
    assert announced(running, "wide") == 40
    upstream.plan("m", Fault.answer(delay=5.0), times=None)
    await _ask(running, 40)
    shrunk = replica.limiter.concurrent
    assert 20 <= shrunk < 40
    await running.until(lambda: announced(running, "wide") == shrunk)
    upstream.reset()
    upstream.plan("m", Fault.answer(delay=1.5), times=None)
    async with asyncio.timeout(120.0):
        while replica.limiter.concurrent == shrunk:
            assert set(await _ask(running, 40)) == {200}
    await running.until(lambda: announced(running, "wide") > shrunk)


async def test_a_provider_that_refuses_gets_less(running: House, upstream: Upstream) -> None:
    await _wide(running, upstream)
    upstream.plan("m", Fault.rate_limited(60.0), times=None)
    assert set(await _ask(running, 5)) == {429}
    await running.until(lambda: announced(running, "wide") == 32)


async def test_a_callers_own_short_patience_and_a_fixed_limit_change_nothing(
    running: House, upstream: Upstream
) -> None:
    replica = await _wide(running, upstream)
    upstream.plan("slow", Fault.never_answer(), times=None)
    assert await _ask(running, 1, "slow", penstock={"timeouts": {"first_event": 0.05}}) == [504]
    assert replica.limiter.concurrent == 40
    fixed = await running.provider(
        kind="local", name="fixed", base_url=f"{upstream.url}/v1", concurrent=40, adaptive=False, drain=1.0
    )
    upstream.plan("m", Fault.overloaded(), times=None)
    async with client_of(fixed) as client:
        assert (await client.post(CHAT, json={**BODIES[CHAT], "model": "m"})).status_code >= 500
    assert fixed.limiter.concurrent == 40
