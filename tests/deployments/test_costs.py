"""What an answer cost, told with it: a header, the last frame with the usage, a handle's dict."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from deployments.replica import Replica
from pipelines.dialects.sse import Framer, parse
from tests.deployments.house import House, client_of, house
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello, how are you?"}]
PROMPT, WORDS = 16, 10
PRICE = (PROMPT * 1.0 + WORDS * 3.0) / 1e6

both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> AsyncIterator[House]:
    async with house(tmp_path, monkeypatch) as built:
        await built.provider(
            kind="local",
            name="flaky",
            base_url=f"{upstream.url}/v1",
            models=[{"name": "m", "input_price": 1.0, "output_price": 3.0}],
            any_model=True,
            retry={"base": 0.01, "cap": 0.02},
        )
        await built.until(lambda: built.gateway.router.table.provider("flaky") is not None, 30.0)
        upstream.reset()
        upstream.plan("m", Fault.answer(WORDS), times=None)
        yield built


def lane(running: House, name: str) -> tuple[Replica, str]:
    return (running.gateway, "flaky/") if name == "routed" else (running.replicas[-1], "")


def frames(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(said) for raw in Framer().cut(data) if (said := parse(raw).data) not in (b"", b"[DONE]")]


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, **more}


@both_lanes
async def test_a_whole_answer_says_it_in_a_header(running: House, way: str) -> None:
    replica, prefix = lane(running, way)
    async with client_of(replica) as client:
        answer = await client.post(CHAT, json=body(f"{prefix}m"))
        assert float(answer.headers["x-penstock-cost"]) == PRICE
        assert "e" not in answer.headers["x-penstock-cost"]
        unknown = await client.post(CHAT, json=body(f"{prefix}unpriced"))
        assert "x-penstock-cost" not in unknown.headers
        failed = await client.post(CHAT, json=body(f"{prefix}m", n="no"))
        assert "x-penstock-cost" not in failed.headers


@both_lanes
async def test_a_repetition_costs_nothing(running: House, way: str) -> None:
    replica, prefix = lane(running, way)
    async with client_of(replica) as client:
        asked = {"json": body(f"{prefix}m"), "headers": {"idempotency-key": "once"}}
        costs = [(await client.post(CHAT, **asked)).headers["x-penstock-cost"] for _ in range(2)]  # type: ignore[arg-type]
    assert costs == [f"{PRICE:.6f}", "0"]


@both_lanes
async def test_a_stream_says_it_with_its_usage_and_is_else_as_it_came(
    running: House, upstream: Upstream, way: str
) -> None:
    replica, prefix = lane(running, way)
    async with client_of(replica) as client:

        async def streamed(model: str, **more: Any) -> bytes:
            return (await client.post(CHAT, json=body(prefix + model, stream=True, **more))).content

        wanted = {"stream_options": {"include_usage": True}}
        told = await streamed("m", **wanted)
        plain = await streamed("m")
        upstream.plan("unpriced", Fault.answer(WORDS), times=None)
        raw = await streamed("unpriced", **wanted)
    *content, last = frames(told)
    assert last["usage"]["cost"] == PRICE
    assert all("usage" not in chunk or chunk["usage"] is None for chunk in content)
    assert b"cost" not in plain
    assert b"cost" not in raw

    # Nothing else of a relayed stream is written anew.
    def before(data: bytes, model: bytes) -> list[bytes]:
        return [line for line in data.replace(model, b"m").split(b"\n\n") if b'"usage"' not in line]

    assert [line[:20] for line in before(told, b"m")] == [line[:20] for line in before(raw, b"unpriced")]
    for chunk in frames(told):
        TypeAdapter(ChatCompletionChunk).validate_python(chunk, strict=True)


@both_lanes
@pytest.mark.parametrize("model", ["m", "unpriced"])
async def test_other_dialects_say_it_in_a_member_of_ours(running: House, way: str, model: str) -> None:
    replica, prefix = lane(running, way)
    async with client_of(replica) as client:
        messages = await client.post(
            "/v1/messages", json=body(prefix + model, stream=True, max_tokens=50), headers={"anthropic-version": "1"}
        )
        responses = await client.post("/v1/responses", json={"model": prefix + model, "input": "Hello", "stream": True})
    (delta,) = (event for event in frames(messages.content) if event["type"] == "message_delta")
    (ended,) = (event for event in frames(responses.content) if event["type"] == "response.completed")
    if model == "m":
        assert delta["penstock"]["cost"] == PRICE
        assert ended["response"]["penstock"]["cost"] > 0
    else:
        assert delta["penstock"] == {"cost": None}
        assert ended["response"]["penstock"] == {"cost": None}
    for event in frames(messages.content):
        TypeAdapter(RawMessageStreamEvent).validate_python(event, strict=True)
    for event in frames(responses.content):
        TypeAdapter(ResponseStreamEvent).validate_python(event)


async def test_a_handle_s_answers_say_it_too(running: House) -> None:
    whole = await running.gateway.chat(body("flaky/m"))
    assert whole["usage"]["cost"] == PRICE
    unknown = await running.gateway.chat(body("flaky/unpriced"))
    assert unknown["usage"]["cost"] is None
    asked = body("flaky/m", stream_options={"include_usage": True})
    chunks = [chunk async for chunk in running.gateway.chat_stream(asked)]
    assert chunks[-1]["usage"]["cost"] == PRICE
