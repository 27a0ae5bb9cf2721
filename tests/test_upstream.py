"""The misbehaving upstream, the fake provider of the benchmarks and the raw caller, each against the others."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
import uvloop

from bench.answers import TOOL_CALLS
from tests.clients import BrokenBody, Caller, Frame, request_bytes
from tests.upstream import Fault, Upstream, UpstreamProcess, text_of
from tests.upstream.fault import Cut

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
WIRES = (CHAT, MESSAGES, "/v1/responses")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


def asking(model: str = "m", *, stream: bool = True, **more: Any) -> dict[str, Any]:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
    return body | ({"stream_options": {"include_usage": True}} if stream else {}) | more


def texts(frames: list[Frame]) -> str:
    """The text of a stream, on any of the three wires."""
    found = []
    for frame in frames:
        body = json.loads(frame.data) if frame.data.startswith(b"{") else {}
        found += [choice["delta"].get("content") or "" for choice in body.get("choices", ())]
        delta = body.get("delta")
        if body.get("type") in ("content_block_delta", "response.output_text.delta"):
            found.append(delta["text"] if isinstance(delta, dict) else delta)
    return "".join(found)


async def stream_of(upstream: Upstream, fault: Fault, path: str = CHAT) -> list[Frame]:
    upstream.plan("m", fault)
    async with await Caller.connect(upstream.url) as caller:
        assert (await caller.post(path, asking())).status == 200
        return await caller.frames()


async def body_of(upstream: Upstream, fault: Fault, path: str = CHAT) -> tuple[int, dict[str, str], Any]:
    upstream.plan("m", fault)
    async with await Caller.connect(upstream.url) as caller:
        head = await caller.post(path, asking(stream=False))
        return head.status, head.headers, json.loads(await caller.body())


@pytest.mark.parametrize("path", WIRES)
async def test_without_a_plan_a_stream_is_whole(upstream: Upstream, path: str) -> None:
    frames = await stream_of(upstream, Fault(), path)

    assert texts(frames) == text_of(Fault())
    endings = {CHAT: b"[DONE]", MESSAGES: b'{"type":"message_stop"}'}
    assert frames[-1].data == endings.get(path, frames[-1].data)
    assert b"usage" in b"".join(frame.data for frame in frames)


@pytest.mark.parametrize("path", WIRES)
async def test_without_a_plan_an_answer_is_whole(upstream: Upstream, path: str) -> None:
    status, headers, body = await body_of(upstream, Fault(), path)

    assert (status, headers["content-type"]) == (200, "application/json")
    assert text_of(Fault()) in json.dumps(body)


async def test_the_official_clients_read_the_answers(upstream: Upstream) -> None:
    import anthropic
    import openai

    async with openai.AsyncOpenAI(base_url=f"{upstream.url}/v1", api_key="k") as client:
        messages: Any = [{"role": "user", "content": "x"}]
        whole = await client.chat.completions.create(model="m", messages=messages)
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        response = await client.responses.create(model="m", input="x")
        async with client.responses.stream(model="m", input="x") as events:
            streamed = await events.get_final_response()
        models = [model.id async for model in client.models.list()]
    async with anthropic.AsyncAnthropic(base_url=upstream.url, api_key="k") as other:
        message = await other.messages.create(model="m", max_tokens=9, messages=messages)

    assert whole.choices[0].message.content == "".join(pieces) == response.output_text == text_of(Fault())
    assert streamed.output_text == text_of(Fault())
    assert models == list(upstream.models)
    assert [getattr(block, "text", "") for block in message.content] == [text_of(Fault())]


async def test_every_request_is_written_down(upstream: Upstream) -> None:
    async with httpx.AsyncClient(base_url=upstream.url) as client:
        await client.post(CHAT, json=asking("first", stream=False), headers={"X-Title": "t"})
        await client.post(MESSAGES, content=b"not json")

    first, second = upstream.requests
    assert (first.path, first.header("x-title"), first.body["model"]) == (CHAT, "t", "first")
    assert (second.path, second.body) == (MESSAGES, None)
    assert first.at <= second.at
    assert await upstream.wait_closed() >= second.at
    assert [(link.requests, link.by) for link in upstream.connections] == [(2, "peer")]


async def test_a_plan_holds_so_often_and_in_order(upstream: Upstream) -> None:
    upstream.plan("m", Fault.server_error(), Fault.unavailable(), times=2)
    upstream.plan(MESSAGES, Fault.overloaded(), times=None)

    async with httpx.AsyncClient(base_url=upstream.url) as client:
        statuses = [(await client.post(CHAT, json=asking(stream=False))).status_code for _ in range(5)]
        others = [(await client.post(MESSAGES, json=asking("o", stream=False))).status_code for _ in range(3)]

    assert statuses == [500, 500, 503, 503, 200]
    assert others == [529, 529, 529]


@pytest.mark.parametrize(
    ("fault", "status", "word"),
    [
        (Fault.rate_limited(), 429, "rate limit"),
        (Fault.server_error(), 500, "error"),
        (Fault.unavailable(), 503, "una"),
        (Fault.overloaded(), 529, "overloaded"),
        (Fault.context_too_long(), 400, "too long"),
        (Fault.content_filter(), 400, "content filter"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_an_error_is_said_as_the_provider_does(upstream: Upstream, fault: Fault, status: int, word: str) -> None:
    assert (await body_of(upstream, fault))[0] == status

    found, _, body = await body_of(upstream, fault, MESSAGES)
    assert (found, body["type"]) == (status, "error")
    assert word in body["error"]["message"].lower()


async def test_the_wait_comes_in_three_forms(upstream: Upstream) -> None:
    _, without, _ = await body_of(upstream, Fault.rate_limited())
    _, seconds, _ = await body_of(upstream, Fault.rate_limited(1.5))
    _, milliseconds, _ = await body_of(upstream, Fault.rate_limited(1.5, "milliseconds"))
    _, date, _ = await body_of(upstream, Fault.rate_limited(3600, "date"))

    assert "retry-after" not in without
    assert seconds["retry-after"] == "1.5"
    assert milliseconds["retry-after-ms"] == "1500"
    assert parsedate_to_datetime(date["retry-after"]).tzinfo is not None


async def test_a_prefill_is_refused_and_nothing_else(upstream: Upstream) -> None:
    upstream.plan("m", Fault.refuses_prefill(), times=None)
    prefilled = asking(stream=False, messages=[{"role": "assistant", "content": "As I"}])

    async with httpx.AsyncClient(base_url=upstream.url) as client:
        refused = await client.post(MESSAGES, json=prefilled)
        answered = await client.post(MESSAGES, json=asking(stream=False))

    assert (refused.status_code, answered.status_code) == (400, 200)
    assert "prefill" in refused.json()["error"]["message"]


@pytest.mark.parametrize("fault", [Fault.reset_before_headers(), Fault.close_before_headers()], ids=lambda f: f.name)
async def test_a_connection_that_ends_before_the_headers(upstream: Upstream, fault: Fault) -> None:
    upstream.plan("m", fault)
    async with await Caller.connect(upstream.url) as caller:
        with pytest.raises(BrokenBody) as broken:
            await caller.post(CHAT, asking())

    assert isinstance(broken.value.__cause__, ConnectionResetError) == (fault.instead == "reset")
    await upstream.wait_closed()
    assert upstream.connections[0].by == "us"


@pytest.mark.parametrize("cut", ["close", "half_close", "reset"])
@pytest.mark.parametrize("after", [0, 1, 8])
@pytest.mark.parametrize("path", WIRES)
async def test_a_stream_that_is_cut_gives_its_words_and_breaks(
    upstream: Upstream, path: str, after: int, cut: Cut
) -> None:
    upstream.plan("m", Fault.cut_off(after, cut))
    frames: list[Frame] = []
    async with await Caller.connect(upstream.url) as caller:
        await caller.post(path, asking())
        with pytest.raises(BrokenBody) as broken:
            await caller.frames(frames)

    assert texts(frames) == text_of(Fault(words=after))
    assert isinstance(broken.value.__cause__, ConnectionResetError) == (cut == "reset")


async def test_a_clean_cut_looks_whole_to_http(upstream: Upstream) -> None:
    frames = await stream_of(upstream, Fault.cut_off(3, "clean"))

    assert texts(frames) == text_of(Fault(words=3))
    assert b'finish_reason":"stop' not in frames[-1].data


async def test_an_answer_that_is_cut_falls_short_of_its_length(upstream: Upstream) -> None:
    with pytest.raises(BrokenBody):
        await body_of(upstream, Fault.cut_off(3))


@pytest.mark.parametrize("fault", [Fault.never_answer(), Fault.stall(2), Fault.silence(3600)], ids=lambda f: f.name)
async def test_silence_lasts_until_the_caller_goes(upstream: Upstream, fault: Fault) -> None:
    upstream.plan("m", fault)
    caller = await Caller.connect(upstream.url)
    await caller.request("POST", CHAT, asking())
    await upstream.wait_requests(1)
    assert upstream.open_connections == 1

    before = asyncio.get_running_loop().time()
    caller.reset()
    assert await upstream.wait_closed(1) >= before

    assert (upstream.open_connections, upstream.connections[0].by) == (0, "peer")


async def test_pings_break_the_silence(upstream: Upstream) -> None:
    upstream.plan("m", Fault.silence(0.1, ping=0.02), Fault.stall(1, ping=0.01))
    async with await Caller.connect(upstream.url) as caller:
        await caller.post(CHAT, asking())
        frames = await caller.frames()
        await caller.post(MESSAGES, asking())
        last = [await caller.frame() for _ in range(8)]

    assert [frame.raw[:1] for frame in frames[:4]] == [b":"] * 4
    assert texts(frames) == text_of(Fault())
    assert {frame.event for frame in last[-4:] if frame} == {"ping"}


@pytest.mark.parametrize("path", WIRES)
async def test_an_error_inside_a_stream(upstream: Upstream, path: str) -> None:
    frames = await stream_of(upstream, Fault.error_inside(2), path)

    assert texts(frames) == text_of(Fault(words=2))
    assert b"verloaded" in frames[-1].data


async def test_spoilt_frames_and_chunks(upstream: Upstream) -> None:
    frames = await stream_of(upstream, Fault.malformed())
    assert texts([frame for frame in frames if not frame.data.endswith(b"choi")]) == text_of(Fault())
    assert sum(frame.data.endswith(b"choi") for frame in frames) == 1

    with pytest.raises(BrokenBody, match="no chunk size"):
        await stream_of(upstream, Fault.broken_chunk())


async def test_the_sentinel_is_said_as_often_as_planned(upstream: Upstream) -> None:
    for times in (0, 1, 2):
        frames = await stream_of(upstream, Fault.sentinel(times))
        assert sum(frame.data == b"[DONE]" for frame in frames) == times


@pytest.mark.parametrize("path", WIRES)
async def test_usage_can_be_missing_or_zero(upstream: Upstream, path: str) -> None:
    none = json.dumps((await body_of(upstream, Fault.no_usage(), path))[2].get("usage"))
    zero = (await body_of(upstream, Fault.zero_usage(), path))[2]["usage"]

    assert none == "null"
    assert 0 in zero.values()
    assert not any(value for value in zero.values() if isinstance(value, int))
    streamed = b"".join(frame.data for frame in await stream_of(upstream, Fault.no_usage(), path))
    assert b"_tokens" not in streamed


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_two_tool_calls_come_in_turns(upstream: Upstream, path: str) -> None:
    frames = await stream_of(upstream, Fault.interleaved_tools(), path)
    arguments, order = {0: "", 1: ""}, []
    for body in (json.loads(frame.data) for frame in frames if frame.data.startswith(b"{")):
        calls = [call for choice in body.get("choices", ()) for call in choice["delta"].get("tool_calls", ())]
        pieces = [(call["index"], call["function"]["arguments"]) for call in calls]
        if body.get("type") == "content_block_delta":
            pieces = [(body["index"], body["delta"]["partial_json"])]
        for index, piece in pieces:
            arguments[index] += piece
            order += [index] if piece else []

    assert order == [0, 1, 0, 1, 0, 1]
    assert list(arguments.values()) == [call[2] for call in TOOL_CALLS]
    assert TOOL_CALLS[0][1] in json.dumps((await body_of(upstream, Fault.interleaved_tools(), path))[2])


async def test_a_long_line_has_its_length(upstream: Upstream) -> None:
    frames = await stream_of(upstream, Fault.long_line(3 * 2**20))

    assert max(len(frame.raw) for frame in frames) > 3 * 2**20
    assert len(texts(frames)) == 3 * 2**20


async def test_a_gzip_bomb_is_small_and_unpacks_to_an_answer(upstream: Upstream) -> None:
    upstream.plan("m", Fault.gzip_bomb(2**24), times=2)
    async with await Caller.connect(upstream.url) as caller:
        head = await caller.post(CHAT, asking(stream=False))
        packed = await caller.body()
        await caller.post(CHAT, asking())
        streamed = zlib.decompress(await caller.body(), 31)

    assert head.headers["content-encoding"] == "gzip"
    assert len(packed) < 2**16
    unpacked = zlib.decompress(packed, 31)
    assert len(unpacked) > 2**24
    assert json.loads(unpacked)["choices"][0]["message"]["content"] == text_of(Fault())
    assert streamed.endswith(b"data: [DONE]\n\n")


async def test_a_reader_that_stops_stops_the_endless_stream(upstream: Upstream) -> None:
    upstream.plan("m", Fault.without_end(word_size=4096))
    async with await Caller.connect(upstream.url, receive_buffer=8192) as caller:
        await caller.post(CHAT, asking())
        await upstream.until(lambda: upstream.connections[0].paused)
        accepted = upstream.connections[0].accepted
        assert accepted < upstream.connections[0].sent
        while upstream.connections[0].accepted < 2 * accepted:
            assert await caller.frame()
        await upstream.until(lambda: upstream.connections[0].paused)
    await upstream.wait_closed()
    assert upstream.connections[0].reset


async def test_down_and_up_again_on_the_same_port(upstream: Upstream) -> None:
    await upstream.stop_listening()
    with pytest.raises(ConnectionRefusedError):
        await Caller.connect(upstream.url)

    await upstream.listen()
    assert (await body_of(upstream, Fault()))[0] == 200


async def test_a_body_that_ends_with_the_connection(upstream: Upstream) -> None:
    frames = await stream_of(upstream, Fault(framing="close"))

    assert texts(frames) == text_of(Fault())


async def test_pipelined_requests_are_answered_in_order(upstream: Upstream) -> None:
    upstream.plan("a", Fault.answer(3))
    async with await Caller.connect(upstream.url) as caller:
        for model in ("a", "b"):
            await caller.request("POST", CHAT, asking(model))
        answers = [texts(await caller.frames()) for _ in range(2) if await caller.head()]

    assert answers == [text_of(Fault(words=3)), text_of(Fault())]


async def test_a_caller_sends_many_headers_slowly(upstream: Upstream) -> None:
    body = json.dumps(asking(stream=False)).encode()
    headers = [(f"X-{i}", "v") for i in range(10_000)]
    async with await Caller.connect(upstream.url) as caller:
        raw = request_bytes("POST", CHAT, headers=headers, body=body)
        await caller.send(raw[:-20])
        assert await caller.send_slowly(raw[-20:], piece=5, gap=0.001) == 20
        assert (await caller.head()).status == 200

    assert len(upstream.requests[0].headers) == 10_002


def test_the_same_in_a_process_of_its_own() -> None:
    with UpstreamProcess() as process:
        process.plan("m", Fault.rate_limited(2))
        with httpx.Client(base_url=process.url) as client:
            statuses = [client.post(CHAT, json=asking(stream=False)).status_code for _ in range(2)]
        log = process.log()
        process.reset()

        assert statuses == [429, 200]
        assert [seen.fault for seen in log.requests] == ["rate_limited", "answer"]
        assert [link.requests for link in log.connections] == [2]
        assert process.log().requests == []


def test_the_same_on_uvloop() -> None:
    async def exchange() -> list[Frame]:
        async with Upstream() as upstream:
            frames = await stream_of(upstream, Fault(), MESSAGES)
            for cut in ("close", "half_close", "reset"):
                with pytest.raises(BrokenBody):
                    await stream_of(upstream, Fault.cut_off(2, cut))
            return frames

    assert texts(uvloop.run(exchange())) == text_of(Fault())
