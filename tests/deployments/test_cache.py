"""The exact cache, end to end: the same request of the same key, and nobody else's."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.replaying.replays import Replays
from deployments.caching import _hit
from deployments.replica import Replica
from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Request
from tests.deployments.house import House, client_of, house
from tests.deployments.test_ledger import read
from tests.deployments.test_usage_pages import OTHER, add_key
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello"}]
CACHE = {"cache": {"ttl": 60}}

both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])
stream_or_not = pytest.mark.parametrize("stream", [True, False])


def lane(running: House, name: str) -> tuple[Replica, str]:
    return (running.gateway, "flaky/") if name == "routed" else (running.replicas[-1], "")


async def ask(client: httpx.AsyncClient, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "penstock": CACHE, **more}
    answer = await client.post(CHAT, json={name: value for name, value in body.items() if value is not None})
    await answer.aread()
    return answer


def asked(upstream: Upstream) -> int:
    """How often a model was asked."""
    return sum(seen.path.endswith("/chat/completions") for seen in upstream.requests)


async def kept(running: House, count: int) -> None:
    """Wait until so many answers are in the store: what is stored is stored behind the answer."""
    assert running.replays is not None
    register = running.replays._register
    await running.until(lambda: len(register._stored) == count, 30.0)


@both_lanes
@stream_or_not
async def test_the_same_request_is_answered_once(running: House, upstream: Upstream, way: str, stream: bool) -> None:
    replica, prefix = lane(running, way)
    upstream.plan("m", Fault.answer(5), times=None)
    async with client_of(replica) as client:
        more: dict[str, Any] = {"stream": stream, "temperature": 1.5}
        first = await ask(client, f"{prefix}m", **more)
        await kept(running, 1)
        second = await ask(client, f"{prefix}m", **more)
    assert [one.headers["x-penstock-cache"] for one in (first, second)] == ["miss", "hit"]
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert asked(upstream) == 1
    requests, attempts = await read(running)
    assert len(attempts) == 1
    told = [(row.outcome, row.bill.basis, row.bill.cost) for row in requests]
    assert told == [("ok", "unknown", None), ("ok", "cached", 0)]
    assert requests[1].provider == "flaky"
    if not stream:
        assert second.headers["x-penstock-cost"] == "0"


async def test_a_replayed_stream_says_that_it_cost_nothing(running: House) -> None:
    async with client_of(running.gateway) as client:
        more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        first = await ask(client, "simulator/fast", **more)
        await kept(running, 1)
        second = await ask(client, "simulator/fast", **more)
    assert second.headers["x-penstock-cache"] == "hit"
    (one, other) = (
        next(json.loads(line[5:]) for line in answer.text.splitlines() if '"usage":{' in line)["usage"]
        for answer in (first, second)
    )
    assert (one["cost"] > 0, other["cost"]) == (True, 0.0)
    assert {**one, "cost": 0.0} == other


DETAILS = {"upstream_inference_cost": 0.01}
STATED: list[tuple[str, dict[str, Any]]] = [
    ("openai_chat", {"usage": {"prompt_tokens": 10, "cost": 0.0123, "cost_details": DETAILS}}),
    ("openai_chat", {"usage": {"prompt_tokens": 10, "cost": None}}),
    ("openai_responses", {"usage": {"input_tokens": 10, "cost_in_usd_ticks": 123}, "penstock": {"cost": 0.5, "a": 1}}),
    ("anthropic_messages", {"usage": {"input_tokens": 10, "cost": 1}}),
]


@pytest.mark.parametrize(("dialect", "said"), STATED)
@stream_or_not
async def test_no_cost_of_then_is_stated_again(dialect: str, said: dict[str, Any], stream: bool) -> None:
    text = {"text": 'it says "cost": 3'}
    kept = Answer(headers={})
    body = json.dumps({**said, **text}).encode()
    if stream:
        ends = {
            "openai_chat": {**said, **text},
            "openai_responses": {"type": "response.completed", "response": {**said, **text}},
            "anthropic_messages": {"type": "message_delta", **said, **text},
        }

        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"data: " + json.dumps(ends[dialect]).encode() + b"\n\n"

        kept.frames = frames()
    else:
        kept.body = body
    hit = _hit(Call("i", dialect, {}, Request("m", ()), Caller("k"), "routed", {}), kept)
    if hit.frames is not None:
        (body,) = [data async for data in hit.frames]
        found = json.loads(body.removeprefix(b"data: "))
        found = found.get("response", found)
    else:
        found = json.loads(hit.body)
    assert found["text"] == text["text"]
    stated = [value for part in ("usage", "penstock") for name, value in found.get(part, {}).items() if "cost" in name]
    assert set(stated) <= {0.0}
    tokens = [value for name, value in found["usage"].items() if name.endswith("_tokens")]
    assert (tokens, found.get("penstock", {}).get("a", 1)) == ([10], 1)


async def test_a_whole_answer_without_a_cost_is_as_it_was() -> None:
    for body in (b'{"usage": {"prompt_tokens": 1.50}, "text": "\\"cost\\" of it"}', b'no JSON "cost"', b'["cost"]'):
        kept = Answer(headers={})
        kept.body = body
        call = Call("i", "openai_chat", {}, Request("m", ()), Caller("k"), "routed", {})
        assert _hit(call, kept).body == body


async def test_what_differs_is_asked_for(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.answer(5), times=None)
    other_key = client_of(running.gateway, OTHER)
    add_key(running.directory, "team", OTHER)
    async with client_of(running.gateway) as client, other_key as other:
        async with asyncio.timeout(30.0):
            while (await other.get("/v1/models")).status_code == 401:
                await asyncio.sleep(0.05)
        await ask(client, "flaky/m")
        await kept(running, 1)
        different = [
            await ask(other, "flaky/m"),
            await ask(client, "flaky/m", temperature=0.5),
            await ask(client, "flaky/m", stream=True),
            await ask(client, "flaky/m", penstock={"cache": {"ttl": 61}}),
        ]
        assert [one.headers["x-penstock-cache"] for one in different] == ["miss"] * 4
        off = [await ask(client, "flaky/m", penstock=value) for value in (None, {"cache": {"ttl": 0}})]
        assert not any("x-penstock-cache" in one.headers for one in off)
        assert asked(upstream) == 7
        reordered = {"penstock": CACHE, "messages": HELLO, "model": "flaky/m"}
        assert (await client.post(CHAT, json=reordered)).headers["x-penstock-cache"] == "hit"
        wrong = await ask(client, "flaky/m", penstock={"cache": {"ttl": 86_401}})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "penstock.cache.ttl")


@both_lanes
async def test_only_whole_good_answers_are_kept(running: House, upstream: Upstream, way: str) -> None:
    replica, prefix = lane(running, way)
    async with client_of(replica) as client:
        for fault, more in ((Fault.content_filter(), {}), (Fault.cut_off(3), {"stream": True})):
            upstream.plan("m", fault, Fault.answer(4))
            one = await ask(client, f"{prefix}m", **more)
            assert one.status_code != 200 or b"[DONE]" not in one.content
            other = await ask(client, f"{prefix}m", **more)
            assert (other.status_code, other.headers["x-penstock-cache"]) == (200, "miss")


async def test_without_the_store_the_provider_is_asked(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.answer(5), times=None)
    away, running.replays = running.replays, None
    running.gateway._replays._link = None
    async with client_of(running.gateway) as client:
        for _ in range(2):
            answer = await ask(client, "flaky/m")
            assert (answer.status_code, answer.headers["x-penstock-cache"]) == (200, "miss")
    running.replays = away
    assert asked(upstream) == 2


async def test_an_answer_stands_as_long_as_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Time:
        now = 1_000_000.0

        def __call__(self) -> float:
            return self.now

    clock = Time()
    async with house(tmp_path, monkeypatch) as built:
        built.replays = replays = Replays(str(tmp_path), clock=clock)
        built.gateway._replays._link = None
        async with client_of(built.gateway) as client:
            words = []
            for step in (0, 59, 62):
                clock.now = 1_000_000.0 + step
                words.append((await ask(client, "simulator/fast")).headers["x-penstock-cache"])
                await kept(built, 1)
            assert words == ["miss", "hit", "miss"]
            clock.now += 120
            await replays.sweep()
            assert replays._file._opened().execute("SELECT count(*) FROM answers").fetchone() == (0,)


async def test_a_key_may_cache_all_of_its_requests(running: House) -> None:
    async with client_of(running.gateway) as client:
        made = await client.post("/v1/keys", json={"name": "cached", "cache": 300})
        if made.status_code == 404:
            pytest.skip("keys are not made over HTTP here")
        assert made.json()["cache"] == 300
    async with client_of(running.gateway, made.json()["secret"]) as holder:
        async with asyncio.timeout(30.0):
            while (await holder.get("/v1/models")).status_code == 401:
                await asyncio.sleep(0.05)
        first = await ask(holder, "simulator/fast", penstock=None)
        await kept(running, 1)
        second = await ask(holder, "simulator/fast", penstock=None)
        assert [one.headers["x-penstock-cache"] for one in (first, second)] == ["miss", "hit"]
