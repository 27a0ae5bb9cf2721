"""A stream that breaks in its middle, end to end: gone on with by another candidate or the same one, or ended."""

import json
from typing import Any

import pytest

from deployments.replica import Replica
from tests.deployments.house import House, client_of
from tests.upstream import Fault, Upstream, text_of

HELLO: Any = [{"role": "user", "content": "Hello"}]
WHOLE = text_of(Fault.answer(words=24))


async def chat(replica: Replica, model: str, **more: Any) -> str:
    """The whole stream as text."""
    body = {"model": model, "messages": HELLO, "stream": True, "penstock": {"recovery": "continue"}, **more}
    async with client_of(replica) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


def said(stream: str) -> str:
    """The text that a stream says."""
    frames = [line[6:] for line in stream.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"].get("content") for f in frames for choice in json.loads(f).get("choices", [])]
    return "".join(filter(None, deltas))


@pytest.mark.parametrize("how", ["close", "reset", "clean", "error"])
@pytest.mark.parametrize("way", ["routed", "direct"])
async def test_a_broken_answer_is_made_whole(running: House, upstream: Upstream, way: str, how: Any) -> None:
    replica, prefix = (running.gateway, "flaky/") if way == "routed" else (running.replicas[-1], "")
    upstream.plan("m", Fault.cut_off(14, how, words=24), Fault.answer(words=24))
    stream = await chat(replica, f"{prefix}m")
    assert said(stream) == WHOLE
    assert '"recovered":{"attempts":2' in stream
    assert stream.rstrip().endswith("data: [DONE]")
    assert '"error"' not in stream
    assert len(upstream.requests) == 2
    quoted = upstream.requests[1].body["messages"]
    assert [message["role"] for message in quoted] == ["user", "user"]
    assert "penstock" not in upstream.requests[1].body


async def test_another_model_goes_on_first(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.cut_off(14, words=24))
    upstream.plan("other", Fault.answer(words=24))
    stream = await chat(running.gateway, "flaky/m", models=["flaky/other"])
    assert said(stream) == WHOLE
    assert '"model":"flaky/other"' in stream
    assert [request.body["model"] for request in upstream.requests] == ["m", "other"]


async def test_a_silent_provider_is_not_asked_to_go_on(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.stall(14), times=None)
    hasty = {"recovery": "continue", "timeouts": {"idle": 0.6}}
    stream = await chat(running.gateway, "flaky/m", penstock=hasty)
    assert '"error"' in stream
    assert "[DONE]" not in stream
    assert len(upstream.requests) == 1


async def test_a_different_answer_is_not_put_together(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.cut_off(14, words=24))
    stream = await chat(running.gateway, "flaky/m", models=["simulator/fast"])
    assert said(stream) == WHOLE[: len(said(stream))]
    assert '"error"' in stream
    assert "[DONE]" not in stream


async def test_without_leave_a_broken_answer_ends_with_its_error(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.cut_off(14, words=24))
    stream = await chat(running.gateway, "flaky/m", penstock={"recovery": "error"})
    assert '"error"' in stream
    assert "[DONE]" not in stream
    assert len(upstream.requests) == 1


async def test_both_attempts_are_accounted(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.cut_off(14, words=24), Fault.answer(words=24))
    await chat(running.gateway, "flaky/m")

    def counted() -> bool:
        entry = running.gateway.router.table.provider("flaky")
        performance = entry.performance.get("m") if entry is not None else None
        return performance is not None and performance.attempts == 2 and performance.error_rate > 0

    await running.until(counted)
    assert not running.gateway.router.in_flight
