"""Callers whose key wants it hear a comment in every long silence of a stream, and nothing else changes for them."""

import asyncio
import hashlib
import json
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from deployments.http.keep_alive import COMMENT, KeepAlive
from deployments.replica import Replica
from deployments.visit import Visit
from pipelines.calls import Caller as Holder
from pipelines.exchange import RESERVED
from tests.actors.virtual_time import run
from tests.clients import Caller, Frame
from tests.deployments.house import KEY, House, url_of
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello"}]
SPOKEN = COMMENT.rstrip(b"\n")
AUTHORIZED = [("authorization", f"Bearer {KEY}")]
HASTY = {"timeouts": {"first_event": 0.6}}

both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])


def lane(running: House, name: str, keep_alive: float = 0.1) -> tuple[Replica, str]:
    """The replica that a caller of the lane asks, who wants comments, and the model's name there."""
    replica = running.gateway if name == "routed" else running.replicas[-1]
    holder = Holder("patient", keep_alive=keep_alive)
    replica.guard.admit({hashlib.sha256(KEY.encode()).hexdigest(): holder})
    return replica, "flaky/m" if name == "routed" else "m"


def asking(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, "stream": True, "max_tokens": 100, **more}


async def stream(replica: Replica, path: str, body: Any) -> tuple[int, dict[str, str], list[Frame], float]:
    """Status, headers and frames, and how many seconds all took."""
    loop = asyncio.get_running_loop()
    async with await Caller.connect(url_of(replica)) as caller:
        began = loop.time()
        head = await caller.post(path, body, headers=AUTHORIZED)
        return head.status, head.headers, await caller.frames(), loop.time() - began


def comments(frames: list[Frame]) -> list[int]:
    """Where they are."""
    return [number for number, frame in enumerate(frames) if frame.raw == SPOKEN]


def lines(running: House, replica: Replica) -> list[dict[str, Any]]:
    """What the request log says of chats at this replica's port."""
    replica._log.flush()
    found = (running.directory / "logs" / f"{replica._log_name}.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, found) if line.get("lane") != "hop"]


def test_the_comment_is_not_one_of_our_own_processes() -> None:
    assert COMMENT.startswith(b":")
    assert COMMENT.endswith(b"\n\n")
    assert not COMMENT.startswith(RESERVED)


@both_lanes
async def test_a_wait_for_the_first_output_is_filled(running: House, upstream: Upstream, way: str) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.silence(1.0))
    status, headers, frames, seconds = await stream(replica, CHAT, asking(model))
    assert status == 200
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert "x-request-id" in headers
    assert "x-penstock-provider" not in headers
    found = comments(frames)
    assert found[0] == 0
    assert len(found) <= seconds / 0.1
    assert frames[-1].data == b"[DONE]"
    [line] = lines(running, replica)
    assert (line["result"], line["caller"], line["stream"]) == ("ok", "patient", True)


@both_lanes
async def test_without_the_wish_nothing_comes_before_the_answer(running: House, upstream: Upstream, way: str) -> None:
    replica, model = lane(running, way, keep_alive=0.0)
    upstream.plan("m", Fault.silence(0.3))
    _, headers, frames, _ = await stream(replica, CHAT, asking(model))
    assert comments(frames) == []
    assert way == "direct" or headers["x-penstock-provider"] == "flaky"


@both_lanes
async def test_a_prompt_answer_has_its_headers_and_no_comment(running: House, way: str) -> None:
    replica, model = lane(running, way, keep_alive=60.0)
    _, headers, frames, _ = await stream(replica, CHAT, asking(model))
    assert comments(frames) == []
    assert way == "direct" or headers["x-penstock-provider"] == "flaky"


@both_lanes
async def test_silences_inside_the_stream_are_filled_too(running: House, upstream: Upstream, way: str) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.answer(3, gap=0.25))
    _, _, frames, _ = await stream(replica, CHAT, asking(model))
    words = [number for number, frame in enumerate(frames) if b"word" in frame.data]
    assert len(words) == 3
    for before, after in pairwise(words):
        assert any(before < comment < after for comment in comments(frames))


@both_lanes
@pytest.mark.parametrize(
    ("path", "event"), [(CHAT, ""), ("/v1/messages", "error"), ("/v1/responses", "response.failed")]
)
async def test_an_error_after_the_early_headers_is_the_dialects_own(
    running: House, upstream: Upstream, way: str, path: str, event: str
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.never_answer(), times=None)
    body = asking(model, penstock=HASTY)
    if path == "/v1/responses":
        body = {"model": model, "input": "Hello", "stream": True, "penstock": HASTY}
    status, _, frames, _ = await stream(replica, path, body)
    assert status == 200
    assert len(comments(frames)) == len(frames) - 1
    assert b"no first output within 0.6 s" in frames[-1].data
    assert frames[-1].event == event
    [line] = lines(running, replica)
    assert (line["result"], line["status"], line["caller"]) == ("timeout", 504, "patient")


async def test_retries_and_fallback_go_on_behind_it(running: House, upstream: Upstream) -> None:
    replica, model = lane(running, "routed")
    faults = [replace(Fault.unavailable(), delay_headers=0.15), Fault.never_answer()]
    upstream.plan("m", *faults)
    _, _, frames, _ = await stream(replica, CHAT, asking(model, models=["simulator/fast"], penstock=HASTY))
    assert len(upstream.requests) == 2
    assert comments(frames)
    assert frames[-1].data == b"[DONE]"
    assert b'"error"' not in b"".join(frame.data for frame in frames)
    assert lines(running, replica)[0]["provider"] == "simulator"


@both_lanes
async def test_without_a_stream_nothing_changes(running: House, upstream: Upstream, way: str) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", replace(Fault.rate_limited(3600.0), delay_headers=0.25))
    async with await Caller.connect(url_of(replica)) as caller:
        head = await caller.post(CHAT, {**asking(model), "stream": False}, headers=AUTHORIZED)
        assert head.status == 429
        assert "error" in json.loads(await caller.body())


@both_lanes
async def test_leaving_during_the_wait_is_noticed_at_once(running: House, upstream: Upstream, way: str) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.never_answer())
    async with await Caller.connect(url_of(replica)) as caller:
        await caller.post(CHAT, asking(model), headers=AUTHORIZED)
        assert await caller.frame()
    await upstream.wait_closed(upstream.requests[-1].connection)
    await running.until(lambda: replica.front.visits == 0)
    assert [line["result"] for line in lines(running, replica)] == ["cancelled"]


async def test_a_slow_reader_is_waited_for_and_gets_no_comment_meanwhile(running: House, upstream: Upstream) -> None:
    # So long that none is due while the stream flows, on a busy machine either.
    replica, model = lane(running, "direct", keep_alive=2.0)
    upstream.plan("m", Fault.without_end(word_size=5000), times=None)
    async with await Caller.connect(url_of(replica), receive_buffer=4096) as caller:
        await caller.post(CHAT, asking(model), headers=AUTHORIZED)
        await running.until(lambda: upstream.connections[-1].paused)
        await asyncio.sleep(4.5)
        assert upstream.connections[-1].paused
        read = [await caller.frame() for _ in range(200)]
    assert not any(frame and frame.raw == SPOKEN for frame in read)
    await upstream.wait_closed()


# The voice alone, where the turn of comments and frames matters.


class Socket:
    """An ASGI `send` whose peer reads when `open` is set."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, message: Any) -> None:
        await self.open.wait()
        self.sent.append(message.get("body", message["type"]))


def visit_to(peer: Socket) -> Visit:
    async def receive() -> Any:
        return await asyncio.Event().wait()

    return Visit({"method": "POST", "path": CHAT, "headers": []}, receive, peer, hop=False, behind_serve=False)


def test_a_comment_waits_for_the_frame_before_it_and_the_end_for_nobody() -> None:
    async def play() -> list[Any]:
        peer = Socket()
        async with KeepAlive(visit_to(peer), 2.0) as voice:
            await voice.begin(200, {})
            peer.open.clear()
            speaking = asyncio.create_task(voice.more(b"frame"))
            await asyncio.sleep(6.0)
            assert peer.sent == ["http.response.start"]
            peer.open.set()
            await speaking
            await voice.end(b"end")
            await asyncio.sleep(6.0)
        return peer.sent

    assert run(play()) == ["http.response.start", b"frame", b"end"]


def test_a_comment_that_nobody_reads_does_not_hold_up_the_end_of_the_visit() -> None:
    async def play() -> list[Any]:
        peer = Socket()
        async with KeepAlive(visit_to(peer), 2.0) as voice:
            await voice.begin(200, {})
            peer.open.clear()
            await asyncio.sleep(6.0)
        assert asyncio.get_running_loop().time() == 6.0
        return peer.sent

    assert run(play()) == ["http.response.start"]
