"""A caller who goes away, and a caller who stops reading, on both kinds of port and in both lanes."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.clients import BrokenBody, Caller
from tests.cluster.doors import Door, authorized, door
from tests.cluster.running import Running, until
from tests.upstream import Fault, Link, UpstreamProcess

pytestmark = pytest.mark.cluster

TRIES = 60
NEVER_LONGER = 20.0
"""Seconds from a caller's leaving to the upstream connection's end; what is meant is 0.25 s for 99 of 100."""

KERNEL_BUFFERS = 40 * 2**20
"""Bytes that all sockets on the way may hold: four connections, each with a send and a receive buffer that Linux
lets grow to 4 and 6 MB (tcp(7), tcp_wmem and tcp_rmem)."""

MEMORY = 48 * 2**20
"""Bytes that one process may grow by while its caller does not read."""

PATH = "/v1/chat/completions"


async def leave(at: Door, upstream: UpstreamProcess, fault: Fault, *, stream: bool = True, **more: str) -> list[float]:
    """TRIES callers come, and leave one after another; how long each one's upstream connection outlived it."""
    upstream.reset()
    upstream.plan(PATH, fault, times=None)
    callers = [await Caller.connect(at.url) for _ in range(TRIES)]
    for number, caller in enumerate(callers):
        await caller.request("POST", at.chat, at.body(f"leaving-{number}", stream=stream), headers=authorized(**more))
    if fault.endless:
        for caller in callers:
            assert (await caller.head()).status == 200
            await caller.frame()
    until(lambda: len(upstream.log().requests) == TRIES, 60.0, "every request has arrived")
    left: dict[str, float] = {}
    for number, caller in enumerate(callers):
        left[f"leaving-{number}"] = time.monotonic()
        caller.close()
        await asyncio.sleep(0.01)
    return outlived(upstream, left)


def outlived(upstream: UpstreamProcess, left: dict[str, float]) -> list[float]:
    def closed() -> bool:
        return upstream.log().open_connections == 0

    until(closed, NEVER_LONGER + 1.0, "every upstream connection is closed")
    log = upstream.log()
    links = {link.number: link for link in log.connections}
    ends = {seen.body["model"]: links[seen.connection].closed or log.now for seen in log.requests}
    return sorted(ends[model] - at for model, at in left.items())


def percentile(sorted_values: Sequence[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


async def measured(name: str, at: Door, upstream: UpstreamProcess, fault: Fault, **more: Any) -> None:
    """Print how long it took; only what no machine's stutter explains fails the test."""
    seconds = await leave(at, upstream, fault, **more)
    middle, high = percentile(seconds, 0.5), percentile(seconds, 0.99)
    print(f"\n{name}: closed after {middle * 1e3:.1f} ms (p50), {high * 1e3:.1f} ms (p99 of {TRIES})")  # noqa: T201
    assert seconds[-1] < NEVER_LONGER


async def test_leaving_before_the_first_token_closes_the_upstream(
    cluster: Running, upstream: UpstreamProcess, way: str
) -> None:
    await measured(f"{way}, silent", door(cluster, way, "openai"), upstream, Fault.never_answer())


async def test_leaving_without_a_stream_closes_the_upstream(
    cluster: Running, upstream: UpstreamProcess, way: str
) -> None:
    await measured(f"{way}, unary", door(cluster, way, "openai"), upstream, Fault.never_answer(), stream=False)


async def test_leaving_in_mid_stream_closes_the_upstream(cluster: Running, upstream: UpstreamProcess, way: str) -> None:
    await measured(f"{way}, streaming", door(cluster, way, "openai"), upstream, Fault.without_end(gap=0.2))


@pytest.mark.parametrize("fault", [Fault.never_answer(), Fault.without_end(gap=0.2)], ids=["silent", "streaming"])
async def test_a_callers_header_does_not_switch_that_off(
    cluster: Running, upstream: UpstreamProcess, fault: Fault
) -> None:
    at = door(cluster, "ingress-routed", "openai")
    await measured("with the header", at, upstream, fault, x_request_disconnect_disabled="1")


async def test_a_callers_header_sets_no_time_limit(cluster: Running, way: str) -> None:
    at = door(cluster, way, "simulator")
    async with await Caller.connect(at.url) as caller:
        body = at.body("fast?tokens=10&first=500&gap=20")
        head = await caller.post(at.chat, body, headers=authorized(x_request_timeout_seconds="0.1"))
        frames = await caller.frames()
    assert head.status == 200
    assert frames[-1].data == b"[DONE]"


def link_of(upstream: UpstreamProcess, model: str) -> Link:
    log = upstream.log()
    number = next(seen.connection for seen in log.requests if seen.body["model"] == model)
    return next(link for link in log.connections if link.number == number)


def stopped(upstream: UpstreamProcess, model: str) -> int:
    """Bytes that the upstream's kernel had taken when it took no more for a second; 0 if it goes on."""
    before = link_of(upstream, model)
    time.sleep(1.0)
    after = link_of(upstream, model)
    return after.accepted if after.paused and after.accepted == before.accepted else 0


async def test_a_caller_who_stops_reading_stops_the_upstream(
    cluster: Running, upstream: UpstreamProcess, way: str
) -> None:
    at, model = door(cluster, way, "openai"), f"unread-{way}"
    upstream.plan(model, Fault.without_end(word_size=1000), times=None)
    memory = cluster.memory()
    async with await Caller.connect(at.url, receive_buffer=65536) as caller:
        assert (await at.ask(caller, model)).status == 200
        await caller.frame()
        taken = until(lambda: stopped(upstream, model), 60.0, "the upstream stands still")
        grown = max(after - memory.get(pid, after) for pid, after in cluster.memory().items())
        print(f"\n{way}: {taken / 2**20:.1f} MB on the way, {grown / 2**20:.1f} MB of memory")  # noqa: T201
        assert taken < KERNEL_BUFFERS
        assert grown < MEMORY
        read = 0
        while read < taken + 2**20:
            frame = await caller.frame()
            assert frame is not None
            read += len(frame.raw)
    assert link_of(upstream, model).accepted > taken


async def test_a_caller_who_leaves_while_not_reading_closes_the_upstream(
    cluster: Running, upstream: UpstreamProcess, way: str
) -> None:
    at, model = door(cluster, way, "openai"), f"unread-and-left-{way}"
    upstream.plan(model, Fault.without_end(word_size=1000), times=None)
    async with await Caller.connect(at.url, receive_buffer=65536) as caller:
        await at.ask(caller, model)
        await caller.frame()
        until(lambda: stopped(upstream, model), 60.0, "the upstream stands still")
    seconds = outlived(upstream, {model: time.monotonic()})
    print(f"\n{way}, not reading: closed after {seconds[0] * 1e3:.1f} ms")  # noqa: T201
    assert seconds[0] < NEVER_LONGER


async def test_a_reset_is_a_disconnect_too(cluster: Running, upstream: UpstreamProcess, way: str) -> None:
    at = door(cluster, way, "openai")
    upstream.plan("reset", Fault.never_answer(), times=None)
    caller = await Caller.connect(at.url)
    await caller.request("POST", at.chat, at.body("reset"), headers=authorized())
    until(lambda: upstream.log().requests, 60.0, "the request has arrived")
    left = time.monotonic()
    caller.reset()
    assert outlived(upstream, {"reset": left})[0] < NEVER_LONGER
    with pytest.raises((BrokenBody, OSError)):
        await caller.head()
