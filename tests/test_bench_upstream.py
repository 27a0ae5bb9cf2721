"""The fake provider of the benchmarks: it sends what it says, counts it, and stops for a slow reader."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from bench.upstream import Upstream, read_model, text_of
from tests.clients import Caller

PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


def asking(model: str, *, stream: bool = True, usage: bool = True) -> dict[str, Any]:
    return {"model": model, "stream": stream, "stream_options": {"include_usage": usage}, "messages": []}


def text_in(path: str, data: bytes) -> str:
    """The text of one frame's data."""
    body = json.loads(data) if data.startswith(b"{") else {}
    if path == PATHS[0]:
        return "".join(choice["delta"].get("content", "") for choice in body.get("choices", ()))
    if body.get("type") == "response.output_text.delta":
        return str(body["delta"])
    return str(body["delta"]["text"]) if body.get("type") == "content_block_delta" else ""


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_says_the_text_of_its_model(upstream: Upstream, path: str) -> None:
    async with await Caller.connect(upstream.url) as caller:
        for model in ("s-5-0-20", "some/s-1-0", "u-100"):
            assert (await caller.post(path, asking(model))).status == 200
            frames = await caller.frames()
            assert "".join(text_in(path, frame.data) for frame in frames) == text_of(model)

    assert len(text_of("s-5-0-20")) == 100
    assert upstream.stats()["streams_completed"] == 3


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_says_the_text_of_its_model(upstream: Upstream, path: str) -> None:
    async with await Caller.connect(upstream.url) as caller:
        for model in ("u-1024", "u-9-1", "s-3-20"):
            await caller.post(path, asking(model, stream=False))
            assert text_of(model) in json.dumps(json.loads(await caller.body()))

    assert upstream.stats()["requests"] == {"u-1024": 1, "u-9-1": 1, "s-3-20": 1}


async def test_usage_comes_only_where_it_is_asked_for(upstream: Upstream) -> None:
    async with await Caller.connect(upstream.url) as caller:
        for usage in (True, False):
            await caller.post(PATHS[0], asking("s-3-0", usage=usage))
            frames = await caller.frames()
            assert (b"completion_tokens" in frames[-2].data) == usage
            assert frames[-1].data == b"[DONE]"


async def test_the_gap_is_kept(upstream: Upstream) -> None:
    async with await Caller.connect(upstream.url) as caller:
        await caller.post(PATHS[0], asking("s-6-20"))
        before = time.monotonic()
        await caller.frames()

    assert 0.09 < time.monotonic() - before < 30


@pytest.mark.parametrize("model", ["gpt-5", "s-64", "u-1-2-3", "", "s-a-b"])
async def test_an_unknown_model_is_refused(upstream: Upstream, model: str) -> None:
    with pytest.raises(ValueError, match=r"model|invalid literal"):
        read_model(model)
    async with await Caller.connect(upstream.url) as caller:
        assert (await caller.post(PATHS[0], asking(model))).status == 404


async def test_pipelined_and_chunked_requests_are_answered_in_order(upstream: Upstream) -> None:
    body = json.dumps(asking("u-7", stream=False)).encode()
    async with await Caller.connect(upstream.url) as caller:
        await caller.request("POST", PATHS[0], asking("s-3-1"))
        await caller.send(b"POST %b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" % PATHS[0].encode())
        await caller.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        await caller.head()
        assert len(await caller.frames()) == 7
        await caller.head()
        assert text_of("u-7").encode() in await caller.body()


async def test_a_caller_that_goes_is_counted_with_the_time(upstream: Upstream) -> None:
    caller = await Caller.connect(upstream.url)
    await caller.post(PATHS[0], asking("s-1000-20"))
    await caller.frame()
    gone = time.monotonic()
    caller.reset()

    async with asyncio.timeout(30):
        # It tells nobody that a connection ended: that would cost what is measured.
        while upstream.open:
            await asyncio.sleep(0)
    stats = upstream.stats()
    (ended,) = stats["ended"]
    assert (stats["streams_aborted"], ended["by"], ended["in_stream"]) == (1, "peer", True)
    assert gone <= ended["at"] < gone + 1


async def test_a_reader_that_stops_stops_the_sending(upstream: Upstream) -> None:
    """16 MB are offered without a gap; what is sent before anything is read is a few socket buffers."""
    async with await Caller.connect(upstream.url, receive_buffer=8192) as caller:
        await caller.post(PATHS[0], asking("s-4096-0-4096"))
        sent = upstream.stats()["chunks"]
        assert 0 < sent < 3000
        text = "".join([text_in(PATHS[0], frame.data) for frame in await caller.frames()])

    assert text == text_of("s-4096-0-4096")
    assert upstream.stats()["chunks"] == 4096


async def test_the_counts_are_read_and_reset_over_http(upstream: Upstream) -> None:
    async with await Caller.connect(upstream.url) as caller:
        await caller.post(PATHS[0], asking("s-4-0"))
        await caller.frames()
        await caller.request("GET", "/_stats")
        await caller.head()
        stats = json.loads(await caller.body())
        await caller.post("/_reset", {})
        await caller.body()

    assert (stats["chunks"], stats["open"], stats["open_connections"]) == (4, {"1": 4}, 1)
    assert upstream.stats()["requests_total"] == 0


def test_it_is_the_same_on_uvloop() -> None:
    async def exchange() -> tuple[str, int]:
        async with Upstream() as upstream, await Caller.connect(upstream.url, receive_buffer=8192) as caller:
            await caller.post(PATHS[0], asking("s-4096-0-4096"))
            sent = upstream.stats()["chunks"]
            return "".join([text_in(PATHS[0], frame.data) for frame in await caller.frames()]), sent

    text, sent = uvloop.run(exchange())
    assert text == text_of("s-4096-0-4096")
    assert 0 < sent < 3000
