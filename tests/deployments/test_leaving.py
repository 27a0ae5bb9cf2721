"""A replica that leaves: its streams end, on every port; what outlasts the limit ends with an error, never cleanly."""

import asyncio
import json
from typing import Any

import pytest

from deployments import replica as replicas
from deployments import visit as visits
from deployments.replica import Replica
from tests.clients import BrokenBody, Caller, Frame
from tests.deployments.house import KEY, House, url_of
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
AUTHORIZED = [("authorization", f"Bearer {KEY}")]

both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])


def lane(running: House, name: str) -> tuple[Replica, str]:
    """The replica that a caller of the lane asks, and the model's name there."""
    return (running.gateway, "flaky/m") if name == "routed" else (running.replicas[-1], "m")


def asking(model: str, *, stream: bool = True) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream, "max_tokens": 100}


def limit(replica: Replica, seconds: float) -> None:
    """Give its streams so long."""
    replica._common = replica._common.model_copy(update={"drain": seconds})


def data(frames: list[Frame]) -> bytes:
    return b"\n".join(frame.data for frame in frames)


@both_lanes
async def test_a_stream_ends_whole_and_meanwhile_the_replica_says_that_it_leaves(
    running: House, upstream: Upstream, way: str
) -> None:
    replica, model = lane(running, way)
    limit(replica, 60.0)
    upstream.plan("m", Fault.answer(10, gap=0.3))
    async with await Caller.connect(url_of(replica)) as caller, await Caller.connect(url_of(replica)) as other:
        assert (await caller.post(CHAT, asking(model), headers=AUTHORIZED)).status == 200
        leaving = asyncio.create_task(replica.stop())
        await running.until(lambda: not replica.healthy())
        await running.until(lambda: not replica._ports[-1].alive)
        with pytest.raises(ConnectionRefusedError):
            await Caller.connect(url_of(replica))
        await other.request("GET", "/readyz")
        head = await other.head()
        assert (head.status, head.headers["connection"]) == (503, "close")
        assert replica.front.visits == 1
        frames = await caller.frames()
        assert frames[-1].data == b"[DONE]"
        assert b"error" not in data(frames)
    await leaving


@both_lanes
async def test_a_request_on_an_open_connection_is_still_answered(running: House, upstream: Upstream, way: str) -> None:
    replica, model = lane(running, way)
    limit(replica, 60.0)
    upstream.plan("m", Fault.answer(10, gap=0.3), Fault.answer())
    async with await Caller.connect(url_of(replica)) as caller, await Caller.connect(url_of(replica)) as other:
        await caller.post(CHAT, asking(model), headers=AUTHORIZED)
        leaving = asyncio.create_task(replica.stop())
        await running.until(lambda: not replica._ports[-1].alive)
        head = await other.post(CHAT, asking(model), headers=AUTHORIZED)
        assert (head.status, head.headers["connection"]) == (200, "close")
        assert (await other.frames())[-1].data == b"[DONE]"
        assert (await caller.frames())[-1].data == b"[DONE]"
    await leaving


@both_lanes
async def test_a_stream_that_outlasts_the_limit_ends_with_an_error(
    running: House, upstream: Upstream, way: str
) -> None:
    replica, model = lane(running, way)
    limit(replica, 0.1)
    upstream.plan("m", Fault.without_end(gap=0.02))
    async with await Caller.connect(url_of(replica)) as caller:
        await caller.post(CHAT, asking(model), headers=AUTHORIZED)
        leaving = asyncio.create_task(replica.stop())
        frames = await caller.frames()
        assert "leaving" in json.loads(frames[-1].data)["error"]["message"]
        assert b"[DONE]" not in data(frames)
        assert data(frames).count(b'"error"') == 1
    await leaving
    await upstream.wait_closed()
    lines = (running.directory / "logs" / f"{replica._log_name}.jsonl").read_text().splitlines()
    assert [line["result"] for line in map(json.loads, lines) if line["lane"] != "hop"] == ["broken"]


@both_lanes
@pytest.mark.parametrize("stream", [True, False])
async def test_who_still_waits_for_an_answer_then_is_told_to_try_again(
    running: House, upstream: Upstream, way: str, stream: bool
) -> None:
    replica, model = lane(running, way)
    limit(replica, 0.1)
    upstream.plan("m", Fault.never_answer())
    async with await Caller.connect(url_of(replica)) as caller:
        await caller.request("POST", CHAT, asking(model, stream=stream), headers=AUTHORIZED)
        await upstream.wait_requests(1)
        leaving = asyncio.create_task(replica.stop())
        head = await caller.head()
        assert (head.status, head.headers["retry-after"]) == (503, "1")
        assert "leaving" in json.loads(await caller.body())["error"]["message"]
    await leaving


async def test_who_comes_after_the_last_moment_is_told_to_try_again(running: House) -> None:
    async with await Caller.connect(url_of(running.gateway)) as caller:
        running.gateway.front.close()
        head = await caller.post(CHAT, asking("simulator/fast"), headers=AUTHORIZED)
        assert (head.status, head.headers["retry-after"]) == (503, "1")


async def test_who_has_not_sent_his_body_by_then_is_told_too(running: House) -> None:
    limit(running.gateway, 0.1)
    async with await Caller.connect(url_of(running.gateway)) as caller:
        await caller.request("POST", CHAT, b"{", headers=AUTHORIZED, length=1000)
        await running.until(lambda: running.gateway.front.visits == 1)
        leaving = asyncio.create_task(running.gateway.stop())
        assert (await caller.head()).status == 503
    await leaving


async def test_who_does_not_read_is_cut_off(
    running: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "FAREWELL_SECONDS", 0.1)
    monkeypatch.setattr(replicas, "CUT_SECONDS", 0.3)
    replica, model = lane(running, "direct")
    limit(replica, 0.0)
    upstream.plan("m", Fault.without_end(word_size=5000), times=None)
    async with await Caller.connect(url_of(replica), receive_buffer=4096) as caller:
        await caller.post(CHAT, asking(model), headers=AUTHORIZED)
        await running.until(lambda: upstream.connections[-1].paused)
        async with asyncio.timeout(30.0):
            await replica.stop()
        with pytest.raises(BrokenBody):
            await caller.frames()


async def test_streams_over_the_hop_are_counted_and_end_whole(running: House, upstream: Upstream) -> None:
    provider = running.replicas[-1]
    limit(provider, 60.0)
    upstream.plan("m", Fault.answer(10, gap=0.2))
    async with await Caller.connect(url_of(running.gateway)) as caller:
        await caller.post(CHAT, asking("flaky/m"), headers=AUTHORIZED)
        assert provider.front.visits == 1
        await provider.stop()
        assert (await caller.frames())[-1].data == b"[DONE]"


async def test_a_stream_over_the_hop_that_outlasts_the_limit_is_a_lost_replica(
    running: House, upstream: Upstream
) -> None:
    provider = running.replicas[-1]
    limit(provider, 0.1)
    upstream.plan("m", Fault.without_end(gap=0.02))
    async with await Caller.connect(url_of(running.gateway)) as caller:
        await caller.post(CHAT, asking("flaky/m"), headers=AUTHORIZED)
        leaving = asyncio.create_task(provider.stop())
        frames = await caller.frames()
        assert data(frames).count(b'"error"') == 1
        assert b'"error"' in frames[-1].data
        assert b"[DONE]" not in data(frames)
    await leaving


async def test_callers_who_leave_before_the_first_token_leave_nothing_behind(
    running: House, upstream: Upstream
) -> None:
    gateway = running.gateway
    upstream.plan("m", Fault.never_answer(), times=None)
    callers = [await Caller.connect(url_of(gateway)) for _ in range(10)]
    for caller in callers:
        await caller.request("POST", CHAT, asking("flaky/m"), headers=AUTHORIZED)
    await running.until(lambda: sum(map(len, gateway._hop._under_way.values())) == 10)
    for caller in callers:
        caller.close()
    await running.until(lambda: not gateway.limiter.in_flight)
    assert sum(map(len, gateway._hop._under_way.values())) == 0


async def test_what_fails_after_an_answer_does_not_keep_its_place(
    running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = running.gateway

    def fail(*_: Any) -> None:
        raise OverflowError

    monkeypatch.setattr(gateway._chooser, "answered", fail)
    async with await Caller.connect(url_of(gateway)) as caller:
        head = await caller.post(CHAT, asking("simulator/fast", stream=False), headers=AUTHORIZED)
        assert head.status == 200
    await running.until(lambda: not gateway.front.visits)
    assert gateway.limiter.in_flight == 0


@pytest.mark.parametrize("more", [{"max_tokens": 10**30}, {"max_completion_tokens": 10**30}])
async def test_a_number_beyond_all_measure_is_refused(running: House, upstream: Upstream, more: dict[str, Any]) -> None:
    gateway = running.gateway
    upstream.plan("m", Fault.answer(3), times=None)
    async with await Caller.connect(url_of(gateway)) as caller:
        body = {**asking("flaky/m", stream=False), **more}
        assert (await caller.post(CHAT, body, headers=AUTHORIZED)).status == 400
    await running.until(lambda: not gateway.front.visits)
    assert gateway.limiter.in_flight == 0
